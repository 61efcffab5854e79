//! A program's table of slots, and the map that takes what finds no slot: who holds what, and the two steps in which a slot
//! is given back. Looking at the table takes no system call.
//!
//! The programs' side of this is in `exporter-ebpf/src/slots.rs`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::{Ebpf, Pod};
use exporter_ebpf::latency::{BUCKETS, Histogram};
use exporter_ebpf::slots::{FREE, Layout, RETIRED, TAKEN};

use super::entries::Entries;
use super::error::Unsupported;
use super::loader::{Loader, mapped};
use super::owners::CgroupOwners;
use super::quotas::{self, Quotas};

/// Names of what a table consists of in its object.
pub(super) struct Names {
    layout: &'static str,
    slots: &'static str,
    overflow: &'static str,
    counts: &'static str,
    quotas: quotas::Names,
}

/// The names that begin with a word.
macro_rules! names {
    ($word:literal) => {
        $crate::ebpf::slots::Names::new(
            concat!($word, "_LAYOUT"),
            concat!($word, "_SLOTS"),
            concat!($word, "_OVERFLOW"),
            concat!($word, "_COUNTS"),
            $crate::ebpf::quotas::quota_maps!($word),
        )
    };
}
pub(super) use names;

impl Names {
    pub(super) const fn new(
        layout: &'static str,
        slots: &'static str,
        overflow: &'static str,
        counts: &'static str,
        quotas: quotas::Names,
    ) -> Self {
        Self { layout, slots, overflow, counts, quotas }
    }
}

/// What a table is like.
pub(super) struct TableSpec {
    pub(super) names: Names,
    pub(super) layout: Layout,
    /// Words of a slot.
    pub(super) words: usize,
    /// Which of them is the id of the cgroup.
    pub(super) cgroup: usize,
    /// Entries that the map takes which is for those that find no slot. It holds memory only for what is in it.
    pub(super) overflow: u32,
}

impl TableSpec {
    /// Tells the next object of it, before it is loaded.
    pub(super) fn prepare(&self, loader: &mut Loader) {
        loader.set(self.names.layout, self.layout);
        loader.size(self.names.slots, self.layout.slots());
        loader.size(self.names.overflow, self.overflow);
    }
}

/// A table and its overflow.
pub(super) struct Table<K: Pod, V: Pod> {
    slots: Slots,
    overflow: Entries<K, V>,
    quotas: Quotas,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes it out of an object whose programs are loaded: they need the maps' descriptors, and keep the maps alive.
    ///
    /// # Errors
    /// The kernel does not share the table.
    pub(super) fn take(object: &mut Ebpf, shape: &TableSpec) -> Result<Self, Unsupported> {
        let words = shape.layout.slots() as usize * shape.words;
        Ok(Self {
            slots: Slots::new(mapped(object, shape.names.slots, words)?, shape.words, shape.cgroup),
            overflow: Entries::take(object, shape.names.overflow, shape.names.counts)?,
            quotas: Quotas::take(object, &shape.names.quotas)?,
        })
    }

    /// Clears and frees what was retired a scrape ago.
    pub(super) fn free_retired(&mut self) {
        self.slots.free_retired();
    }

    /// Returns the slots that somebody holds: its place in the table, the id of the cgroup, and all words.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, u64, &[AtomicU64])> {
        self.slots.held()
    }

    /// Returns what found no slot.
    pub(super) fn overflowed(&self) -> impl Iterator<Item = (K, V)> {
        self.overflow.iter()
    }

    /// Returns the number of events that were not counted for lack of an entry.
    pub(super) fn refused(&self) -> u64 {
        self.overflow.refused()
    }

    /// Returns the quota maps of the table.
    pub(super) fn quotas(&mut self) -> &mut Quotas {
        &mut self.quotas
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.quotas.owner(cgroup)
    }

    /// Gives the entries of ended cgroups back. What an event makes later is found by the next search for cgroups that are gone.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners, cgroup_of: impl Fn(&K) -> u64) {
        self.slots.retire(ended);
        self.overflow.remove(|key| ended.contains(&cgroup_of(key)));
        let held = self.slots.held().map(|(_, cgroup, _)| cgroup);
        let all = held.chain(self.overflow.iter().map(|(key, _)| cgroup_of(&key)));
        let unowned = all.filter(|cgroup| !owners.belongs_to_container(*cgroup)).count();
        self.quotas.forget_ended(ended, unowned);
    }
}

