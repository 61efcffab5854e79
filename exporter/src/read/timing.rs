//! Time per collector and read paths, for the exporter's own metrics; and the staggering of rare readings.

use std::time::{Duration, Instant};

use super::files::open_files::FileState;
use crate::metrics::{Collector, CollectorSet, SelfMetrics};

/// Number of groups of containers. Their rare readings take place in different scrapes.
pub(super) const STAGGER_GROUPS: u32 = 16;

/// Returns the group of a container.
pub(super) fn stagger_group(generation: u64) -> u32 {
    u32::try_from(generation % u64::from(STAGGER_GROUPS)).unwrap_or(0)
}

/// Returns the time within an interval at which a group reads again, in the second half of the interval.
pub(super) fn staggered(interval: Duration, group: u32) -> Duration {
    interval * (STAGGER_GROUPS + group) / (2 * STAGGER_GROUPS)
}

/// Time per collector, and which collectors failed.
#[derive(Clone, Debug)]
pub struct Timing {
    spent: [Duration; Collector::ALL.len()],
    failed: CollectorSet,
    /// When the clock was last read: time since then is not attributed yet.
    last: Instant,
}

impl Timing {
    /// Starts the clock, with no time attributed.
    #[must_use]
    pub fn start() -> Self {
        Self { spent: Default::default(), failed: CollectorSet::EMPTY, last: Instant::now() }
    }

    /// Returns the time that a collector took.
    #[must_use]
    pub fn spent(&self, collector: Collector) -> Duration {
        self.spent.get(collector.index()).copied().unwrap_or_default()
    }

    /// Returns whether a collector read all it wanted.
    #[must_use]
    pub fn success(&self, collector: Collector) -> bool {
        !self.failed.has(collector)
    }

    /// Returns whether any collector of a set failed.
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

    /// Attributes the time since the last reading of the clock to a collector. One reading ends one span and begins the next,
    /// because there are a dozen spans per container and scrape.
    pub(super) fn attribute_time_to(&mut self, collector: Collector) {
        let spent = self.since_last();
        self.add(collector, spent);
    }

    /// Attributes the time since the last reading of the clock to several collectors in equal shares; to none if the set is empty.
    pub(super) fn share_time_among(&mut self, collectors: CollectorSet) {
        let share = self.since_last() / u32::try_from(collectors.iter().count()).unwrap_or(1).max(1);
        collectors.iter().for_each(|collector| self.add(collector, share));
    }

    /// Returns when the clock was last read.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// Restarts the clock after a pause: the time since it was last read is attributed to no collector.
    pub(super) fn resume(&mut self) {
        self.last = Instant::now();
    }

    fn since_last(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.last, now))
    }

    /// Marks collectors as failed, because they did not read everything.
    pub fn fail(&mut self, collectors: CollectorSet) {
        self.failed = self.failed.union(collectors);
    }
}

/// Paths by which a container's files are read, the cheapest first. They are the values of the label `path`.
const PATHS: [&str; 3] = ["snapshot", "open_file", "reopened_file"];

/// Number of containers by collector and path.
#[derive(Debug, Default)]
pub(super) struct ReadPaths([[i64; PATHS.len()]; Collector::ALL.len()]);

/// For one container, the collectors that were served by each path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathsTaken([CollectorSet; PATHS.len()]);

impl PathsTaken {
    /// Records that a file's values came from a snapshot.
    pub(super) fn copied(&mut self, collectors: CollectorSet) {
        let [copied, ..] = &mut self.0;
        *copied = copied.union(collectors);
    }

    /// Records that a file was read.
    pub(super) fn read(&mut self, collectors: CollectorSet, file: &FileState) {
        let [_, open, reopened] = &mut self.0;
        let path = if matches!(file, FileState::Reopened) { reopened } else { open };
        *path = path.union(collectors);
    }
}

impl ReadPaths {
    /// Counts a container: for each collector under the costliest path of its files.
    pub(super) fn count(&mut self, taken: PathsTaken) {
        let [copied, open, reopened] = taken.0;
        for collector in copied.union(open).union(reopened).iter() {
            let path = if reopened.has(collector) { 2 } else { usize::from(open.has(collector)) };
            if let Some(count) = self.0.get_mut(collector.index()).and_then(|paths| paths.get_mut(path)) {
                *count += 1;
            }
        }
    }

    /// Sets the metrics, and resets the counts.
    pub(super) fn publish(&mut self, self_metrics: &SelfMetrics) {
        for (collector, counts) in Collector::ALL.iter().zip(std::mem::take(self).0) {
            if counts == [0; PATHS.len()] {
                continue;
            }
            for (path, count) in PATHS.iter().zip(counts) {
                self_metrics.read_path.with_label_values(&[collector.name(), path]).set(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileState, PathsTaken, ReadPaths};
    use crate::metrics::{Collector, CollectorSet, SelfMetrics};

    #[test]
    fn the_costliest_path_counts() {
        let set = |collector| CollectorSet::EMPTY.with(collector);
        let mut taken = PathsTaken::default();
        taken.copied(set(Collector::Cpu).with(Collector::Memory));
        taken.read(set(Collector::Memory), &FileState::New);
        taken.read(set(Collector::Blkio), &FileState::Reopened);
        let self_metrics = SelfMetrics::new().unwrap();
        let mut paths = ReadPaths::default();
        paths.count(taken);
        paths.publish(&self_metrics);
        let count = |collector: &str, path: &str| self_metrics.read_path.with_label_values(&[collector, path]).get();
        assert_eq!([count("cpu", "snapshot"), count("cpu", "open_file")], [1, 0]);
        assert_eq!(
            [count("memory", "snapshot"), count("memory", "open_file"), count("blkio", "reopened_file")],
            [0, 1, 1]
        );
    }
}
