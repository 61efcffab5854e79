//! State of one connection, since when, and until when it may stay in it.
//!
//! `connection` and `stream` report events; `connections` selects a connection to close; [`Connection::overdue`]
//! completes when the socket must be dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::limits::Limits;

/// A body that a connection keeps in memory. Equal for the shared body of scrapes that overlapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    address: usize,
    /// Bytes.
    pub(super) length: usize,
}

impl Held {
    pub(super) fn of(body: &Bytes) -> Self {
        Self { address: body.as_ptr().addr(), length: body.len() }
    }
}

/// State of a connection while no request is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// New, or in the middle of a request's header.
    Head,
    /// Between two requests.
    Idle,
    /// Our side is closed; bytes from the client are discarded.
    Closing,
    /// Has to be dropped; `reset` if an answer was being sent, so that the kernel drops it, too.
    Cut { reset: bool },
}

/// An answer that is being sent.
#[derive(Clone, Copy, Debug)]
struct Answering {
    id: u64,
    since: Instant,
    held: Held,
    /// hyper has taken the whole body: the next complete flush ends the answer.
    handed_over: bool,
}

#[derive(Debug)]
struct Activity {
    phase: Phase,
    since: Instant,
    /// Requests that are being answered: with HTTP/2 more than one.
    handling: usize,
    answers: Vec<Answering>,
    next: u64,
    /// HTTP/2: received bytes do not show whether a request has begun, nor does a flush show whose answer was sent.
    is_multiplexed: bool,
}

impl Activity {
    /// Enters a phase, unless the connection is already to be dropped.
    fn turn(&mut self, phase: Phase) {
        if !matches!(self.phase, Phase::Cut { .. }) {
            (self.phase, self.since) = (phase, Instant::now());
        }
    }

    fn is_busy(&self) -> bool {
        self.handling > 0 || !self.answers.is_empty()
    }

    /// Becomes idle if nothing is left to do.
    fn rest(&mut self) {
        if !self.is_busy() && matches!(self.phase, Phase::Head | Phase::Idle) {
            self.turn(Phase::Idle);
        }
    }
}

/// One open connection, shared by its socket, its service and its driver.
#[derive(Debug)]
pub(super) struct Connection {
    activity: Mutex<Activity>,
    changed: Notify,
    retired: Notify,
    limits: Limits,
}

