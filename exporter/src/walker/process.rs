//! The two processes of `disk-walker`. The guard confines itself and then keeps a worker running; the worker measures
//! the requested directories.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send, sockopt};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getpid, getrlimit, setrlimit, waitpid};
use rustix::thread::set_name;
use rustix::time::{ClockId, clock_gettime};

use super::protocol::{Event, Failure, MAX_MESSAGE, decode_requests, encode_events};
use super::queue::{Pace, Queue};
use super::roots::{Roots, data_roots};
use crate::memory;
use crate::sandbox::{Confinement, confine_walker};

/// Limit of the worker's memory in bytes: several times the total of the bounds in `walk` and `queue`. An allocation
/// above it ends the worker, and the guard starts the next one.
const MAX_DATA: u64 = 32 << 20;
/// Limit of open files, which are mostly the open directories of all walks.
const MAX_FILES: u64 = 1024;
/// Delay between the end of a worker and the start of the next one. It doubles up to `MAX_DELAY`.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_mins(1);
/// How long a walk runs before the worker looks for new requests.
const SLICE: Duration = Duration::from_millis(2);

/// Serves the exporter at the other end of standard input until it has ended. The arguments are the paths of procfs and
/// of the engines' sockets.
///
/// # Errors
/// Standard input is not the socket of an exporter.
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
    // A walk at normal priority is acceptable, since `Pace` limits the CPU time.
    _ = run_when_idle();
    let directories: Vec<_> = roots.descriptors().collect();
    let confinement = confine_walker(&directories);
    drop(directories);
    memory::trim();
    keep_working(exporter.as_fd(), &roots, confinement);
    Ok(())
}

fn lower_limit(resource: Resource, limit: u64) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let limit = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
    _ = setrlimit(resource, Rlimit { current: limit, maximum: limit });
}

/// Keeps one worker running until the exporter has ended. Returns in the guard, and in a worker whose exporter has ended.
fn keep_working(exporter: BorrowedFd<'_>, roots: &Roots, confinement: Confinement) {
    let mut delay = FIRST_DELAY;
    loop {
        let start = Instant::now();
        // The end of either process closes its end of this pair, which the other one notices.
        match UnixStream::pair().and_then(|ends| Ok((ends, fork()?))) {
            Ok(((ours, theirs), None)) => {
                drop(ours);
                match work(exporter, theirs.as_fd(), roots, began(roots, confinement)) {
                    Ended::Exporter => return,
                    // This worker now takes over as the guard.
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
            // The host is short of processes or memory, so the next attempt follows after a delay.
            Err(_) => {}
        }
        delay = if start.elapsed() > MAX_DELAY { FIRST_DELAY } else { delay };
        if is_exporter_gone(exporter, None, Some(delay)) {
            return;
        }
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// Waits until the exporter or the worker has ended, or `limit` has passed. Returns whether the exporter has ended.
fn is_exporter_gone(exporter: BorrowedFd<'_>, worker: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> bool {
    let end = limit.map(|limit| Instant::now() + limit);
    let mut watched: Vec<_> =
        [exporter].into_iter().chain(worker).map(|end| PollFd::from_borrowed_fd(end, PollFlags::empty())).collect();
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        if poll(&mut watched, timeout.as_ref()).is_ok() {
            return watched.first().is_some_and(is_closed);
        }
    }
}

/// Returns whether the other end of a polled socket is closed.
fn is_closed(watched: &PollFd<'_>) -> bool {
    watched.revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn reap(worker: Pid) {
    while waitpid(Some(worker), WaitOptions::empty()).is_err_and(|error| error == Errno::INTR) {}
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

/// Which other process has ended, and with it the worker's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Exporter,
    Guard,
}

/// Measures requested directories slice by slice, until the exporter or the guard has ended. Sends `began` first. Sleeps
/// while there is no request and while the pace allows no slice.
fn work(exporter: BorrowedFd<'_>, guard: BorrowedFd<'_>, roots: &Roots, began: Event) -> Ended {
    let mut pace = Pace::new(Instant::now());
    let mut charged = cpu_time();
    let mut queue = Queue::default();
    let mut answers = VecDeque::from([began]);
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let now = cpu_time();
        pace.take(now.saturating_sub(charged));
        charged = now;
        let wait = queue.has_first().map(|has_first| pace.wait(has_first, Instant::now()));
        if let Some(ended) = wait_for(exporter, guard, wait, !answers.is_empty()) {
            return ended;
        }
        if receive(exporter, &mut buffer, &mut queue, &mut answers) {
            return Ended::Exporter;
        }
        if wait.is_some_and(|wait| wait.is_zero()) {
            let before = cpu_time();
            let answer = queue.advance(roots, SLICE, || cpu_time().saturating_sub(before));
            answers.extend(answer.map(|(ticket, bytes)| Event::Measured { ticket, bytes }));
        }
        answer(exporter, &mut answers);
    }
}

/// Waits for a request, for room to send answers if there are any, or until the next slice is due after `wait`. Returns
/// which process has ended, if any.
fn wait_for(
    exporter: BorrowedFd<'_>,
    guard: BorrowedFd<'_>,
    wait: Option<Duration>,
    has_answers: bool,
) -> Option<Ended> {
    let wanted = if has_answers { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut watched = [PollFd::from_borrowed_fd(exporter, wanted), PollFd::from_borrowed_fd(guard, PollFlags::empty())];
    let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
    // An interruption has the same effect as a timeout.
    _ = poll(&mut watched, timeout.as_ref());
    let [exporter, guard] = &watched;
    match (is_closed(exporter), is_closed(guard)) {
        (true, _) => Some(Ended::Exporter),
        (_, true) => Some(Ended::Guard),
        _ => None,
    }
}

/// Queues all requests that have arrived. Returns whether the exporter has ended.
fn receive(exporter: BorrowedFd<'_>, buffer: &mut [u8], queue: &mut Queue, answers: &mut VecDeque<Event>) -> bool {
    loop {
        let length = match recv(exporter, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return true,
            Ok((_, length)) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        };
        // An invalid message gets no answer.
        for request in buffer.get(..length).and_then(decode_requests).unwrap_or_default() {
            if let Err(request) = queue.push(request) {
                answers.push_back(Event::Measured { ticket: request.ticket, bytes: Err(Failure::Busy) });
            }
        }
    }
}

/// Sends as many answers as the socket has room for.
fn answer(exporter: BorrowedFd<'_>, answers: &mut VecDeque<Event>) {
    while !answers.is_empty() {
        let (message, count) = encode_events(answers.iter());
        if send(exporter.as_fd(), &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
            return;
        }
        answers.drain(..count);
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Forks this process. Returns the id of the child in the parent, and `None` in the child.
///
/// The process must have a single thread: the child would lack the other threads and never release their locks.
#[expect(unsafe_code, reason = "a fork has no safe form")]
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process only executes `run`, which never starts a thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Sets the scheduling class `SCHED_IDLE`: this process runs only when no other one wants the CPU. The kernel derives the
/// I/O class from it, so its I/O comes last, too.
#[expect(unsafe_code, reason = "setting a scheduling class has no safe form")]
fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads a structure that outlives the call. musl has no working `sched_setscheduler`.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const parameters) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
