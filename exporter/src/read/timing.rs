//! Time per collector.

use std::time::{Duration, Instant};

use crate::metrics::{Collector, CollectorSet};

/// Time per collector, and who did not finish.
#[derive(Clone, Debug)]
pub struct Timing {
    spent: [Duration; Collector::ALL.len()],
    failed: CollectorSet,
    /// When the clock was last looked at: what is done from then on is still nobody's.
    last: Instant,
}

impl Timing {
    /// Nobody has taken any time yet; the clock runs from now on.
    #[must_use]
    pub fn start() -> Self {
        Self { spent: Default::default(), failed: CollectorSet::EMPTY, last: Instant::now() }
    }

    /// Time that a collector took.
    #[must_use]
    pub fn spent(&self, collector: Collector) -> Duration {
        self.spent.get(collector.index()).copied().unwrap_or_default()
    }

    /// Whether a collector read all it wanted.
    #[must_use]
    pub fn success(&self, collector: Collector) -> bool {
        !self.failed.has(collector)
    }

    /// Whether any collector of a set did not.
    #[must_use]
    pub fn any_failed(&self, collectors: CollectorSet) -> bool {
        !self.failed.intersection(collectors).is_empty()
    }

    /// Adds to a collector's time.
    pub fn add(&mut self, collector: Collector, spent: Duration) {
        if let Some(total) = self.spent.get_mut(collector.index()) {
            *total += spent;
        }
    }

    /// The time since the clock was last looked at is a collector's. One look serves two that follow each other: per
    /// container and scrape there are a dozen.
    pub(super) fn lap(&mut self, collector: Collector) {
        let spent = self.since_last();
        self.add(collector, spent);
    }

    /// The same for what is done for several: each has an equal part. What is done for none is of no collector.
    pub(super) fn lap_for(&mut self, collectors: CollectorSet) {
        let share = self.since_last() / u32::try_from(collectors.iter().count()).unwrap_or(1).max(1);
        collectors.iter().for_each(|collector| self.add(collector, share));
    }

    /// When the clock was last looked at.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// What was done since the clock was last looked at is nobody's: the pass stood still.
    pub(super) fn resume(&mut self) {
        self.last = Instant::now();
    }

    fn since_last(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.last, now))
    }

    /// Collectors that did not read all they wanted.
    pub fn fail(&mut self, collectors: CollectorSet) {
        self.failed = self.failed.union(collectors);
    }
}
