//! The counters of every cgroup at one moment, as `bin/snapshot` copies them: one run of a cgroup iterator replaces one read
//! per file and container.
//!
//! The program knows no counter by name. User space finds out where the running kernel keeps each counter, and passes a
//! [`Plan`]: objects that a cgroup points to, and the words to copy of each. One program thus serves v1 and v2, and a member
//! that a kernel lacks costs only its own metric. Where there are several trees, the program iterates over the cgroups of the
//! primary one and finds those of the other trees by the processes that are in both, because visiting a cgroup costs more
//! than all that is copied of it.

use core::mem::size_of;

use crate::cgroup::CgroupIdOffsets;

/// Trees beside the primary one, over whose cgroups the program iterates.
pub const TREES: usize = 5;
/// Objects that a cgroup points to, of all trees together.
pub const OBJECTS: usize = 8;
/// Runs of words that the program reads, of all objects together.
pub const SPANS: usize = 32;
/// Maximum number of words of a run.
pub const SPAN_WORDS: usize = 16;
/// Maximum number of words that the program reads of a `css_set`.
pub const SET_WORDS: usize = 24;
/// Words of a record.
pub const WORDS: usize = 48;
/// Index in a record of the cgroup id in the primary tree, the inode number of its directory. The unique serial number follows.
pub const ID: usize = 0;
/// Index in a record of a bit per object that this cgroup has, and of [`HAS_CPUS`], [`HAS_DEVICES`] and [`HAS_STATS`]. A
/// controller that is not enabled has no object.
pub const HAS: usize = 2;
/// Index in a record of a digest of all limits: it changes when a limit does.
pub const LIMITS: usize = 3;
/// Index in a record of the ids and serial numbers of its processes' cgroups in the other trees, 0 without processes. The words
/// that the plan copies follow.
pub const OTHER_IDS: usize = 4;
/// Maximum number of words behind `memory.stat`.
pub const STATS: usize = 96;
/// Maximum number of block devices of a cgroup; with more of them, user space reads the file.
pub const DEVICES: usize = 4;
/// Maximum number of CPUs.
pub const CPUS: usize = 1024;
/// Ends the list of CPU bases.
pub const LAST_CPU: u64 = u64::MAX;
/// Words of `struct bpf_map` to copy, among which is the address of its values.
pub const MAP_WORDS: usize = 96;

/// Bit at [`HAS`]: the cgroup has CPU time of v1.
pub const HAS_CPUS: u64 = 1 << 61;
/// Bit at [`HAS`]: the cgroup has block I/O of v2.
pub const HAS_DEVICES: u64 = 1 << 62;
/// Bit at [`HAS`]: the cgroup has the counters behind `memory.stat`.
pub const HAS_STATS: u64 = 1 << 63;

/// Offset of a member that is not needed, or that this kernel does not have.
pub const NONE: u32 = u32::MAX;
/// Offset of a pointer that leads to the cgroup itself.
pub const ITSELF: u32 = u32::MAX - 1;

/// `struct bpf_iter__cgroup`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// `struct bpf_iter_meta`.
    pub meta: *const u8,
    /// Null after the last.
    pub cgroup: *const u8,
}

/// The counters of one cgroup.
pub type Record = [u64; WORDS];

/// The counters behind `memory.stat` of one cgroup, as the kernel stores them.
pub type Stats = [u64; STATS];

/// Block I/O of one cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devices {
    /// How many devices the cgroup has used. Above [`DEVICES`], some are missing here.
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

/// What to copy. User space sets it before loading, so that the verifier sees constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `cgroup_subsys_state.flags`
    pub flags: u32,
    /// `cgroup_subsys_state.serial_nr`
    pub serial: u32,
    /// `cgroup_subsys_state.cgroup`
    pub cgroup: u32,
    /// `cgroup.self`
    pub itself: u32,
    /// Where a cgroup's id is.
    pub id_offsets: CgroupIdOffsets,
    /// Where the `css_set` of a cgroup's processes is.
    pub set: SetPlan,
    /// The other trees.
    pub trees: [Tree; TREES],
    /// The objects.
    pub objects: [Object; OBJECTS],
    /// The words of the objects, in the order of the objects.
    pub spans: [Span; SPANS],
    /// `memory.stat`, of the primary tree.
    pub stats: StatsPlan,
    /// CPU time of v1.
    pub cpus: CpusPlan,
    /// Block I/O of v2.
    pub devices: DevicesPlan,
}

