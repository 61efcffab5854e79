//! What the counters of every cgroup are at one moment, as `bin/snapshot.rs` copies them: one run of a cgroup iterator in
//! place of one read per file and container.
//!
//! The program knows no counter by name. User space finds out where the running kernel keeps each of them, and hands in a
//! [`Plan`]: objects that a cgroup points to, and the members to copy of each. So one program serves every tree of v1 and
//! v2, and a member that a kernel lacks costs only itself.

use core::mem::size_of;

/// Objects that hang off a cgroup.
pub const OBJECTS: usize = 6;
/// Members that are looked at, of all objects together.
pub const MEMBERS: usize = 40;
/// Words of a line: records are made of lines, as many as a tree's plan needs.
pub const LINE_WORDS: usize = 8;
/// Lines of a record, at most.
pub const LINES: usize = 4;
/// The words of a record: first the cgroup, which is the inode number of its directory.
pub const ID: usize = 0;
/// Then a bit per object that this cgroup has, and [`HAS_CPUS`] and its kin: a controller that is not enabled here has none.
pub const HAS: usize = 1;
/// Then a digest of the members that are limits: another one tells that some limit has changed.
pub const LIMITS: usize = 2;
/// Then the members that are no limits, in the order of the plan; then, where they are wanted, time on, user time and
/// system time of all CPUs.
pub const FIRST_NUMBER: usize = 3;
/// Numbers of a cgroup in its record, at most.
pub const NUMBERS: usize = LINES * LINE_WORDS - FIRST_NUMBER;
/// Words of `memory.stat`'s counters that are copied.
pub const STATS: usize = 96;
/// Block devices of a cgroup that are copied; with more of them, the file has to be read.
pub const DEVICES: usize = 4;
/// CPUs that are added up.
pub const CPUS: usize = 1024;
/// Words of a map's own description, to find where its values are.
pub const MAP_WORDS: usize = 96;

/// In a record's objects: the cgroup has CPU time of v1, block I/O of v2, and the counters behind `memory.stat`.
pub const HAS_CPUS: u64 = 1 << 61;
/// See [`HAS_CPUS`].
pub const HAS_DEVICES: u64 = 1 << 62;
/// See [`HAS_CPUS`].
pub const HAS_STATS: u64 = 1 << 63;

/// Instead of an offset: it is not wanted, or this kernel does not have it.
pub const NONE: u32 = u32::MAX;
/// Instead of the offset of a pointer: the cgroup itself.
pub const ITSELF: u32 = u32::MAX - 1;

/// A cache line of the counters of one cgroup.
pub type Line = [u64; LINE_WORDS];

/// `memory.stat`'s counters of one cgroup, as they stand in the kernel.
pub type Stats = [u64; STATS];

/// Block I/O of one cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devices {
    /// How many devices it has used; above [`DEVICES`] not all of them are here.
    pub used: u64,
    /// The first of them.
    pub devices: [Device; DEVICES],
}

/// Block I/O of one cgroup on one device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Major number in the upper half, minor in the lower.
    pub number: u64,
    /// Bytes read, written and discarded.
    pub bytes: [u64; 3],
    /// Operations: reads, writes and discards.
    pub operations: [u64; 3],
}

/// What to copy: set by user space before loading, so that the verifier sees constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Lines of a record.
    pub lines: u32,
    /// `cgroup_subsys_state.flags`
    pub flags: u32,
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
    /// The objects.
    pub objects: [Object; OBJECTS],
    /// Their members, those of the first object first.
    pub members: [Member; MEMBERS],
    /// `memory.stat`.
    pub stats: StatsPlan,
    /// CPU time of v1.
    pub cpus: CpusPlan,
    /// Block I/O of v2.
    pub devices: DevicesPlan,
}

/// An object that a cgroup points to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where in `struct cgroup` the pointer to it is, or [`ITSELF`].
    pub pointer: u32,
    /// How many members of it are looked at.
    pub members: u16,
    /// Whether it is a controller's part of the cgroup, which has to be enabled here.
    pub is_part: u16,
}

/// A member of an object.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub offset: u32,
    /// Its size: 1, 4 or 8 bytes.
    pub size: u16,
    /// Whether it is a limit: folded into the digest instead of being copied.
    pub is_limit: u16,
}

/// Where `memory.stat`'s counters are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsPlan {
    /// Where in `struct cgroup` the pointer to the `mem_cgroup` is; [`NONE`] where they are not wanted.
    pub pointer: u32,
    /// `mem_cgroup.vmstats`
    pub vmstats: u32,
    /// Bytes to copy, at most those of [`Stats`].
    pub bytes: u32,
}

/// Where CPU time of v1 is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpusPlan {
    /// Where in `struct cgroup` the pointer to the `cpuacct` is; [`NONE`] where it is not wanted.
    pub pointer: u32,
    /// `cpuacct.cpuusage`
    pub usage: u32,
    /// `cpuacct.cpustat`
    pub stat: u32,
    /// How many CPUs there may be, at most [`CPUS`].
    pub count: u32,
}

/// Where block I/O of v2 is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicesPlan {
    /// Where in `struct cgroup` the pointer to the `blkcg` is; [`NONE`] where it is not wanted.
    pub pointer: u32,
    /// `blkcg.blkg_list`
    pub list: u32,
    /// `blkcg_gq.blkcg_node`
    pub node: u32,
    /// `blkcg_gq.online`
    pub online: u32,
    /// `blkcg_gq.iostat.cur`
    pub counters: u32,
    /// `blkcg_gq.q`
    pub queue: u32,
    /// `request_queue.disk`
    pub disk: u32,
    /// `gendisk.major`
    pub major: u32,
    /// `gendisk.first_minor`
    pub minor: u32,
}

impl Plan {
    /// Copies nothing.
    pub const NOTHING: Self = Self {
        lines: 1,
        flags: 0,
        kn: 0,
        kn_id: 0,
        objects: [Object { pointer: NONE, members: 0, is_part: 0 }; OBJECTS],
        members: [Member { offset: 0, size: 0, is_limit: 0 }; MEMBERS],
        stats: StatsPlan { pointer: NONE, vmstats: 0, bytes: 0 },
        cpus: CpusPlan { pointer: NONE, usage: 0, stat: 0, count: 0 },
        devices: DevicesPlan {
            pointer: NONE,
            list: 0,
            node: 0,
            online: 0,
            counters: 0,
            queue: 0,
            disk: 0,
            major: 0,
            minor: 0,
        },
    };
}

const _: () = {
    assert!(size_of::<Devices>() == 8 * (1 + 7 * DEVICES), "Devices is part of a kernel map's layout");
    assert!(size_of::<Plan>() == 16 + 8 * OBJECTS + 8 * MEMBERS + 12 + 16 + 36, "no padding that nobody names");
};
