//! The worker: takes requests, walks slice by slice, and answers. It sleeps while there is nothing to do, and wherever the pace says so.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::time::{ClockId, clock_gettime};

use super::pace::Pace;
use super::protocol::{Event, Failure, MAX_MESSAGE, decode_requests, encode_events};
use super::queue::Queue;
use super::roots::Roots;

/// How long a walk goes on before the worker asks for what is new.
const SLICE: Duration = Duration::from_millis(2);

/// Why a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The exporter is gone.
    Exporter,
    /// The guard is gone.
    Guard,
}

/// Works until the exporter or the guard is gone. `began` is what is said first.
pub(super) fn work(exporter: BorrowedFd<'_>, guard: BorrowedFd<'_>, roots: &Roots, began: Event) -> Ended {
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

/// Waits for a message, for room where there is something to say, and no longer than the next slice is away. Tells who is gone.
fn wait_for(
    exporter: BorrowedFd<'_>,
    guard: BorrowedFd<'_>,
    wait: Option<Duration>,
    has_answers: bool,
) -> Option<Ended> {
    let wanted = if has_answers { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut watched = [PollFd::from_borrowed_fd(exporter, wanted), PollFd::from_borrowed_fd(guard, PollFlags::empty())];
    let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
    // An interruption is as good as a timeout.
    _ = poll(&mut watched, timeout.as_ref());
    let is_gone = |watched: &PollFd<'_>| watched.revents().intersects(PollFlags::HUP | PollFlags::ERR);
    let [exporter, guard] = &watched;
    match (is_gone(exporter), is_gone(guard)) {
        (true, _) => Some(Ended::Exporter),
        (_, true) => Some(Ended::Guard),
        _ => None,
    }
}

/// Takes in what has been sent. Returns whether the exporter is gone.
fn receive(exporter: BorrowedFd<'_>, buffer: &mut [u8], queue: &mut Queue, answers: &mut VecDeque<Event>) -> bool {
    loop {
        let length = match recv(exporter, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return true,
            Ok((_, length)) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        };
        // What is not valid is not answered.
        for request in buffer.get(..length).and_then(decode_requests).unwrap_or_default() {
            if let Err(request) = queue.push(request) {
                answers.push_back(Event::Measured { ticket: request.ticket, bytes: Err(Failure::Busy) });
            }
        }
    }
}

/// Sends what there is room for.
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
