//! What the tables of slots have in common: arrays that programs count in without a look-up, and that user space reads
//! without a system call.
//!
//! A table has parts: each CPU its own, or some CPUs one together. A part has sets of [`WAYS`] slots. An entry may use the
//! slots of one set of a part, which its name tells, in their order; what finds both taken goes to a hash map.
//!
//! The first word of a slot is its state: [`FREE`], [`TAKEN`], [`RETIRED`], or the name of its holder. Only the kernel takes
//! a free slot and gives it a name; only user space retires a name and, a scrape later when no program can still be
//! writing, clears and frees the slot. So nobody ever inherits counts, as long as no name comes back: cgroup ids and
//! serial numbers are not used again.

use core::mem::size_of;

/// The state of a slot that is nobody's. No holder has this name.
pub const FREE: u64 = 0;
/// The state of a slot that is being filled in. No holder has this name.
pub const TAKEN: u64 = u64::MAX - 1;
/// The state of a slot whose holder is gone. No holder has this name.
pub const RETIRED: u64 = u64::MAX;

/// Which of a hash map's counts: events that found no entry and no room for one.
pub const REFUSED: u32 = 0;
/// Entries that were made. With those that user space has removed it tells whether there are any.
pub const MADE: u32 = 1;
/// How many counts there are of a hash map.
pub const COUNTS: u32 = 2;

/// CPUs whose part of a table is told; those with higher numbers count [`ELSEWHERE`].
pub const CPUS: usize = 1024;
/// The part of each CPU, by its number, told to the programs before they are loaded.
pub type Parts = [u16; CPUS];
/// Instead of a part: in no table has it slots, so that what is counted goes to the overflow map.
pub const ELSEWHERE: u16 = u16::MAX;

/// Slots of a set.
pub const WAYS: u32 = 2;

/// Odd, and its bits look like chance: what is multiplied by it is spread over the upper bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Shape of a table, told to the programs before they are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of parts.
    pub parts: u32,
    /// Binary logarithm of the number of sets of a part, 1 to 16.
    pub set_bits: u32,
}

impl Layout {
    /// Number of slots of the whole table.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.parts * self.slots_per_part()
    }

    /// Number of slots of a part.
    #[must_use]
    pub const fn slots_per_part(self) -> u32 {
        WAYS << self.set_bits
    }

    /// The first slot of an entry's set in a part. `name` is a number that the entry has for itself.
    ///
    /// Ids are inode numbers, and each file of a cgroup takes one: their lowest bits alone would use few of the sets.
    #[must_use]
    #[inline]
    pub const fn set(self, part: u32, name: u64) -> u32 {
        let hash = (name.wrapping_mul(GOLDEN) >> 48) as u32;
        ((part << self.set_bits) + (hash >> (16 - self.set_bits))) * WAYS
    }
}

/// One number for two, of which neither comes at irregular distances.
#[must_use]
#[inline]
pub const fn joined(one: u64, other: u64) -> u64 {
    one.wrapping_add(other.wrapping_mul(GOLDEN))
}

const _: () = assert!(size_of::<Layout>() == 8);

#[cfg(test)]
mod tests {
    use super::{Layout, WAYS, joined};

    #[test]
    fn every_set_is_inside_its_part_of_the_table() {
        let layout = Layout { parts: 6, set_bits: 5 };
        assert_eq!((layout.slots(), layout.slots_per_part()), (6 * 2 * 32, 2 * 32));
        for part in 0..6 {
            let slots = part * layout.slots_per_part()..(part + 1) * layout.slots_per_part();
            for name in [1, 2, 48, 4_294_967_299, u64::MAX - 2] {
                let set = layout.set(part, name);
                assert!(slots.contains(&set) && set.is_multiple_of(WAYS), "{set} of {name} in part {part}");
            }
        }
    }

    #[test]
    fn names_at_regular_distances_use_many_sets() {
        let layout = Layout { parts: 1, set_bits: 11 };
        let used = |names: &mut dyn Iterator<Item = u64>| {
            let mut used = [false; 2048 * WAYS as usize];
            names.for_each(|name| used[layout.set(0, name) as usize] = true);
            used.iter().filter(|used| **used).count()
        };
        assert!(used(&mut (0..1000).map(|place| 4000 + place * 48)) > 700);
        // Serial numbers of five trees' cgroups, and two operations on one device.
        let mut pairs =
            (0..500).flat_map(|place| [0, 1].map(|operation| joined(900 + place * 5, 254 << 40 | operation)));
        assert!(used(&mut pairs) > 700);
    }
}
