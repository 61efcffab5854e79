//! Block I/O per cgroup, device and operation, as `bin/block.rs` counts it at the completion of each request.

use core::mem::{offset_of, size_of};

use crate::cgroup::Way;
use crate::latency::Histogram;

/// What one cgroup has done on one device by one kind of operation.
///
/// The table has a part for all CPUs, or for some of them each: completions are some hundred thousand a second at the most,
/// and a slot per CPU would be a quarter of a kilobyte for each on a host of many.
///
/// A program looks at no more of it than one cache line, and one more where latencies are above 128 µs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its state; its holder's name is the serial number of the cgroup in the block controller (`css.serial_nr`): a
    /// request leads to it in fewer steps than to the cgroup's id.
    pub state: u64,
    /// Which device and operation; 0 until the slot has a holder.
    pub subject: Subject,
    /// What was counted.
    pub counters: Counters,
    /// The id of the cgroup.
    pub cgroup: u64,
    /// Always 0: fills the last cache line.
    pub reserved: [u64; 4],
}

/// Counts of one cgroup, device and operation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that the device has completed.
    pub bytes: u64,
    /// From the device's start of a request to its end.
    pub latency: Histogram,
    /// Requests without a latency: the kernel keeps no statistics of a queue whose `iostats` are switched off.
    pub untimed: u64,
}

impl Counters {
    /// Takes another's counts in.
    pub fn add(&mut self, more: &Self) {
        self.bytes += more.bytes;
        self.latency.add(&more.latency);
        self.untimed += more.untimed;
    }

    /// How many requests there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.latency.count() + self.untimed
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

/// Where the running kernel keeps what the program follows: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `request.q`
    pub request_queue: u32,
    /// `request.cmd_flags`
    pub request_flags: u32,
    /// `request.rq_flags`
    pub request_state: u32,
    /// The bit of it that a request has of which the kernel keeps statistics, and so its times (`RQF_IO_STAT`).
    pub request_timed: u32,
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
    /// `blkcg.css.serial_nr`
    pub blkcg_serial: u32,
    /// `blkcg.css.cgroup`
    pub blkcg_cgroup: u32,
    /// From the cgroup to its id.
    pub way: Way,
}

const _: () = {
    assert!(size_of::<Slot>() == 256 && offset_of!(Slot, counters) == 16, "Slot is part of a kernel map's layout");
    assert!(offset_of!(Slot, cgroup) == 216);
    assert!(size_of::<Counters>() == 200 && offset_of!(Counters, untimed) == 192);
    assert!(size_of::<Key>() == 16 && size_of::<Offsets>() == 68);
};

#[cfg(test)]
mod tests {
    use super::{Operation, Subject};

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
}
