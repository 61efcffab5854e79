//! Medians and percentiles of what was measured.

/// A measured series in three numbers, all in the unit of the series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) least: f64,
    pub(super) median: f64,
    /// The 99th percentile: of a hundred values, the second largest.
    pub(super) p99: f64,
}

impl Figures {
    pub(super) fn of(values: &[u64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let place = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(place).copied().map_or(f64::NAN, float)
        };
        Self { least: at(0), median: at(50), p99: at(99) }
    }
}

/// A measured number as a float.
#[expect(clippy::cast_precision_loss, reason = "no figure of ours has 2^52 units")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_middle_and_the_ends_of_a_series() {
        let values: Vec<u64> = (1..=101).rev().collect();
        assert_eq!(Figures::of(&values), Figures { least: 1.0, median: 51.0, p99: 100.0 });
        assert!(Figures::of(&[]).median.is_nan());
    }
}
