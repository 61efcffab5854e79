//! The disk walker: a separate process that measures the disk usage of directories.
//!
//! The files of a container's layer belong to the users in the container, so listing the layer takes
//! `CAP_DAC_READ_SEARCH`. The sandbox takes this capability from the exporter. The exporter therefore starts its own
//! program a second time before it enters the sandbox, with the internal subcommand `disk-walker`. That process keeps
//! only this capability: Landlock lets it list directories below the engines' data roots, but neither read files nor
//! reach the network, and seccomp allows about thirty system calls. Paths go in and numbers come out over a socket pair.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | the exporter's end: starts the process, sends requests, receives events |
//! | `protocol` | the messages; each end validates every byte |
//! | `process` | the guard and the worker |
//! | `roots` | the engines' data roots: finds them and holds them open |
//! | `queue` | which walk is next, and how much CPU time it may take |
//! | `walk` | the measurement of one directory tree |
//!
//! **Why two processes.** The exporter cannot start a program once it is in the sandbox. The started process is
//! therefore a guard that only forks the worker, again with back-off whenever the worker ends. Both share one
//! confinement. If the guard is killed, the worker takes over its role. A newly executed program, unlike a fork of the
//! exporter, holds none of the exporter's memory, keys and descriptors, and has a single thread. Both processes end when
//! the exporter's end of the socket pair is closed, which the kernel does however the exporter ends.

mod process;
mod protocol;
mod queue;
mod roots;
mod walk;

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

pub use self::process::run;
pub use self::protocol::{Event, Failure, Request, are_valid, encode_requests};
use self::protocol::{MAX_MESSAGE, decode_events};
pub use self::roots::visible_roots;

/// The internal subcommand that runs this program as the disk walker.
pub const SUBCOMMAND: &str = "disk-walker";

/// A handle to a running walker. Clones share the walker, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Walker(Arc<Started>);

#[derive(Debug)]
struct Started {
    socket: OwnedFd,
    guard: u32,
    /// Process id of the most recent worker; 0 before the first one.
    worker: AtomicU32,
}

impl Walker {
    /// Starts the process. `engines` are the sockets of the engines that it asks for their data roots.
    ///
    /// # Errors
    /// The socket pair cannot be created, or the program cannot be started again.
    pub fn start<'a>(procfs: &Path, engines: impl Iterator<Item = &'a Path>) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("docker-stats-exporter").arg(SUBCOMMAND).arg(procfs).args(engines);
        // The walker needs no environment variables.
        command.env_clear().current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::null());
        // `reap` finds all of the walker's processes by this process group.
        command.process_group(0);
        let guard = command.spawn()?.id();
        Ok(Self::of(ours, guard))
    }

    /// Returns a handle to the process with id `guard` at the other end of `socket`.
    pub(crate) fn of(socket: OwnedFd, guard: u32) -> Self {
        Self(Arc::new(Started { socket, guard, worker: AtomicU32::new(0) }))
    }

    /// Returns the process id of the guard.
    #[must_use]
    pub fn guard(&self) -> u32 {
        self.0.guard
    }

    /// Reaps the processes of this walker that have ended, which would otherwise remain zombies. If the exporter is the
    /// init process, as in a container, workers become its children when the guard ends.
    pub fn reap(guard: u32) {
        let Some(group) = i32::try_from(guard).ok().and_then(Pid::from_raw) else { return };
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
    }

    /// Returns the process id of the most recent worker, from the last [`Event::Began`] that any clone has received.
    #[must_use]
    pub fn worker(&self) -> Option<u32> {
        Some(self.0.worker.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Sends a message without blocking. Returns false if the socket has no room for the message now.
    ///
    /// # Errors
    /// The walker has ended.
    pub fn send(&self, message: &[u8]) -> io::Result<bool> {
        match send(&self.0.socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the events of the next message without blocking, or `None` if no message has arrived. An invalid message
    /// has no events. The caller provides `buffer` so that its memory is reused.
    ///
    /// # Errors
    /// The walker has ended.
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
