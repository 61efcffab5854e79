//! The tables in which programs count by cgroup: slots in shared memory, hash maps, and quotas of entries per
//! container.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap as KernelMap, MapData};
use aya::{Ebpf, Pod};
use exporter_ebpf::latency::{BUCKETS, Histogram};
use exporter_ebpf::owners::{Ancestors, UNOWNED};
use exporter_ebpf::slots::{COUNTS, FREE, Layout, MADE, REFUSED, RETIRED, TAKEN};

use super::loader::{Loader, map_array, refused_map, take_map};
use super::owners::CgroupOwners;
use super::unsupported::Unsupported;

/// Names of the constant and the maps of a table in its object.
pub(super) struct TableNames {
    pub(super) layout: &'static str,
    pub(super) slots: &'static str,
    pub(super) overflow: &'static str,
    pub(super) counts: &'static str,
    pub(super) quotas: QuotaNames,
}

/// Returns the names of the table whose names begin with a word.
macro_rules! table_names {
    ($word:literal) => {
        $crate::ebpf::tables::TableNames {
            layout: concat!($word, "_LAYOUT"),
            slots: concat!($word, "_SLOTS"),
            overflow: concat!($word, "_OVERFLOW"),
            counts: concat!($word, "_COUNTS"),
            quotas: $crate::ebpf::tables::quota_names!($word),
        }
    };
}
pub(super) use table_names;

/// Names and sizes of a table.
pub(super) struct TableSpec {
    pub(super) names: TableNames,
    pub(super) layout: Layout,
    /// Number of words of a slot.
    pub(super) slot_words: usize,
    /// Index of the word that is the id of the cgroup.
    pub(super) cgroup_word: usize,
    /// Capacity of the overflow map. The map takes memory only for entries in use.
    pub(super) overflow_entries: u32,
}

impl TableSpec {
    /// Sets the constant and the sizes of the maps in the next object of the loader.
    pub(super) fn prepare(&self, loader: &mut Loader) {
        loader.set_constant(self.names.layout, self.layout);
        loader.set_map_size(self.names.slots, self.layout.slots());
        loader.set_map_size(self.names.overflow, self.overflow_entries);
    }
}

/// The table of slots of a program, the overflow map for entries that find no slot, and the quota maps.
///
/// Reading the slots takes no system call. `exporter-ebpf/src/slots.rs` has the programs' side.
pub(super) struct Table<K: Pod, V: Pod> {
    slots: Slots,
    overflow: Entries<K, V>,
    quotas: Quotas,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes the maps from an object whose programs are loaded. The programs need the descriptors of the maps to load,
    /// and keep the maps alive.
    ///
    /// # Errors
    /// The kernel does not share the table.
    pub(super) fn take(object: &mut Ebpf, spec: &TableSpec) -> Result<Self, Unsupported> {
        let words = spec.layout.slots() as usize * spec.slot_words;
        Ok(Self {
            slots: Slots::new(map_array(object, spec.names.slots, words)?, spec.slot_words, spec.cgroup_word),
            overflow: Entries::take(object, spec.names.overflow, spec.names.counts)?,
            quotas: Quotas::take(object, &spec.names.quotas)?,
        })
    }

    /// Clears and frees the slots that were retired at the last scrape.
    pub(super) fn free_retired(&mut self) {
        self.slots.free_retired();
    }

    /// Returns the slots in use: index in the table, id of the cgroup, and all words.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, u64, &[AtomicU64])> {
        self.slots.held()
    }

    /// Returns the entries that have found no slot.
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

    /// Retires the slots of ended cgroups, and removes their other entries. If a late event creates an entry again, the
    /// next search for ended cgroups finds it.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners, cgroup_of: impl Fn(&K) -> u64) {
        self.slots.retire(ended);
        self.overflow.remove(|key| ended.contains(&cgroup_of(key)));
        let held = self.slots.held().map(|(_, cgroup, _)| cgroup);
        let all = held.chain(self.overflow.iter().map(|(key, _)| cgroup_of(&key)));
        let unowned = all.filter(|cgroup| !owners.belongs_to_container(*cgroup)).count();
        self.quotas.forget_ended(ended, unowned);
    }
}

/// A table of slots in our own memory. A slot is given back in two steps: retired at one scrape, freed at the next.
struct Slots {
    words: &'static [AtomicU64],
    /// Number of words of a slot.
    size: usize,
    /// Index of the word that is the id of the cgroup.
    cgroup_word: usize,
    /// Indices of slots that were retired at the last scrape.
    retired: Vec<usize>,
}

impl Slots {
    fn new(words: &'static [AtomicU64], size: usize, cgroup_word: usize) -> Self {
        Self { words, size, cgroup_word, retired: Vec::new() }
    }

    fn held(&self) -> impl Iterator<Item = (usize, u64, &[AtomicU64])> {
        self.words.chunks_exact(self.size).enumerate().filter_map(|(index, slot)| {
            // The program writes the state after the other words of a slot.
            let state = slot.first()?.load(Ordering::Acquire);
            (![FREE, TAKEN, RETIRED].contains(&state)).then(|| (index, word(slot, self.cgroup_word), slot))
        })
    }

    /// Retires the slots of these cgroups.
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

