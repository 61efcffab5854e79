//! A table of slots that programs fill and user space looks at without a system call: who holds which, and the two steps
//! in which a slot is given back. The slots' first word is their owner's id.
//!
//! The programs' side of this is told beside the slots' types in `exporter-ebpf`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{MapData, PerCpuArray};
use exporter_ebpf::block::{FREE, RETIRED, TAKEN};
use exporter_ebpf::latency::{BUCKETS, Histogram};

/// A table of slots in our own memory.
pub(super) struct Slots {
    words: &'static [AtomicU64],
    /// Words of a slot.
    size: usize,
    /// Slots that were retired at the last [`Slots::retire`]: no program can be writing to them any more.
    retired: Vec<usize>,
}

impl Slots {
    /// The table in `words`, of slots of `size` words.
    pub(super) fn new(words: &'static [AtomicU64], size: usize) -> Self {
        Self { words, size, retired: Vec::new() }
    }

    /// The slots that somebody holds: its place in the table, the owner's id, and all words.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, u64, &[AtomicU64])> {
        self.words.chunks_exact(self.size).enumerate().filter_map(|(place, slot)| {
            // What stands behind an owner's id was written before it.
            let owner = slot.first()?.load(Ordering::Acquire);
            (![FREE, TAKEN, RETIRED].contains(&owner)).then_some((place, owner, slot))
        })
    }

    /// Takes the slots of these owners away from them.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>) {
        for (place, slot) in self.words.chunks_exact(self.size).enumerate() {
            let Some(owner) = slot.first() else { continue };
            if ended.contains(&owner.load(Ordering::Relaxed)) {
                owner.store(RETIRED, Ordering::Relaxed);
                self.retired.push(place);
            }
        }
    }

    /// Clears and frees what was retired a scrape ago: a program that found its slot before that has long ended, as
    /// programs run for microseconds.
    pub(super) fn free_retired(&mut self) {
        for place in self.retired.drain(..) {
            let slot = self.words.get(place * self.size..(place + 1) * self.size);
            let Some((owner, rest)) = slot.and_then(<[_]>::split_first) else { continue };
            for word in rest {
                word.store(0, Ordering::Relaxed);
            }
            owner.store(FREE, Ordering::Release);
        }
    }
}

/// A counter that each CPU has its own part of; 0 where the kernel does not tell.
pub(super) fn total(counter: &PerCpuArray<MapData, u64>) -> u64 {
    counter.get(&0, 0).map_or(0, |parts| parts.iter().sum())
}

/// A word of a slot.
pub(super) fn word(slot: &[AtomicU64], place: usize) -> u64 {
    slot.get(place).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// The histogram that begins at a word of a slot.
pub(super) fn histogram(slot: &[AtomicU64], place: usize) -> Histogram {
    let mut found = Histogram { sum_ns: word(slot, place), buckets: [0; BUCKETS] };
    for (bucket, word) in found.buckets.iter_mut().zip(slot.iter().skip(place + 1)) {
        *bucket = word.load(Ordering::Relaxed);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{RETIRED, Slots, TAKEN, histogram, word};

    #[test]
    fn a_slot_is_given_back_in_two_steps_and_empty() {
        let words: &'static [AtomicU64] = Vec::leak((0..32).map(|_| AtomicU64::new(0)).collect());
        let set = |slot: usize, owner, count| {
            words[slot * 8].store(owner, Ordering::Relaxed);
            words[slot * 8 + 1].store(count, Ordering::Relaxed);
        };
        let mut slots = Slots::new(words, 8);
        set(0, 11, 100);
        set(1, TAKEN, 0);
        set(3, 12, 200);
        let held = |slots: &Slots| slots.held().map(|(_, owner, slot)| (owner, word(slot, 1))).collect::<Vec<_>>();
        assert_eq!(held(&slots), [(11, 100), (12, 200)]);

        slots.retire(&HashSet::from([11]));
        assert_eq!(held(&slots), [(12, 200)]);
        // Not free yet: a program may still be adding to it.
        assert_eq!(words[0].load(Ordering::Relaxed), RETIRED);
        slots.free_retired();
        assert_eq!((words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_histogram_is_a_sum_and_its_buckets() {
        let words: Vec<AtomicU64> = (0..26).map(AtomicU64::new).collect();
        let found = histogram(&words, 3);
        assert_eq!((found.sum_ns, found.buckets[0], found.buckets[21]), (3, 4, 25));
    }
}
