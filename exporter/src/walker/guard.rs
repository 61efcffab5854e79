//! The process that `disk-walker` is: it confines itself, and then does nothing but keep a worker running.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketType, sockopt};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getpid, getrlimit, setrlimit, waitpid};
use rustix::thread::set_name;

use super::protocol::Event;
use super::roots::{Roots, data_roots};
use super::system::{fork, run_when_idle};
use super::worker::{Ended, work};
use crate::sandbox::{Confinement, confine_walker};

/// Memory for all walks: several times what their bounds come to. An allocation beyond it ends the worker, and the next one begins.
const MAX_DATA: u64 = 32 << 20;
/// Open directories of all walks.
const MAX_FILES: u64 = 1024;
/// Between the end of a worker and the next one, doubled each time.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_mins(1);

/// Walks for the exporter at the other end of standard input, until that is gone. The arguments are the paths of procfs and of
/// the engines' sockets.
///
/// # Errors
/// Nobody is at the other end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let exporter = io::stdin().as_fd().try_clone_to_owned()?;
    if sockopt::socket_type(&exporter).ok() != Some(SocketType::SEQPACKET) {
        return Err(io::Error::other("the exporter starts this command by itself; it is for nobody else"));
    }
    let mut paths = arguments.into_iter().map(PathBuf::from);
    let procfs = paths.next().unwrap_or_else(|| "/proc".into());
    let sockets: Vec<PathBuf> = paths.collect();
    let roots = Roots::open(&data_roots(&procfs, &sockets));
    lower_limit(Resource::Data, MAX_DATA);
    lower_limit(Resource::Nofile, MAX_FILES);
    _ = set_name(c"disk-walker");
    // Walking at an ordinary priority is better than not at all: the pace holds.
    _ = run_when_idle();
    let directories: Vec<_> = roots.descriptors().collect();
    let confinement = confine_walker(&directories);
    drop(directories);
    keep_working(exporter.as_fd(), &roots, confinement);
    Ok(())
}

fn lower_limit(resource: Resource, limit: u64) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let limit = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
    _ = setrlimit(resource, Rlimit { current: limit, maximum: limit });
}

/// Forks a worker whenever there is none, until the exporter is gone.
fn keep_working(exporter: BorrowedFd<'_>, roots: &Roots, confinement: Confinement) {
    let mut delay = FIRST_DELAY;
    loop {
        let start = Instant::now();
        // Whoever ends closes one end of it.
        match UnixStream::pair().and_then(|ends| Ok((ends, fork()?))) {
            Ok(((ours, theirs), None)) => {
                drop(ours);
                match work(exporter, theirs.as_fd(), roots, began(roots, confinement)) {
                    Ended::Exporter => return,
                    // From now on this is the guard.
                    Ended::Guard => continue,
                }
            }
            Ok(((ours, theirs), Some(worker))) => {
                drop(theirs);
                if is_exporter_gone(exporter, Some(ours.as_fd()), None) {
                    return;
                }
                reap(worker);
            }
            // The host has no process or memory to spare now, as when a worker has ended for want of it.
            Err(_) => {}
        }
        delay = if start.elapsed() > MAX_DELAY { FIRST_DELAY } else { delay };
        if is_exporter_gone(exporter, None, Some(delay)) {
            return;
        }
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// Waits until the exporter is gone, the worker is gone, or this time is over.
fn is_exporter_gone(exporter: BorrowedFd<'_>, worker: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> bool {
    let end = limit.map(|limit| Instant::now() + limit);
    let mut watched: Vec<_> =
        [exporter].into_iter().chain(worker).map(|end| PollFd::from_borrowed_fd(end, PollFlags::empty())).collect();
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        if poll(&mut watched, timeout.as_ref()).is_ok() {
            let is_gone = |watched: &PollFd<'_>| watched.revents().intersects(PollFlags::HUP | PollFlags::ERR);
            return watched.first().is_some_and(is_gone);
        }
    }
}

fn reap(worker: Pid) {
    while waitpid(Some(worker), WaitOptions::empty()).is_err_and(|error| error == rustix::io::Errno::INTR) {}
}

fn began(roots: &Roots, confinement: Confinement) -> Event {
    Event::Began {
        pid: getpid().as_raw_nonzero().get().unsigned_abs(),
        lists_all: confinement.lists_all,
        landlock: confinement.landlock,
        seccomp: confinement.seccomp,
        roots: u8::try_from(roots.len()).unwrap_or(u8::MAX),
    }
}
