//! Time per collector.

use std::time::{Duration, Instant};

use super::files::open_files::Handle;
use crate::metrics::{Collector, CollectorSet, Own};

/// Groups of containers of which something is read again in different scrapes.
pub(super) const STAGGER_GROUPS: u32 = 16;

/// The group of a container.
pub(super) fn stagger_group(life: u64) -> u32 {
    u32::try_from(life % u64::from(STAGGER_GROUPS)).unwrap_or(0)
}

/// When in an interval a group reads again: in its second half.
pub(super) fn staggered(interval: Duration, group: u32) -> Duration {
    interval * (STAGGER_GROUPS + group) / (2 * STAGGER_GROUPS)
}

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

/// Ways of reading a container's files, the cheapest first.
const TIERS: [&str; 3] = ["snapshot", "kept", "opened"];

/// Containers by collector and tier.
#[derive(Debug, Default)]
pub(super) struct Tiers([[i64; TIERS.len()]; Collector::ALL.len()]);

/// The collectors that were served in each way, of one container.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ways([CollectorSet; TIERS.len()]);

impl Ways {
    /// A file was not read: its values came from a snapshot.
    pub(super) fn copied(&mut self, collectors: CollectorSet) {
        let [copied, ..] = &mut self.0;
        *copied = copied.union(collectors);
    }

    /// A file was read.
    pub(super) fn read(&mut self, collectors: CollectorSet, handle: &Handle) {
        let [_, kept, opened] = &mut self.0;
        let way = if matches!(handle, Handle::Reopened) { opened } else { kept };
        *way = way.union(collectors);
    }
}

impl Tiers {
    /// A container counts for the dearest way that any of a collector's files took.
    pub(super) fn count(&mut self, ways: Ways) {
        let [copied, kept, opened] = ways.0;
        for collector in copied.union(kept).union(opened).iter() {
            let tier = if opened.has(collector) { 2 } else { usize::from(kept.has(collector)) };
            if let Some(count) = self.0.get_mut(collector.index()).and_then(|tiers| tiers.get_mut(tier)) {
                *count += 1;
            }
        }
    }

    /// Tells, and begins anew.
    pub(super) fn publish(&mut self, own: &Own) {
        for (collector, counts) in Collector::ALL.iter().zip(std::mem::take(self).0) {
            if counts == [0; TIERS.len()] {
                continue;
            }
            for (tier, count) in TIERS.iter().zip(counts) {
                own.read_tier.with_label_values(&[collector.name(), tier]).set(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Handle, Tiers, Ways};
    use crate::metrics::{Collector, CollectorSet, Own};

    #[test]
    fn the_dearest_way_counts() {
        let set = |collector| CollectorSet::EMPTY.with(collector);
        let mut ways = Ways::default();
        ways.copied(set(Collector::Cpu).with(Collector::Memory));
        ways.read(set(Collector::Memory), &Handle::New);
        ways.read(set(Collector::Blkio), &Handle::Reopened);
        let own = Own::new().unwrap();
        let mut tiers = Tiers::default();
        tiers.count(ways);
        tiers.publish(&own);
        let told = |collector: &str, tier: &str| own.read_tier.with_label_values(&[collector, tier]).get();
        assert_eq!([told("cpu", "snapshot"), told("cpu", "kept")], [1, 0]);
        assert_eq!([told("memory", "snapshot"), told("memory", "kept"), told("blkio", "opened")], [0, 1, 1]);
    }
}
