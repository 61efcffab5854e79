//! A hash map in which programs create entries, and the counts beside it.
//!
//! Iterating over such a map makes the kernel read its whole index, about a megabyte. The counts show that it is
//! usually empty.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap as KernelMap, MapData};
use aya::{Ebpf, Pod};
use exporter_ebpf::slots::{COUNTS, MADE, REFUSED};

use super::error::Unsupported;
use super::loader::{map, mapped};

/// The map and its counts.
pub(super) struct Entries<K: Pod, V: Pod> {
    map: KernelMap<MapData, K, V>,
    counts: &'static [AtomicU64],
    /// Number of entries removed; only we remove entries.
    removed: u64,
}

impl<K: Pod, V: Pod> Entries<K, V> {
    /// Takes the maps from an object whose programs are loaded: those need the maps' descriptors, and keep the maps
    /// alive.
    ///
    /// # Errors
    /// The object does not have the maps.
    pub(super) fn take(object: &mut Ebpf, entries: &str, counts: &str) -> Result<Self, Unsupported> {
        Ok(Self { map: map(object, entries)?, counts: mapped(object, counts, COUNTS as usize)?, removed: 0 })
    }

    /// Returns the entries. An entry that disappears ends the iteration early; only our own removals do that.
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

    fn total(&self, which: u32) -> u64 {
        self.counts.get(which as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