/// A table of slots in our own memory.
struct Slots {
    words: &'static [AtomicU64],
    /// Words of a slot.
    size: usize,
    /// Which of them is the id of the cgroup.
    cgroup: usize,
    /// Slots that were retired at the last [`Slots::retire`]: no program can be writing to them any more.
    retired: Vec<usize>,
}

impl Slots {
    fn new(words: &'static [AtomicU64], size: usize, cgroup: usize) -> Self {
        Self { words, size, cgroup, retired: Vec::new() }
    }

    fn held(&self) -> impl Iterator<Item = (usize, u64, &[AtomicU64])> {
        self.words.chunks_exact(self.size).enumerate().filter_map(|(index, slot)| {
            // What stands behind a holder's name was written before it.
            let state = slot.first()?.load(Ordering::Acquire);
            (![FREE, TAKEN, RETIRED].contains(&state)).then(|| (index, word(slot, self.cgroup), slot))
        })
    }

    /// Takes the slots of these cgroups away from them.
    fn retire(&mut self, ended: &HashSet<u64>) {
        let gone = self.held().filter(|(_, cgroup, _)| ended.contains(cgroup));
        let gone: Vec<usize> = gone
            .filter_map(|(index, _, slot)| {
                slot.first()?.store(RETIRED, Ordering::Relaxed);
                Some(index)
            })
            .collect();
        self.retired.extend(gone);
    }

    /// A program that found its slot before it was retired, a scrape ago, has long ended: programs run for microseconds.
    fn free_retired(&mut self) {
        for index in self.retired.drain(..) {
            let slot = self.words.get(index * self.size..(index + 1) * self.size);
            let Some((state, rest)) = slot.and_then(<[_]>::split_first) else { continue };
            for word in rest {
                word.store(0, Ordering::Relaxed);
            }
            state.store(FREE, Ordering::Release);
        }
    }
}

/// Returns a word of a slot.
pub(super) fn word(slot: &[AtomicU64], index: usize) -> u64 {
    slot.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// Returns the histogram that begins at a word of a slot.
pub(super) fn histogram(slot: &[AtomicU64], index: usize) -> Histogram {
    let mut found = Histogram { sum_ns: word(slot, index), buckets: [0; BUCKETS] };
    for (bucket, word) in found.buckets.iter_mut().zip(slot.iter().skip(index + 1)) {
        *bucket = word.load(Ordering::Relaxed);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{RETIRED, Slots, TAKEN, histogram, word};
    use crate::metrics::{BlockOperation, Probed};
    use exporter_ebpf::latency::Scale;

    #[test]
    fn a_slot_is_given_back_in_two_steps_and_empty() {
        let words: &'static [AtomicU64] = Vec::leak((0..32).map(|_| AtomicU64::new(0)).collect());
        // A state, a count, and a cgroup.
        let set = |slot: usize, values: [u64; 3]| {
            values.into_iter().zip(slot * 8..).for_each(|(value, index)| words[index].store(value, Ordering::Relaxed));
        };
        let mut slots = Slots::new(words, 8, 2);
        set(0, [901, 100, 11]);
        set(1, [TAKEN, 0, 11]);
        set(3, [902, 200, 12]);
        let held = |slots: &Slots| slots.held().map(|(_, cgroup, slot)| (cgroup, word(slot, 1))).collect::<Vec<_>>();
        assert_eq!(held(&slots), [(11, 100), (12, 200)]);

        slots.retire(&HashSet::from([11, 902]));
        assert_eq!(held(&slots), [(12, 200)]);
        // Not free yet: a program may still be adding to it. And one that is being filled in is the program's alone.
        assert_eq!([0, 8].map(|index| words[index].load(Ordering::Relaxed)), [RETIRED, TAKEN]);
        slots.free_retired();
        assert!(words[..8].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_histogram_is_a_sum_and_its_buckets() {
        let words: Vec<AtomicU64> = (0..26).map(AtomicU64::new).collect();
        let found = histogram(&words, 3);
        assert_eq!((found.sum_ns, found.buckets[0], found.buckets[21]), (3, 4, 25));
    }

    #[test]
    fn bounds_are_exposed_as_the_kernel_counts() {
        let first = |what: Probed| what.bounds().unwrap().first_power;
        assert_eq!(first(Probed::BlockLatency(BlockOperation::Read)), Scale::DISK.first_power());
        assert_eq!(first(Probed::RunQueueLatency), Scale::RUN_QUEUE.first_power());
    }
}
