//! Which way of reading served which containers, collector by collector: for our own metrics.

use super::file::Handle;
use crate::metrics::{Collector, CollectorSet, Own};

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
