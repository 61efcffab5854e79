//! Time per collector.

use std::time::{Duration, Instant};

use crate::metrics::{Collector, CollectorSet};

/// Time per collector, and who did not finish.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    spent: [Duration; Collector::ALL.len()],
    failed: CollectorSet,
}

impl Timing {
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

    /// Collectors that did not read all they wanted.
    pub fn fail(&mut self, collectors: CollectorSet) {
        self.failed = self.failed.union(collectors);
    }
}

/// Adds the time since `clock` to a collector, and starts the clock anew.
pub(super) fn lap(clock: &mut Instant, collector: Collector, timing: &mut Timing) {
    let now = Instant::now();
    timing.add(collector, now.duration_since(*clock));
    *clock = now;
}
