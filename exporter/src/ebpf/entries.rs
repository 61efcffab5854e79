//! A hash map that programs make entries in, and the counts that they keep of it.
//!
//! Going through such a map has the kernel read all of its index, a megabyte of it, whatever there is in it. Most often
//! there is nothing, which the counts tell.

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
    /// Entries that we have removed: nobody else does.
    removed: u64,
}

impl<K: Pod, V: Pod> Entries<K, V> {
    /// Takes them out of an object whose programs are loaded: they need the maps' descriptors, and keep the maps alive.
    ///
    /// # Errors
    /// It does not have them.
    pub(super) fn take(object: &mut Ebpf, entries: &str, counts: &str) -> Result<Self, Unsupported> {
        Ok(Self { map: map(object, entries)?, counts: mapped(object, counts, COUNTS as usize)?, removed: 0 })
    }

    /// Returns what is in it. An entry that goes meanwhile ends the walk early; it is only a removal of our own that
    /// does that.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        let map = (self.total(MADE) > self.removed).then_some(&self.map);
        map.into_iter().flat_map(|map| map.iter().filter_map(Result::ok))
    }

    /// Events that were not counted, as no entry was left.
    pub(super) fn refused(&self) -> u64 {
        self.total(REFUSED)
    }

    /// Removes the entries that `is_gone` accepts. An event that comes later makes a new one.
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
