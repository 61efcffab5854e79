//! The load average that cAdvisor's readers know: runnable threads, averaged over ten seconds.

use std::time::Duration;

/// Time constant in seconds: after it, 63 % of a change is included.
const PERIOD: f64 = 10.0;

/// An average of the number of threads that run or want to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadAverage(Option<f64>);

impl LoadAverage {
    /// Adds the current number of threads; the first number is the average.
    pub fn add(&mut self, threads: u64, since_last: Duration) {
        let threads = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        let before = self.0.unwrap_or(threads);
        let kept = (-since_last.as_secs_f64() / PERIOD).exp();
        self.0 = Some(before * kept + threads * (1.0 - kept));
    }

    /// Returns the average in thousandths, as cAdvisor exposes it.
    #[must_use]
    pub fn thousandths(self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and below 2^42")]
        self.0.map(|load| (load * 1000.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LoadAverage;

    #[test]
    fn the_first_number_is_the_average_and_others_go_in_over_ten_seconds() {
        let mut load = LoadAverage::default();
        assert_eq!(load.thousandths(), None);
        load.add(4, Duration::from_secs(100));
        assert_eq!(load.thousandths(), Some(4000));
        load.add(0, Duration::from_secs(10));
        assert_eq!(load.thousandths(), Some(1472));
        // Ten steps of a second are one of ten.
        let mut steps = LoadAverage::default();
        steps.add(4, Duration::ZERO);
        (0..10).for_each(|_| steps.add(0, Duration::from_secs(1)));
        assert_eq!(steps.thousandths(), load.thousandths());
        steps.add(3, Duration::from_hours(1));
        assert_eq!(steps.thousandths(), Some(3000));
    }
}