impl Connection {
    pub(super) fn new(limits: Limits) -> Self {
        let activity = Activity {
            phase: Phase::Head,
            since: Instant::now(),
            handling: 0,
            answers: Vec::new(),
            next: 0,
            is_multiplexed: false,
        };
        Self { activity: Mutex::new(activity), changed: Notify::new(), retired: Notify::new(), limits }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        // No code panics while it holds this lock; if some did, the state would still be valid.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the task that checks deadlines.
    fn change<T>(&self, change: impl FnOnce(&mut Activity) -> T) -> T {
        let outcome = change(&mut self.activity());
        self.changed.notify_one();
        outcome
    }

    /// Records that the client speaks HTTP/2.
    pub(super) fn multiplexed(&self) {
        self.activity().is_multiplexed = true;
    }

    /// Records that bytes were received.
    pub(super) fn received(&self) {
        let mut activity = self.activity();
        if activity.phase == Phase::Idle && !activity.is_busy() && !activity.is_multiplexed {
            activity.turn(Phase::Head);
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Records that a request's header is complete.
    pub(super) fn handling(self: &Arc<Self>) -> Exchange {
        self.change(|activity| activity.handling += 1);
        Exchange { connection: Arc::clone(self), answer: None }
    }

    /// Records that the kernel has taken everything that was written.
    pub(super) fn flushed(&self) {
        let mut activity = self.activity();
        if activity.answers.iter().any(|answer| answer.handed_over) {
            activity.answers.retain(|answer| !answer.handed_over);
            activity.rest();
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Records that our side is being closed.
    pub(super) fn closing(&self) {
        let mut activity = self.activity();
        if activity.phase != Phase::Closing {
            activity.answers.clear();
            activity.turn(Phase::Closing);
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Tells the connection to close. Returns false if it was told before.
    pub(super) fn cut(&self) -> bool {
        self.change(|activity| {
            let first = !matches!(activity.phase, Phase::Cut { .. });
            let reset = !activity.answers.is_empty();
            activity.turn(Phase::Cut { reset });
            first
        })
    }

    /// Closes the connection after the pending answers.
    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Completes when the connection has to close after its pending answers.
    pub(super) async fn is_retired(&self) {
        self.retired.notified().await;
    }

    /// Returns since when no answer is pending, none if one is.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let activity = self.activity();
        let is_quiet = !activity.is_busy() && !matches!(activity.phase, Phase::Cut { .. });
        is_quiet.then_some(activity.since)
    }

    /// Returns since when each answer is being sent, and the body that it holds.
    pub(super) fn sending_since(&self) -> Vec<(Instant, Held)> {
        let activity = self.activity();
        let is_cut = matches!(activity.phase, Phase::Cut { .. });
        activity.answers.iter().filter(|_| !is_cut).map(|answer| (answer.since, answer.held)).collect()
    }

    #[cfg(test)]
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.activity().phase, Phase::Cut { .. })
    }

    /// Returns whether the kernel should drop the unsent rest, too.
    pub(super) fn is_to_be_reset(&self) -> bool {
        self.activity().phase == Phase::Cut { reset: true }
    }

    /// Returns when the present phase times out. Handling has no limit here, because the scrape has its own.
    fn deadline(&self) -> Option<Instant> {
        let activity = self.activity();
        let since = activity.since;
        match activity.phase {
            Phase::Cut { .. } => Some(since),
            Phase::Closing => Some(since + self.limits.linger),
            _ if activity.is_busy() => {
                activity.answers.iter().map(|answer| answer.since).min().map(|since| since + self.limits.send)
            }
            Phase::Head => Some(since + self.limits.head),
            Phase::Idle => Some(since + self.limits.idle),
        }
    }

    /// Completes when the connection must be dropped: it was cut, or a phase timed out.
    pub(super) async fn overdue(&self) {
        loop {
            let changed = self.changed.notified();
            match self.deadline() {
                None => changed.await,
                Some(deadline) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(deadline) => {
                        self.cut();
                        return;
                    }
                },
            }
        }
    }
}

/// One request and its answer. Dropped when hyper has taken or dropped the whole answer.
#[derive(Debug)]
pub(super) struct Exchange {
    connection: Arc<Connection>,
    answer: Option<u64>,
}

impl Exchange {
    /// Records that the answer is complete and is being sent.
    pub(super) fn sending(&mut self, body: &Bytes) {
        self.answer = self.connection.change(|activity| {
            activity.handling = activity.handling.saturating_sub(1);
            let id = activity.next;
            activity.next += 1;
            activity.answers.push(Answering { id, since: Instant::now(), held: Held::of(body), handed_over: false });
            Some(id)
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.change(|activity| match self.answer {
            None => {
                activity.handling = activity.handling.saturating_sub(1);
                activity.rest();
            }
            // With HTTP/2 the body exists until it is written, and a flush is of all answers.
            Some(id) if activity.is_multiplexed => {
                activity.answers.retain(|answer| answer.id != id);
                activity.rest();
            }
            Some(id) => {
                for answer in activity.answers.iter_mut().filter(|answer| answer.id == id) {
                    answer.handed_over = true;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(Limits::for_requests(40)))
    }

    #[test]
    fn an_answer_has_left_only_when_all_of_it_was_flushed() {
        let connection = connection();
        let mut exchange = connection.handling();
        exchange.sending(&Bytes::from_static(b"x"));
        connection.flushed();
        assert!(connection.quiet_since().is_none());
        drop(exchange);
        connection.flushed();
        assert!(connection.quiet_since().is_some());
    }

    #[test]
    fn every_phase_but_handling_has_its_deadline() {
        let limits = Limits::for_requests(40);
        let connection = connection();
        let lasts = || connection.deadline().map(|deadline| (deadline - connection.activity().since).as_secs());
        assert_eq!(lasts(), Some(limits.head.as_secs()));
        let mut exchange = connection.handling();
        assert_eq!(lasts(), None);
        exchange.sending(&Bytes::new());
        assert_eq!(lasts(), Some(limits.send.as_secs()));
        drop(exchange);
        connection.flushed();
        assert_eq!(lasts(), Some(limits.idle.as_secs()));
        connection.received();
        assert_eq!(lasts(), Some(limits.head.as_secs()));
        connection.closing();
        assert_eq!(lasts(), Some(limits.linger.as_secs()));
    }

    #[test]
    fn of_many_streams_the_oldest_answer_sets_the_deadline() {
        let connection = connection();
        connection.multiplexed();
        let (mut first, mut second) = (connection.handling(), connection.handling());
        first.sending(&Bytes::from_static(b"x"));
        let deadline = connection.deadline();
        second.sending(&Bytes::from_static(b"y"));
        assert_eq!((connection.deadline(), connection.sending_since().len()), (deadline, 2));
        drop(second);
        assert!(connection.quiet_since().is_none());
        drop(first);
        assert!(connection.quiet_since().is_some());
        let given_up = connection.handling();
        drop(given_up);
        // Frames between requests do not begin one.
        connection.received();
        assert!(connection.deadline() > deadline);
    }
}
