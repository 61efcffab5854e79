//! Block I/O per cgroup, device and operation, as `bin/block.rs` counts it at the completion of each request.

use core::mem::{offset_of, size_of};

use crate::latency::Histogram;

/// What one cgroup has done on one device by one kind of operation.
///
/// The table of slots is shared by all CPUs, or by a part of them each ([`Layout`]): completions are some hundred
/// thousand a second at the most, and a slot per CPU would be a quarter of a kilobyte for each on a host of many.
///
/// `owner` is the state of a slot: [`FREE`], [`TAKEN`], [`RETIRED`], or the id of the cgroup that it counts. Only the
/// kernel takes a free slot and gives it an owner; only user space retires an owner and, a scrape later when no program
/// can still be writing, clears and frees the slot. So nobody ever inherits counts.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whose slot it is.
    pub owner: u64,
    /// Which device and operation; 0 until the slot has an owner.
    pub subject: Subject,
    /// What was counted.
    pub counters: Counters,
    /// Always 0: fills the last cache line.
    pub reserved: [u64; 6],
}

/// A [`Slot::owner`] that is nobody. No cgroup has this id.
pub const FREE: u64 = 0;
/// A [`Slot::owner`] that is being set. No cgroup has this id.
pub const TAKEN: u64 = u64::MAX - 1;
/// A [`Slot::owner`] that is gone. No cgroup has this id.
pub const RETIRED: u64 = u64::MAX;

/// Counts of one cgroup, device and operation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that the device has completed.
    pub bytes: u64,
    /// From the device's start of a request to its end; one observation per request.
    pub latency: Histogram,
}

impl Counters {
    /// Takes another's counts in.
    pub fn add(&mut self, more: &Self) {
        self.bytes += more.bytes;
        self.latency.add(&more.latency);
    }
}

/// A device and an operation in one number, never 0.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(pub u64);

impl Subject {
    /// That of a disk's number and an operation.
    #[must_use]
    #[inline]
    pub const fn new(major: u32, minor: u32, operation: Operation) -> Self {
        Self(1 << 63 | (major as u64) << 40 | (minor as u64) << 8 | operation as u64)
    }

    /// Major number of the disk: at most 12 bits.
    #[must_use]
    pub const fn major(self) -> u32 {
        (self.0 >> 40) as u32 & 0x7f_ffff
    }

    /// Minor number of the disk: at most 20 bits.
    #[must_use]
    pub const fn minor(self) -> u32 {
        (self.0 >> 8 & 0xffff_ffff) as u32
    }

    /// The operation.
    #[must_use]
    pub const fn operation(self) -> Operation {
        match self.0 & 0xff {
            0 => Operation::Read,
            1 => Operation::Write,
            2 => Operation::Flush,
            _ => Operation::Discard,
        }
    }
}

/// What a request does. Told apart as the kernel does for `io.stat`, and flushes on their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// From the device.
    Read = 0,
    /// To the device; also writing of zeroes.
    Write = 1,
    /// The device's cache to its medium.
    Flush = 2,
    /// Blocks that are no longer used.
    Discard = 3,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Discard];
}

/// Key of the map that takes what found no slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kernel's id of the cgroup in the hierarchy of the block controller: the inode number of its directory.
    pub cgroup: u64,
    /// Device and operation.
    pub subject: Subject,
}

/// Slots of a set: an entry may use any of the slots of its set, tried in order.
pub const WAYS: u32 = 2;

/// Shape of the table of slots, told to the program before it is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Binary logarithm of the number of sets per shard, 1 to 16.
    pub set_bits: u32,
    /// Number of shards less one, a power of two less one: CPUs that would otherwise fight for a cache line.
    pub shard_mask: u32,
}

impl Layout {
    /// Number of slots of the whole table.
    #[must_use]
    pub const fn slots(self) -> u32 {
        ((self.shard_mask + 1) * WAYS) << self.set_bits
    }

    /// The first slot of an entry's set.
    #[must_use]
    #[inline]
    pub const fn set(self, cpu: u32, key: Key) -> u32 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        // A second multiplication: ids are at regular distances, and so are devices and operations.
        let mixed = key.cgroup.wrapping_add(key.subject.0.wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
        let set = (mixed >> 48) as u32 >> (16 - self.set_bits);
        (((cpu & self.shard_mask) << self.set_bits) + set) * WAYS
    }
}

/// Where the running kernel keeps what the program follows: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `request.q`
    pub request_queue: u32,
    /// `request.cmd_flags`
    pub request_flags: u32,
    /// `request.__data_len`
    pub request_length: u32,
    /// `request.bio`
    pub request_bio: u32,
    /// `request.start_time_ns`
    pub request_made: u32,
    /// `request.io_start_time_ns`
    pub request_started: u32,
    /// `request_queue.disk`
    pub queue_disk: u32,
    /// `gendisk.major`
    pub disk_major: u32,
    /// `gendisk.first_minor`
    pub disk_minor: u32,
    /// `bio.bi_blkg`
    pub bio_group: u32,
    /// `blkcg_gq.blkcg`
    pub group_blkcg: u32,
    /// `blkcg.css.cgroup`
    pub blkcg_cgroup: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
}

const _: () = {
    assert!(size_of::<Slot>() == 256 && offset_of!(Slot, counters) == 16, "Slot is part of a kernel map's layout");
    assert!(size_of::<Counters>() == 192 && offset_of!(Counters, latency) == 8);
    assert!(size_of::<Key>() == 16 && size_of::<Layout>() == 8 && size_of::<Offsets>() == 56);
};

#[cfg(test)]
mod tests {
    use super::{Key, Layout, Operation, Subject, WAYS};

    #[test]
    fn a_subject_tells_its_parts_and_is_never_0() {
        for (major, minor) in [(0, 0), (8, 16), (259, 0xf_ffff), (0xfff, 0)] {
            for operation in Operation::ALL {
                let subject = Subject::new(major, minor, operation);
                assert_eq!((subject.major(), subject.minor(), subject.operation()), (major, minor, operation));
                assert_ne!(subject.0, 0);
            }
        }
    }

    #[test]
    fn entries_spread_over_the_sets_of_their_shard() {
        let layout = Layout { set_bits: 11, shard_mask: 1 };
        assert_eq!(layout.slots(), 8192);
        let mut used = [false; 8192];
        for place in 0..500_u64 {
            for operation in [Operation::Read, Operation::Write] {
                let key = Key { cgroup: 4000 + place * 48, subject: Subject::new(254, 0, operation) };
                let set = layout.set(5, key);
                assert!((4096..8192).contains(&set) && set.is_multiple_of(WAYS), "{set}");
                used[set as usize] = true;
            }
        }
        assert!(used.iter().filter(|used| **used).count() > 750);
    }
}
