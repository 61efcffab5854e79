//! How long the exporter waits for an engine, and before it asks one again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// All time limits, together so that tests can have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For the first byte of an answer, and then for each further piece.
    pub(super) call: Duration,
    /// For the first byte of the full list, which takes an engine with thousands of containers seconds to make.
    pub(super) list: Duration,
    /// For an answer as a whole, from its head to its end.
    pub(super) whole: Duration,
    /// Silence after which the engine is asked for a sign of life.
    pub(super) heartbeat: Duration,
    /// For what the engine says of its host, before the first list is asked for without it.
    pub(super) info: Duration,
    /// For the subscription to events to stand before the list is asked for without it.
    pub(super) subscribe: Duration,
    /// Time between two lists while no subscription stands.
    pub(super) poll: Duration,
    /// How long a scrape may know more than the engine has reported before the engine is asked, and the shortest time
    /// between two lists for that reason.
    pub(super) doubt: (Duration, Duration),
    /// Shortest and longest wait before the next attempt to reach an engine that is down.
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

/// Waits before an engine that does not answer is asked again: they double from `first` to `greatest`. Each is shortened at
/// random by up to half, so that the exporters of a fleet do not return all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    greatest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, greatest: Duration) -> Self {
        Self { first, greatest, next: first }
    }

    /// Returns the next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.greatest);
        let half = wait / 2;
        half + half.mul_f64(random())
    }

    /// The engine has answered for a while: start again from the shortest wait.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// In `0.0..1.0`. The seed of the standard library's maps is random enough to spread a fleet.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

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
}
