//! Block I/O per cgroup, device and operation, as `bin/block.rs` counts it at the completion of each request.

use core::mem::{offset_of, size_of};

use crate::cgroup::CgroupIdOffsets;
use crate::latency::Histogram;

/// Counts of one cgroup, device and operation.
///
/// All CPUs, or each group of CPUs, share a shard of the table: completions reach a few hundred thousand a second at most, and
/// a slot takes 256 bytes, which is too much to have one for each CPU of a large host.
///
/// A program touches one cache line of a slot, and a second one for latencies above 128 µs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The state of the slot. The key is the serial number of the cgroup in the block controller (`css.serial_nr`): a
    /// request leads to it in fewer steps than to the cgroup's id.
    pub state: u64,
    /// Device and operation, 0 while the slot is unused.
    pub device_op: DeviceOp,
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
    /// Adds the counts of another entry.
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

/// A device and an operation packed into one number, never 0.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceOp(pub u64);

impl DeviceOp {
    /// Packs the device number of a disk and an operation.
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

/// What a request does: the kinds that `io.stat` distinguishes, and flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Reads from the device.
    Read = 0,
    /// Writes to the device; also writes zeroes.
    Write = 1,
    /// Writes the device's cache to its medium.
    Flush = 2,
    /// Discards blocks that are no longer used.
    Discard = 3,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Discard];
}

/// Key of the overflow map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kernel's id of the cgroup in the hierarchy of the block controller: the inode number of its directory.
    pub cgroup: u64,
    /// Device and operation.
    pub device_op: DeviceOp,
}

/// Byte offsets of the members that the program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `request.q`
    pub request_queue: u32,
    /// `request.cmd_flags`
    pub request_flags: u32,
    /// `request.rq_flags`
    pub request_state: u32,
    /// `RQF_IO_STAT`: the flag of requests of which the kernel keeps statistics, and so the times.
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
    /// Where a cgroup's id is.
    pub id_offsets: CgroupIdOffsets,
}

const _: () = {
    assert!(size_of::<Slot>() == 256 && offset_of!(Slot, counters) == 16, "Slot is part of a kernel map's layout");
    assert!(offset_of!(Slot, cgroup) == 216);
    assert!(size_of::<Counters>() == 200 && offset_of!(Counters, untimed) == 192);
    assert!(size_of::<Key>() == 16 && size_of::<Offsets>() == 68);
};

#[cfg(test)]
mod tests {
    use super::{DeviceOp, Operation};

    #[test]
    fn a_device_op_holds_its_fields_and_is_never_0() {
        for (major, minor) in [(0, 0), (8, 16), (259, 0xf_ffff), (0xfff, 0)] {
            for operation in Operation::ALL {
                let device_op = DeviceOp::new(major, minor, operation);
                assert_eq!((device_op.major(), device_op.minor(), device_op.operation()), (major, minor, operation));
                assert_ne!(device_op.0, 0);
            }
        }
    }
}
