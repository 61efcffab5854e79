//! How long to wait for an engine, when to ask an engine that does not answer again, and what to log of an outage.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::error::Error;

/// How long to wait for an engine, and when to ask again. Tests have shorter times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Time for the first byte of an answer, and for each further chunk.
    pub(super) call: Duration,
    /// Time for the first byte of the full list, which an engine with thousands of containers takes seconds to make.
    pub(super) list: Duration,
    /// Time for the whole body of an answer.
    pub(super) whole: Duration,
    /// Time without an answer or event after which a heartbeat is sent.
    pub(super) heartbeat: Duration,
    /// Time for the report on the host, before the first list is requested without it.
    pub(super) info: Duration,
    /// Time for the subscription to events to become active, before the list is requested without it.
    pub(super) subscribe: Duration,
    /// Time between two lists while no subscription is active.
    pub(super) poll: Duration,
    /// How long a doubt must last before it causes a list, and the minimum time between two such lists.
    pub(super) doubt: (Duration, Duration),
    /// Minimum and maximum wait before the next attempt to reach an engine that is down.
    pub(super) backoff: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(5),
            list: Duration::from_secs(20),
            whole: Duration::from_mins(1),
            heartbeat: Duration::from_secs(3),
            info: Duration::from_secs(1),
            subscribe: Duration::from_millis(250),
            poll: Duration::from_secs(10),
            doubt: (Duration::from_secs(1), Duration::from_secs(2)),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}

/// The waits between attempts to reach an engine. They double from `min` to `max`. Each is shortened at random by up to
/// half, so that the exporters of a fleet do not all return at once.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// Returns the next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        let half = wait / 2;
        half + half.mul_f64(random())
    }

    /// Starts again from the shortest wait, because the engine has answered for a while.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// Returns a random number in `0.0..1.0`. The seed of the standard library's maps is random enough for this purpose.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// The cause of a failure: the variant of the error, and the HTTP status.
type Cause = (Discriminant<Error>, Option<u16>);

/// A period without an answer of the engine, and the causes of it that were logged.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    last: Option<Cause>,
    logged: Vec<Cause>,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: None, logged: Vec::new() }
    }

    /// Returns whether to log this cause: it is the first one, or it has occurred twice in a row and was not logged
    /// yet.
    pub(super) fn should_log(&mut self, error: &Error) -> bool {
        let cause = (discriminant(error), error.status());
        let lasts = self.logged.is_empty() || self.last == Some(cause);
        self.last = Some(cause);
        let is_new = lasts && !self.logged.contains(&cause);
        if is_new {
            self.logged.push(cause);
        }
        is_new
    }

    /// Returns whether any cause has been logged.
    pub(super) fn is_logged(&self) -> bool {
        !self.logged.is_empty()
    }

    /// Returns how long the outage has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Topics that are logged once.
#[derive(Debug, Default)]
pub(super) struct Logged(Vec<&'static str>);

impl Logged {
    /// Returns whether this is the first time for `topic`.
    pub(super) fn first(&mut self, topic: &'static str) -> bool {
        let first = !self.0.contains(&topic);
        if first {
            self.0.push(topic);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Error, Outage};

    #[test]
    fn waits_double_with_jitter_up_to_the_greatest() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.next().as_secs_f64();
            assert!((expected / 2.0..=expected).contains(&wait), "{wait} for {expected}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(500));
    }

    #[test]
    fn two_exporters_do_not_wait_alike() {
        let wait = || Backoff::new(Duration::from_secs(30), Duration::from_secs(30)).next();
        assert!((0..10).any(|_| wait() != wait()));
    }

    #[test]
    fn the_first_cause_and_each_lasting_one_are_logged_once() {
        let (engine, request) = ("unix:///run/docker.sock".to_owned(), "/version".to_owned());
        let closed = Error::Closed { engine: engine.clone(), request: request.clone() };
        let refused = Error::Refused { engine: engine.clone() };
        let status =
            |code| Error::Status { engine: engine.clone(), request: request.clone(), code, message: String::new() };
        let mut outage = Outage::new();
        let causes =
            [&closed, &refused, &closed, &refused, &refused, &refused, &status(502), &status(503), &status(503)];
        let logged = causes.map(|cause| outage.should_log(cause));
        assert_eq!(logged, [true, false, false, false, true, false, false, false, true]);
    }
}