/// Where the `css_set` is: the kernel has one for all processes that are in the same cgroups, and it leads to the cgroups of
/// all trees.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPlan {
    /// `cgroup.cset_links`; [`NONE`] where there is only one tree.
    pub links: u32,
    /// `cgrp_cset_link.cset_link`
    pub link: u32,
    /// `cgrp_cset_link.cset`
    pub set: u32,
    /// Words of `css_set` to read, at most [`SET_WORDS`].
    pub words: u32,
}

/// A tree beside the primary one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Index of the word of a `css_set` that points to a `cgroup_subsys_state` (v1) or to the cgroup (v2); [`NONE`] where there
    /// is no such tree.
    pub word: u32,
    /// Whether the word points to the cgroup.
    pub is_cgroup: u16,
    /// Whether the plan copies anything that only the cgroup itself leads to.
    pub needs_cgroup: u16,
}

/// Where the pointer to an object is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The object that holds the pointer: 0 for the cgroup of the primary tree, the number of another tree for its cgroup, or
    /// [`IN_SET`].
    pub base: u16,
    /// Whether it points to the `cgroup_subsys_state` of a controller that may not be enabled (v2).
    pub is_css: u16,
    /// Offset in `struct cgroup`, or [`ITSELF`], or index of a word of the `css_set`. [`NONE`] where it is not needed.
    pub at: u32,
}

/// Base of a pointer in a `css_set`.
pub const IN_SET: u16 = u16::MAX;

/// An object that a cgroup points to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub pointer: Pointer,
    /// How many runs of its words to read.
    pub spans: u32,
}

/// A run of adjacent words of an object.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset in the object.
    pub offset: u32,
    /// Number of words, at most [`SPAN_WORDS`].
    pub words: u16,
    /// Index in the record to copy them to; 0 for limits, which go into the digest instead.
    pub to: u16,
}

/// Where `memory.stat`'s counters are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsPlan {
    /// Where the pointer to the `mem_cgroup` is.
    pub pointer: Pointer,
    /// `mem_cgroup.vmstats`
    pub vmstats: u32,
    /// Bytes to copy, at most those of [`Stats`].
    pub bytes: u32,
}

/// Where CPU time of v1 is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpusPlan {
    /// Where the pointer to the `cpuacct` is.
    pub pointer: Pointer,
    /// `cpuacct.cpuusage`
    pub usage: u32,
    /// Number of CPUs that there may be, at most [`CPUS`].
    pub count: u32,
    /// Index of the sum in the record.
    pub to: u32,
}

/// Where block I/O of v2 is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicesPlan {
    /// Where the pointer to the `blkcg` is.
    pub pointer: Pointer,
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

impl Pointer {
    /// A pointer that is not needed.
    pub const UNSET: Self = Self { base: 0, is_css: 0, at: NONE };

    /// Returns whether the plan needs it.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        self.at != NONE
    }
}

impl Plan {
    /// A plan that copies nothing.
    pub const EMPTY: Self = Self {
        flags: 0,
        serial: 0,
        cgroup: 0,
        itself: 0,
        id_offsets: CgroupIdOffsets::UNSET,
        set: SetPlan { links: NONE, link: 0, set: 0, words: 0 },
        trees: [Tree { word: NONE, is_cgroup: 0, needs_cgroup: 0 }; TREES],
        objects: [Object { pointer: Pointer::UNSET, spans: 0 }; OBJECTS],
        spans: [Span { offset: 0, words: 0, to: 0 }; SPANS],
        stats: StatsPlan { pointer: Pointer::UNSET, vmstats: 0, bytes: 0 },
        cpus: CpusPlan { pointer: Pointer::UNSET, usage: 0, count: 0, to: 0 },
        devices: DevicesPlan {
            pointer: Pointer::UNSET,
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
    let members = 24 + 16 + 8 * TREES + 12 * OBJECTS + 8 * SPANS + 16 + 20 + 40;
    assert!(size_of::<Plan>() == members, "Plan has no padding");
};
