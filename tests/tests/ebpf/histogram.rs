//! The histogram of one container's latencies as a scrape shows it, and what must be true of every such histogram.

use anyhow::{Context, Result, ensure};
use exporter_tests::Exposition;

const LATENCY: &str = "container_blkio_latency_seconds";

/// Latencies of one operation of one container, on all devices.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    pub(crate) count: f64,
    pub(crate) seconds: f64,
    /// The bound of a bucket, and how many were not slower.
    pub(crate) buckets: Vec<(f64, f64)>,
}

impl Latencies {
    /// None at all.
    pub(crate) fn none() -> Self {
        let bounds = (-16..=4).step_by(2).map(|power| 2_f64.powi(power)).chain([f64::INFINITY]);
        Self { count: 0.0, seconds: 0.0, buckets: bounds.map(|bound| (bound, 0.0)).collect() }
    }

    /// What a scrape says; all zero where the container has none yet.
    pub(crate) fn of(exposition: &Exposition, label: (&str, &str), operation: &str) -> Result<Self> {
        let labels = [label, ("operation", operation)];
        let buckets = exposition.select(&format!("{LATENCY}_bucket"), &labels);
        if buckets.is_empty() {
            return Ok(Self::none());
        }
        let buckets: Vec<(f64, f64)> = buckets
            .iter()
            .map(|bucket| {
                let bound = bucket.label("le");
                Ok((bound.replace("+Inf", "inf").parse().with_context(|| bound.to_owned())?, bucket.value))
            })
            .collect::<Result<_>>()?;
        let rises = buckets.is_sorted_by(|(bound, count), (next, more)| bound < next && count <= more);
        let bounds = |buckets: &[(f64, f64)]| buckets.iter().map(|(bound, _)| *bound).collect::<Vec<_>>();
        ensure!(rises && bounds(&buckets) == bounds(&Self::none().buckets), "{buckets:?}");
        let reported = Self {
            count: exposition.value(&format!("{LATENCY}_count"), &labels)?,
            seconds: exposition.value(&format!("{LATENCY}_sum"), &labels)?,
            buckets,
        };
        reported.check()?;
        Ok(reported)
    }

    /// Those that came after.
    pub(crate) fn since(&self, before: &Self) -> Result<Self> {
        let buckets = self.buckets.iter().zip(&before.buckets);
        let reported = Self {
            count: self.count - before.count,
            seconds: self.seconds - before.seconds,
            buckets: buckets.map(|((bound, count), (_, earlier))| (*bound, count - earlier)).collect(),
        };
        reported.check()?;
        Ok(reported)
    }

    /// The last bucket is everything, and the sum is one that latencies in these buckets can have: each is at most its
    /// bucket's bound, and above the one before.
    fn check(&self) -> Result<()> {
        let (mut least, mut most, mut below, mut bound_below) = (0.0, 0.0, 0.0, 0.0);
        for (bound, count) in &self.buckets {
            let own = count - below;
            ensure!(own >= 0.0, "{self:?}");
            if own > 0.0 {
                least += own * bound_below;
                most += own * bound;
            }
            (below, bound_below) = (*count, *bound);
        }
        // The comparison's own rounding: sums are exact to the nanosecond.
        let rounding = 1e-9 * (1.0 + self.count);
        ensure!((below - self.count).abs() < 0.5, "{below} in the last bucket: {self:?}");
        ensure!(
            least <= self.seconds + rounding && self.seconds <= most + rounding,
            "{} s are not between {least} and {most}: {self:?}",
            self.seconds
        );
        Ok(())
    }

    /// The bucket that such a part of them are in or below.
    pub(crate) fn part(&self, part: f64) -> Option<usize> {
        self.buckets.iter().position(|(_, count)| *count >= self.count * part)
    }

    /// The bucket that a latency belongs to.
    pub(crate) fn bucket(&self, seconds: f64) -> Option<usize> {
        self.buckets.iter().position(|(bound, _)| seconds <= *bound)
    }
}