    /// Clears and frees the retired slots. No program writes to them any more: programs run for microseconds, and a
    /// slot was retired a scrape ago.
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

/// A hash map in which programs create entries, and the counts beside it.
///
/// Iterating over such a map makes the kernel read its whole index, about a megabyte. The counts show whether the map
/// is empty, as it usually is.
pub(super) struct Entries<K: Pod, V: Pod> {
    map: KernelMap<MapData, K, V>,
    counts: &'static [AtomicU64],
    /// Number of entries that we have removed. Nothing else removes entries.
    removed: u64,
}

impl<K: Pod, V: Pod> Entries<K, V> {
    /// Takes the maps from an object whose programs are loaded.
    ///
    /// # Errors
    /// The object does not have the maps.
    pub(super) fn take(object: &mut Ebpf, entries: &str, counts: &str) -> Result<Self, Unsupported> {
        Ok(Self { map: take_map(object, entries)?, counts: map_array(object, counts, COUNTS as usize)?, removed: 0 })
    }

    /// Returns the entries. Must not run while entries are removed, because a removal may end the iteration early.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        let map = (self.total(MADE) > self.removed).then_some(&self.map);
        map.into_iter().flat_map(|map| map.iter().filter_map(Result::ok))
    }

    /// Returns the number of events that were not counted for lack of an entry.
    pub(super) fn refused(&self) -> u64 {
        self.total(REFUSED)
    }

    /// Removes the entries that `is_gone` accepts. A later event makes a new one.
    pub(super) fn remove(&mut self, is_gone: impl Fn(&K) -> bool) {
        let gone: Vec<K> = self.iter().map(|(key, _)| key).filter(is_gone).collect();
        for key in gone {
            self.removed += u64::from(self.map.remove(&key).is_ok());
        }
    }

    /// Returns one of the counts.
    fn total(&self, which: u32) -> u64 {
        self.counts.get(which as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// A flag of `BPF_MAP_UPDATE_ELEM`, which leaves an existing entry unchanged.
const BPF_NOEXIST: u64 = 1;

type QuotaMap = KernelMap<MapData, u64, u64>;

/// Names of the quota maps in their object.
pub(super) struct QuotaNames {
    pub(super) owners: &'static str,
    pub(super) charges: &'static str,
    pub(super) members: &'static str,
}

/// Returns the names of the quota maps whose names begin with a word.
macro_rules! quota_names {
    ($word:literal) => {
        $crate::ebpf::tables::QuotaNames {
            owners: concat!($word, "_OWNERS"),
            charges: concat!($word, "_CHARGES"),
            members: concat!($word, "_MEMBERS"),
        }
    };
}
pub(super) use quota_names;

/// The maps with which the programs limit the entries of each container in a table. `exporter-ebpf/src/owners.rs` has
/// the rules.
pub(super) struct Quotas {
    owners: QuotaMap,
    charges: QuotaMap,
    members: QuotaMap,
    /// The map of owners as last written.
    written: HashMap<u64, u64>,
}

impl Quotas {
    /// Takes the maps from an object whose programs are loaded.
    ///
    /// # Errors
    /// The object does not have the maps, or the kernel refuses an entry.
    pub(super) fn take(object: &mut Ebpf, names: &QuotaNames) -> Result<Self, Unsupported> {
        let mut charges: QuotaMap = take_map(object, names.charges)?;
        charges.insert(UNOWNED, 0, 0).map_err(|error| refused_map("the kernel does not take an entry", &error))?;
        let (owners, members) = (take_map(object, names.owners)?, take_map(object, names.members)?);
        Ok(Self { owners, charges, members, written: HashMap::new() })
    }

    /// Writes the containers, and the cgroups that hold containers, into the map of owners. A container that finds no
    /// room there counts as unowned.
    pub(super) fn publish(&mut self, owners: &HashMap<u64, u64>) {
        for id in self.written.keys().filter(|id| !owners.contains_key(id)) {
            // The entry is missing if the map was full.
            _ = self.owners.remove(id);
            _ = self.charges.remove(id);
        }
        for (id, written) in owners.iter().filter(|(id, written)| self.written.get(id) != Some(written)) {
            // An existing entry keeps its charges.
            _ = self.charges.insert(id, 0, BPF_NOEXIST);
            _ = self.owners.insert(id, written, 0);
        }
        self.written.clone_from(owners);
    }

    /// Returns the cgroup of the container that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.members.get(&cgroup, 0).ok()
    }

    /// Removes nested cgroups that ended, and sets the number of entries that belong to no container.
    pub(super) fn forget_ended(&mut self, ended: &HashSet<u64>, unowned: usize) {
        for id in ended {
            _ = self.members.remove(id);
        }
        _ = self.charges.insert(UNOWNED, u64::try_from(unowned).unwrap_or(u64::MAX), 0);
    }
}

/// Returns the offsets that lead from a cgroup to its ancestors in the running kernel.
///
/// # Errors
/// The kernel's types have no such members.
pub(super) fn ancestors(loader: &Loader) -> Result<Ancestors, Unsupported> {
    Ok(Ancestors { level: loader.offset("cgroup", "level")?, ancestors: loader.offset("cgroup", "ancestors")? })
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
