//! A moment on two clocks: the time of the wall clock is shown, and durations are computed from the monotonic one, so
//! that setting the host's clock affects no duration.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment on the wall clock and on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since the epoch.
    pub wall_ns: u64,
    /// The same on the monotonic clock.
    pub at: Instant,
}

impl Moment {
    /// Returns the current moment.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), at: Instant::now() }
    }

    /// Converts a time of the wall clock, relative to `now`. A future time counts as now.
    #[must_use]
    pub fn at_wall(wall_ns: u64, now: Self) -> Self {
        let age = Duration::from_nanos(now.wall_ns.saturating_sub(wall_ns));
        Self { wall_ns, at: now.at.checked_sub(age).unwrap_or(now.at) }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn wall_ms(self) -> u64 {
        self.wall_ns / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Moment;

    #[test]
    fn a_wall_time_keeps_its_age_on_the_monotonic_clock() {
        let now = Moment::now();
        let before = Moment::at_wall(now.wall_ns - 5_000_000_000, now);
        assert_eq!(now.at - before.at, Duration::from_secs(5));
        let to_come = Moment::at_wall(now.wall_ns + 5_000_000_000, now);
        assert_eq!((to_come.at, to_come.wall_ns), (now.at, now.wall_ns + 5_000_000_000));
        assert!(Moment::at_wall(0, now).at <= now.at);
    }
}
