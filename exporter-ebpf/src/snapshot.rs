//! What the counters of every cgroup are at one moment, as `bin/snapshot.rs` copies them: one run of a cgroup iterator in
//! place of one read per file and container.
//!
//! The program knows no counter by name. User space finds out where the running kernel keeps each of them, and hands in a
//! [`Plan`]: objects that a cgroup points to, and the words to copy of each. So one program serves v1 and v2, and a member that
//! a kernel lacks costs only itself. Where there are several trees, one is walked, and the cgroups of the others are found
//! by the processes that are in both: going from cgroup to cgroup costs more than all that is copied of one.

use core::mem::size_of;

use crate::cgroup::Way;

/// Trees beside the one whose cgroups are walked.
pub const TREES: usize = 5;
/// Objects that hang off a cgroup, of all trees together.
pub const OBJECTS: usize = 8;
/// Runs of words that are looked at, of all objects together.
pub const SPANS: usize = 32;
/// Words of a run, at most.
pub const SPAN_WORDS: usize = 16;
/// Words that are looked at of what the kernel keeps of processes which are in the same cgroups.
pub const SET_WORDS: usize = 24;
/// Words of a record.
pub const WORDS: usize = 48;
/// The words of a record: first the cgroup of the tree that is walked, which is the inode number of its directory, and its
/// serial number, which no other ever has.
pub const ID: usize = 0;
/// Then a bit per object that this cgroup has, and [`HAS_CPUS`] and its kin: a controller that is not enabled here has none.
pub const HAS: usize = 2;
/// Then a digest of the members that are limits: another one tells that some limit has changed.
pub const LIMITS: usize = 3;
/// Then, as the first two, the cgroups of the other trees in which its processes are, as many as the plan has, 0 where
/// it has no processes. Then what the plan puts there.
pub const OTHER_IDS: usize = 4;
/// Words of `memory.stat`'s counters that are copied.
pub const STATS: usize = 96;
/// Block devices of a cgroup that are copied; with more of them, the file has to be read.
pub const DEVICES: usize = 4;
/// CPUs that are added up.
pub const CPUS: usize = 1024;
/// Instead of the base of a CPU: there are no more.
pub const LAST_CPU: u64 = u64::MAX;
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

/// `struct bpf_iter__cgroup`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// What all iterators are told.
    pub meta: *const u8,
    /// Null after the last.
    pub cgroup: *const u8,
}

/// The counters of one cgroup.
pub type Record = [u64; WORDS];

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
    /// `cgroup_subsys_state.flags`
    pub flags: u32,
    /// `cgroup_subsys_state.serial_nr`
    pub serial: u32,
    /// `cgroup_subsys_state.cgroup`
    pub cgroup: u32,
    /// `cgroup.self`
    pub itself: u32,
    /// From a cgroup to its id.
    pub way: Way,
    /// The way to a cgroup's processes.
    pub set: SetPlan,
    /// The other trees.
    pub trees: [Tree; TREES],
    /// The objects.
    pub objects: [Object; OBJECTS],
    /// Their words, those of the first object first.
    pub spans: [Span; SPANS],
    /// `memory.stat`, of the tree that is walked.
    pub stats: StatsPlan,
    /// CPU time of v1.
    pub cpus: CpusPlan,
    /// Block I/O of v2.
    pub devices: DevicesPlan,
}

/// What the kernel keeps of processes that are in the same cgroups: a `css_set`, from which those of all trees are reached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPlan {
    /// `cgroup.cset_links`; [`NONE`] where there is but one tree.
    pub links: u32,
    /// `cgrp_cset_link.cset_link`
    pub link: u32,
    /// `cgrp_cset_link.cset`
    pub set: u32,
    /// Words of `css_set` to look at, at most [`SET_WORDS`].
    pub words: u32,
}

/// Another tree than the one that is walked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The word of a `css_set` that points to a controller's part of its cgroup (v1), or to the cgroup (v2); [`NONE`] where
    /// there is no such tree.
    pub word: u32,
    /// Whether it points to the cgroup.
    pub is_cgroup: u16,
    /// Whether anything is wanted that only the cgroup itself leads to.
    pub needs_cgroup: u16,
}

/// Where the pointer to an object is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// In whose cgroup: 0 in that of the tree that is walked, then those of the other trees; or [`IN_SET`].
    pub base: u16,
    /// Whether it is to a controller's part of a cgroup that may not be enabled there (v2).
    pub is_part: u16,
    /// Where in `struct cgroup`, or [`ITSELF`]; or which word of the `css_set`. [`NONE`] where it is not wanted.
    pub at: u32,
}

/// The base of a pointer that is in a `css_set`.
pub const IN_SET: u16 = u16::MAX;

/// An object that a cgroup points to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub pointer: Pointer,
    /// How many runs of words of it are looked at.
    pub spans: u32,
}

/// Words of an object that lie side by side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where they are.
    pub offset: u32,
    /// How many, at most [`SPAN_WORDS`].
    pub words: u16,
    /// Where in the record they go; 0 for limits, which are folded into the digest instead of being copied.
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
    /// How many CPUs there may be, at most [`CPUS`].
    pub count: u32,
    /// Where in the record the sum goes.
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
    /// To nothing.
    pub const NOWHERE: Self = Self { base: 0, is_part: 0, at: NONE };

    /// Whether it is wanted.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        self.at != NONE
    }
}

impl Plan {
    /// Copies nothing.
    pub const NOTHING: Self = Self {
        flags: 0,
        serial: 0,
        cgroup: 0,
        itself: 0,
        way: Way::UNSET,
        set: SetPlan { links: NONE, link: 0, set: 0, words: 0 },
        trees: [Tree { word: NONE, is_cgroup: 0, needs_cgroup: 0 }; TREES],
        objects: [Object { pointer: Pointer::NOWHERE, spans: 0 }; OBJECTS],
        spans: [Span { offset: 0, words: 0, to: 0 }; SPANS],
        stats: StatsPlan { pointer: Pointer::NOWHERE, vmstats: 0, bytes: 0 },
        cpus: CpusPlan { pointer: Pointer::NOWHERE, usage: 0, count: 0, to: 0 },
        devices: DevicesPlan {
            pointer: Pointer::NOWHERE,
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
    let parts = 24 + 16 + 8 * TREES + 12 * OBJECTS + 8 * SPANS + 16 + 20 + 40;
    assert!(size_of::<Plan>() == parts, "no padding that nobody names");
};
