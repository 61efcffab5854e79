//! How long to wait before an engine that does not answer is asked again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Doubles from `first` to `greatest`; each wait is between half of that and all of it, so that the exporters of a
/// fleet do not return all at once.
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

    /// The next wait.
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
