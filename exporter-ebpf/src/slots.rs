//! The layout of slot tables: set-associative arrays that programs count in without a map lookup, and that user space reads
//! without a system call.
//!
//! A table consists of shards; each CPU, or each group of CPUs, has one. A shard consists of sets of [`WAYS`] slots. The hash
//! of a key selects the set, and the key may use either slot of it. A key that finds both slots taken goes to a hash map.
//!
//! The first word of a slot is its state: [`FREE`], [`TAKEN`], [`RETIRED`], or the key that holds it. Only the kernel side
//! takes a free slot and writes the key; only user space retires a slot. One scrape later, when no program can still be
//! writing to it, user space clears and frees the slot. No key inherits counts of another, because cgroup ids and serial
//! numbers are never used twice.

use core::mem::size_of;

/// The state of an unused slot. No key has this value.
pub const FREE: u64 = 0;
/// The state of a slot that a program is filling in. No key has this value.
pub const TAKEN: u64 = u64::MAX - 1;
/// The state of a slot whose cgroup is gone. No key has this value.
pub const RETIRED: u64 = u64::MAX;

/// Index of a count kept beside each hash map: events that found no entry and no room for one.
pub const REFUSED: u32 = 0;
/// Index of a count kept beside each hash map: entries made. User space subtracts those that it removed, to skip empty maps.
pub const MADE: u32 = 1;
/// Number of counts kept beside a hash map.
pub const COUNTS: u32 = 2;

/// CPUs that can have a shard; those with higher numbers count [`ELSEWHERE`].
pub const CPUS: usize = 1024;
/// The shard of each CPU, by CPU number. User space sets it before the programs are loaded.
pub type CpuShards = [u16; CPUS];
/// Shard number of CPUs without a shard: no table has slots for it, so that their events go to the overflow map.
pub const ELSEWHERE: u16 = u16::MAX;

/// Slots of a set (its associativity).
pub const WAYS: u32 = 2;

/// 2^64 divided by the golden ratio, for Fibonacci hashing: a product with it is well spread in the upper bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Shape of a table. User space sets it before the programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of shards.
    pub shards: u32,
    /// Binary logarithm of the number of sets of a shard, 1 to 16.
    pub set_bits: u32,
}

impl Layout {
    /// Number of slots of the whole table.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.shards * self.slots_per_shard()
    }

    /// Number of slots of a shard.
    #[must_use]
    pub const fn slots_per_shard(self) -> u32 {
        WAYS << self.set_bits
    }

    /// Index of the first slot of the key's set in a shard.
    ///
    /// The key is hashed because cgroup ids are inode numbers: every file of a cgroup takes one, so that the lowest bits of
    /// the ids would use only some of the sets.
    #[must_use]
    #[inline]
    pub const fn set(self, shard: u32, key: u64) -> u32 {
        let hash = (key.wrapping_mul(GOLDEN) >> 48) as u32;
        ((shard << self.set_bits) + (hash >> (16 - self.set_bits))) * WAYS
    }
}

/// Combines two numbers into one key.
#[must_use]
#[inline]
pub const fn hash_combine(one: u64, other: u64) -> u64 {
    one.wrapping_add(other.wrapping_mul(GOLDEN))
}

const _: () = assert!(size_of::<Layout>() == 8);

#[cfg(test)]
mod tests {
    use super::{Layout, WAYS, hash_combine};

    #[test]
    fn every_set_is_inside_its_shard_of_the_table() {
        let layout = Layout { shards: 6, set_bits: 5 };
        assert_eq!((layout.slots(), layout.slots_per_shard()), (6 * 2 * 32, 2 * 32));
        for shard in 0..6 {
            let slots = shard * layout.slots_per_shard()..(shard + 1) * layout.slots_per_shard();
            for key in [1, 2, 48, 4_294_967_299, u64::MAX - 2] {
                let set = layout.set(shard, key);
                assert!(slots.contains(&set) && set.is_multiple_of(WAYS), "{set} of {key} in shard {shard}");
            }
        }
    }

    #[test]
    fn keys_at_regular_distances_use_many_sets() {
        let layout = Layout { shards: 1, set_bits: 11 };
        let used = |keys: &mut dyn Iterator<Item = u64>| {
            let mut used = [false; 2048 * WAYS as usize];
            keys.for_each(|key| used[layout.set(0, key) as usize] = true);
            used.iter().filter(|used| **used).count()
        };
        assert!(used(&mut (0..1000).map(|index| 4000 + index * 48)) > 700);
        // Serial numbers of five trees' cgroups, and two operations on one device.
        let mut pairs =
            (0..500).flat_map(|index| [0, 1].map(|operation| hash_combine(900 + index * 5, 254 << 40 | operation)));
        assert!(used(&mut pairs) > 700);
    }
}
