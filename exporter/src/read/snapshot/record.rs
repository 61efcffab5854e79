//! What snapshots have told of a container.

use crate::ebpf::{Record, Snapshots};

/// What is remembered of a container.
#[derive(Debug, Default)]
pub(in crate::read) struct Copied {
    pub(super) life: u64,
    /// Its cgroup in each tree, 0 where it has none.
    pub(super) cgroups: Vec<u64>,
    /// Where in the snapshot it is.
    pub(super) place: Option<u32>,
    /// A bit for each tree whose cgroup the snapshot shows there.
    pub(super) shown_trees: u8,
    /// Which of [`Snapshot::kinds`] it is of.
    pub(super) kind: Option<usize>,
    /// A digest of its limits; none where the snapshot does not show all of its cgroups.
    pub(super) limits: Option<u64>,
}

impl Copied {
    /// Whether a changed limit would have been noticed.
    pub(in crate::read) fn are_limits_watched(&self) -> bool {
        self.limits.is_some()
    }

    /// What the snapshot shows of it; none where it does not show its cgroup in this tree.
    pub(super) fn record<'a>(&self, taker: &'a Snapshots, tree: usize) -> Option<Record<'a>> {
        taker.record(self.place.filter(|_| self.shown_trees & (1 << tree) != 0)?)
    }

    /// The snapshot does not show it. Gives what was known of its limits.
    pub(super) fn lose(&mut self) -> Option<u64> {
        (self.place, self.shown_trees, self.kind) = (None, 0, None);
        self.limits.take()
    }

    /// A bit for each tree whose cgroup a record shows, and whether these are all that there are.
    pub(super) fn compare(&self, record: &Record<'_>) -> (u8, bool) {
        let own = self.cgroups.iter().enumerate().filter(|(_, id)| **id != 0);
        own.fold(
            (0, true),
            |(shown, is_whole), (tree, id)| {
                if record.cgroup(tree) == *id { (shown | 1 << tree, is_whole) } else { (shown, false) }
            },
        )
    }
}
