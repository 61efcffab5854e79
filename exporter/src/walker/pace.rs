//! How much CPU time walking may take: a hundredth of one CPU, with room for what was saved up.
//!
//! Half of what is saved up is for the time when there are walks of which nothing is known yet: so a new container of ordinary size has
//! its figure at once, whatever else is walked.

use std::time::{Duration, Instant};

/// A walk may run for a hundredth of the time.
const SHARE: u32 = 100;
/// What can be saved up: enough for 1,000 containers of 50 files.
const CAPACITY: Duration = Duration::from_millis(500);
/// What of it is kept for when there are first walks: enough for one of 20,000 files, several times.
const RESERVE: Duration = Duration::from_millis(250);

/// A bucket of CPU time. What was taken too much is owed.
#[derive(Debug)]
pub(super) struct Pace {
    saved: Duration,
    owed: Duration,
    filled: Instant,
}

impl Pace {
    /// Returns a full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { saved: CAPACITY, owed: Duration::ZERO, filled: now }
    }

    /// Returns how long a walk has to wait for its next slice.
    pub(super) fn wait(&mut self, has_first: bool, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.filled) / SHARE;
        self.filled = now;
        self.saved = (self.saved + gained.saturating_sub(self.owed)).min(CAPACITY);
        self.owed = self.owed.saturating_sub(gained);
        let floor = if has_first { Duration::ZERO } else { RESERVE };
        if self.saved > floor {
            Duration::ZERO
        } else {
            (floor.saturating_sub(self.saved) + self.owed).max(SMALLEST) * SHARE
        }
    }

    /// CPU time was taken.
    pub(super) fn take(&mut self, taken: Duration) {
        self.owed += taken.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(taken);
    }
}

/// Less than this is not worth waking up for.
const SMALLEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::{CAPACITY, Duration, Instant, Pace, RESERVE};

    #[test]
    fn what_is_saved_runs_at_once_and_then_a_hundredth() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let slice = Duration::from_millis(2);
        let (mut now, mut taken) = (start, Duration::ZERO);
        while now < start + Duration::from_mins(10) {
            let wait = pace.wait(true, now);
            now += wait;
            if wait.is_zero() {
                pace.take(slice);
                taken += slice;
                now += slice;
            }
        }
        let expected = CAPACITY + Duration::from_mins(10) / 100;
        assert!(taken + 2 * slice >= expected && taken <= expected + 2 * slice, "{taken:?}, expected {expected:?}");
    }

    #[test]
    fn first_walks_have_a_reserve() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.take(CAPACITY.saturating_sub(RESERVE));
        assert!(!pace.wait(false, start).is_zero() && pace.wait(true, start).is_zero());
        pace.take(RESERVE + Duration::from_millis(3));
        // Owed 3 ms, and another one saved up.
        assert!(pace.wait(true, start) >= Duration::from_millis(300));
        assert!(
            pace.wait(true, start + Duration::from_millis(301)).is_zero() || pace.wait(true, start).as_millis() <= 100
        );
        assert!(pace.wait(false, start + Duration::from_mins(10)).is_zero());
    }
}
