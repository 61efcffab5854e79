//! What one connection is doing, since when, and until when it may go on with that.
//!
//! `connection` and `stream` report what happens to it; `connections` looks for one to cut; [`Connection::overdue`] says
//! when its socket must be dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// New, or in the middle of a request's header.
    Head,
    /// Between two requests.
    Idle,
    /// A request is being answered.
    Handling,
    /// The answer is on its way.
    Sending { held: Held },
    /// Our side is closed; what the client still sends is discarded.
    Closing,
    /// To be dropped; `reset` when an answer was on its way, so that the kernel forgets it too.
    Cut { reset: bool },
}

#[derive(Clone, Copy, Debug)]
struct Activity {
    phase: Phase,
    since: Instant,
    /// In [`Phase::Sending`]: hyper has taken the whole body, so that the next complete flush ends the answer.
    handed_over: bool,
}

/// One open connection, shared by its socket, its service and its driver.
#[derive(Debug)]
pub(super) struct Connection {
    activity: Mutex<Activity>,
    changed: Notify,
    limits: Limits,
}

impl Connection {
    pub(super) fn new(limits: Limits) -> Self {
        let activity = Activity { phase: Phase::Head, since: Instant::now(), handed_over: false };
        Self { activity: Mutex::new(activity), changed: Notify::new(), limits }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        // Nothing panics under this lock; if something did, what it guards would still be sound.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a phase, unless the connection is already to be dropped.
    fn turn(&self, activity: &mut Activity, phase: Phase) {
        if !matches!(activity.phase, Phase::Cut { .. }) {
            *activity = Activity { phase, since: Instant::now(), handed_over: false };
            self.changed.notify_one();
        }
    }

    /// Bytes came from the client.
    pub(super) fn received(&self) {
        let mut activity = self.activity();
        if activity.phase == Phase::Idle {
            self.turn(&mut activity, Phase::Head);
        }
    }

    /// A request's header is complete.
    pub(super) fn handling(&self) {
        self.turn(&mut self.activity(), Phase::Handling);
    }

    /// An answer is complete and has to get to the client.
    pub(super) fn sending(&self, body: &Bytes) {
        self.turn(&mut self.activity(), Phase::Sending { held: Held::of(body) });
    }

    /// hyper holds the whole body now.
    pub(super) fn handed_over(&self) {
        self.activity().handed_over = true;
    }

    /// All that was written is with the kernel.
    pub(super) fn flushed(&self) {
        let mut activity = self.activity();
        if matches!(activity.phase, Phase::Sending { .. }) && activity.handed_over {
            self.turn(&mut activity, Phase::Idle);
        }
    }

    /// Our side is being closed.
    pub(super) fn closing(&self) {
        let mut activity = self.activity();
        if activity.phase != Phase::Closing {
            self.turn(&mut activity, Phase::Closing);
        }
    }

    /// The connection is to be dropped now. False if that was so already.
    pub(super) fn cut(&self) -> bool {
        let mut activity = self.activity();
        let reset = matches!(activity.phase, Phase::Sending { .. });
        let first = !matches!(activity.phase, Phase::Cut { .. });
        self.turn(&mut activity, Phase::Cut { reset });
        first
    }

    /// Since when nobody has been waiting for an answer, if that is so.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let Activity { phase, since, .. } = *self.activity();
        matches!(phase, Phase::Head | Phase::Idle | Phase::Closing).then_some(since)
    }

    /// Since when an answer has been on its way, and what it holds, if that is so.
    pub(super) fn sending_since(&self) -> Option<(Instant, Held)> {
        let Activity { phase, since, .. } = *self.activity();
        if let Phase::Sending { held } = phase { Some((since, held)) } else { None }
    }

    #[cfg(test)]
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.activity().phase, Phase::Cut { .. })
    }

    /// Whether the kernel, too, should forget what the client has not taken.
    pub(super) fn is_to_be_reset(&self) -> bool {
        self.activity().phase == Phase::Cut { reset: true }
    }

    /// When the present phase has lasted too long. Handling has no limit here: the scrape has its own.
    fn deadline(&self) -> Option<Instant> {
        let Activity { phase, since, .. } = *self.activity();
        match phase {
            Phase::Head => Some(since + self.limits.head),
            Phase::Idle => Some(since + self.limits.idle),
            Phase::Handling => None,
            Phase::Sending { .. } => Some(since + self.limits.send),
            Phase::Closing => Some(since + self.limits.linger),
            Phase::Cut { .. } => Some(since),
        }
    }

    /// Done once the connection must be dropped: it was cut, or a phase has lasted too long.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_left_only_when_all_of_it_was_flushed() {
        let connection = Connection::new(Limits::for_requests(40));
        connection.handling();
        connection.sending(&Bytes::from_static(b"x"));
        connection.flushed();
        assert!(connection.quiet_since().is_none());
        connection.handed_over();
        connection.flushed();
        assert!(connection.quiet_since().is_some());
    }

    #[test]
    fn every_phase_but_handling_has_its_deadline() {
        let limits = Limits::for_requests(40);
        let connection = Connection::new(limits);
        let lasts = || connection.deadline().map(|deadline| deadline - connection.activity().since);
        assert_eq!(lasts(), Some(limits.head));
        connection.handling();
        assert_eq!(lasts(), None);
        connection.sending(&Bytes::new());
        assert_eq!(lasts(), Some(limits.send));
        connection.handed_over();
        connection.flushed();
        assert_eq!(lasts(), Some(limits.idle));
        connection.received();
        assert_eq!(lasts(), Some(limits.head));
        connection.closing();
        assert_eq!(lasts(), Some(limits.linger));
    }
}
