//! Tracks what one connection is doing, since when, and until when it may.
//!
//! `connection` and `socket` report events. `connections` reads the state to select a connection to close.
//! [`Connection::overdue`] completes when the socket must be dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::limits::Limits;

/// Identifies a body in memory. Scrapes that overlap share one body, whose value is then equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    address: usize,
    /// Size in bytes.
    pub(super) length: usize,
}

impl Held {
    pub(super) fn of(body: &Bytes) -> Self {
        Self { address: body.as_ptr().addr(), length: body.len() }
    }
}

/// What a connection does while no request is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is new, or receives a request's header.
    Head,
    /// It waits for the next request.
    Idle,
    /// Our side is closed, and bytes from the client are discarded.
    Closing,
    /// It has to be dropped. `reset` is true if an answer was being sent, which the kernel has to drop, too.
    Cut { reset: bool },
}

/// An answer that is being sent.
#[derive(Clone, Copy, Debug)]
struct Answering {
    id: u64,
    since: Instant,
    held: Held,
    /// Whether hyper has taken the whole body. Then the next complete flush ends the answer.
    handed_over: bool,
}

#[derive(Debug)]
struct Activity {
    phase: Phase,
    since: Instant,
    /// Number of requests whose answers are not complete yet. With HTTP/2 there may be several.
    handling: usize,
    answers: Vec<Answering>,
    /// Id of the next answer.
    next: u64,
    /// Whether the client speaks HTTP/2. Then received bytes do not show whether a request has begun, and a flush does not
    /// show which answer was sent.
    is_multiplexed: bool,
}

impl Activity {
    /// Enters a phase, unless the connection is already to be dropped.
    fn enter(&mut self, phase: Phase) {
        if !matches!(self.phase, Phase::Cut { .. }) {
            (self.phase, self.since) = (phase, Instant::now());
        }
    }

    fn is_busy(&self) -> bool {
        self.handling > 0 || !self.answers.is_empty()
    }

    /// Becomes idle if no answer is pending.
    fn settle(&mut self) {
        if !self.is_busy() && matches!(self.phase, Phase::Head | Phase::Idle) {
            self.enter(Phase::Idle);
        }
    }
}

/// One open connection, shared by its socket, its service and its driver.
#[derive(Debug)]
pub(super) struct Connection {
    activity: Mutex<Activity>,
    /// Notified when the deadline may have changed.
    changed: Notify,
    /// Notified when the connection has to close after its pending answers.
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
        // No code panics while it holds this lock.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the task that waits for the deadline.
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
            activity.enter(Phase::Head);
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Records that a request's header is complete, and begins the exchange.
    pub(super) fn handling(self: &Arc<Self>) -> Exchange {
        self.change(|activity| activity.handling += 1);
        Exchange { connection: Arc::clone(self), answer: None }
    }

    /// Records that the kernel has taken everything that was written.
    pub(super) fn flushed(&self) {
        let mut activity = self.activity();
        if activity.answers.iter().any(|answer| answer.handed_over) {
            activity.answers.retain(|answer| !answer.handed_over);
            activity.settle();
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Records that our side is being closed.
    pub(super) fn closing(&self) {
        let mut activity = self.activity();
        if activity.phase != Phase::Closing {
            activity.answers.clear();
            activity.enter(Phase::Closing);
            drop(activity);
            self.changed.notify_one();
        }
    }

    /// Makes the connection close at once. Returns false if it was already to close.
    pub(super) fn cut(&self) -> bool {
        self.change(|activity| {
            let first = !matches!(activity.phase, Phase::Cut { .. });
            let reset = !activity.answers.is_empty();
            activity.enter(Phase::Cut { reset });
            first
        })
    }

    /// Makes the connection close after its pending answers.
    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Completes when the connection has to close after its pending answers.
    pub(super) async fn is_retired(&self) {
        self.retired.notified().await;
    }

    /// Returns since when no answer is pending; none if one is.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let activity = self.activity();
        let is_quiet = !activity.is_busy() && !matches!(activity.phase, Phase::Cut { .. });
        is_quiet.then_some(activity.since)
    }

    /// Returns the start and the body of each answer that is being sent.
    pub(super) fn sending_since(&self) -> Vec<(Instant, Held)> {
        let activity = self.activity();
        let is_cut = matches!(activity.phase, Phase::Cut { .. });
        activity.answers.iter().filter(|_| !is_cut).map(|answer| (answer.since, answer.held)).collect()
    }

    #[cfg(test)]
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.activity().phase, Phase::Cut { .. })
    }

    /// Returns whether the kernel has to drop the unsent rest of an answer.
    pub(super) fn is_to_be_reset(&self) -> bool {
        self.activity().phase == Phase::Cut { reset: true }
    }

    /// Returns when the current phase times out. Handling a request has no limit here, because the scrape has its own.
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

/// One request and its answer. It is dropped when hyper has taken or dropped the whole answer.
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
                activity.settle();
            }
            // With HTTP/2 hyper keeps the body until it is written.
            Some(id) if activity.is_multiplexed => {
                activity.answers.retain(|answer| answer.id != id);
                activity.settle();
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
        // Frames between requests do not begin a request.
        connection.received();
        assert!(connection.deadline() > deadline);
    }
}
