//! The exporter's end of the walker: starts the process before the sandbox, and passes messages without ever waiting.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, WaitOptions, waitpgid};

use super::SUBCOMMAND;
use super::protocol::{Event, MAX_MESSAGE, decode_events};

/// A walker that has been started. Cloning shares it; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Walker(Arc<Started>);

#[derive(Debug)]
struct Started {
    socket: OwnedFd,
    guard: u32,
    /// Process id of the worker that has begun last; 0 before the first one.
    worker: AtomicU32,
}

impl Walker {
    /// Starts the process. The engines behind these sockets are asked where their data is.
    ///
    /// # Errors
    /// There is none to be had, or this program cannot be run again.
    pub fn start<'a>(procfs: &Path, engines: impl Iterator<Item = &'a Path>) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("docker-stats-exporter").arg(SUBCOMMAND).arg(procfs).args(engines);
        // Not one variable more than it needs, which is none.
        command.env_clear().current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::null());
        // All of its processes are known by this group.
        command.process_group(0);
        let guard = command.spawn()?.id();
        Ok(Self::of(ours, guard))
    }

    /// That of a process at the other end of this socket.
    pub(crate) fn of(socket: OwnedFd, guard: u32) -> Self {
        Self(Arc::new(Started { socket, guard, worker: AtomicU32::new(0) }))
    }

    /// Process id of the guard.
    #[must_use]
    pub fn guard(&self) -> u32 {
        self.0.guard
    }

    /// Releases those of its processes that have ended: until then they are zombies. Where the exporter is the first process, as in a
    /// container, workers are its children once the guard is gone.
    pub fn reap(guard: u32) {
        let Some(group) = i32::try_from(guard).ok().and_then(Pid::from_raw) else { return };
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
    }

    /// Process id of the worker that has begun last, whoever has received that it did.
    #[must_use]
    pub fn worker(&self) -> Option<u32> {
        Some(self.0.worker.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Sends a message. Returns false where there is no room for it now.
    ///
    /// # Errors
    /// The walker is gone.
    pub fn send(&self, message: &[u8]) -> io::Result<bool> {
        match send(&self.0.socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the events of the next message, where one has come; none that are not valid. `buffer` is memory that the
    /// caller keeps.
    ///
    /// # Errors
    /// The walker is gone.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<Vec<Event>>> {
        buffer.resize(MAX_MESSAGE, 0);
        match recv(&self.0.socket, &mut **buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok((_, length)) => {
                let events = buffer.get(..length).and_then(decode_events).unwrap_or_default();
                for event in &events {
                    if let Event::Began { pid, .. } = event {
                        self.0.worker.store(*pid, Ordering::Relaxed);
                    }
                }
                Ok(Some(events))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
