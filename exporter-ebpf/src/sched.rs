//! How long tasks wait for a CPU, per cgroup, as `bin/sched.rs` counts it at each context switch.

use core::mem::{offset_of, size_of};

use crate::cgroup::CgroupIdOffsets;
use crate::latency::Histogram;

/// Latencies of one cgroup on one CPU.
///
/// Each CPU has a shard of the table: context switches are too many to share anything. A CPU is the only one that writes to
/// its slots, and nothing interrupts a switch, so that plain additions suffice.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The state of the slot. The key is the id of the cgroup.
    pub state: u64,
    /// Times from being runnable to running.
    pub latency: Histogram,
}

/// Byte offsets of the members that the program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.sched_info.last_queued`
    pub task_queued: u32,
    /// `task_struct.se.cfs_rq`
    pub task_queue: u32,
    /// `cfs_rq.rq`
    pub queue_rq: u32,
    /// `rq.clock`
    pub rq_clock: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub set_cgroup: u32,
    /// Where a cgroup's id is.
    pub id_offsets: CgroupIdOffsets,
}

const _: () = {
    assert!(size_of::<Slot>() == 192 && offset_of!(Slot, latency) == 8, "Slot is part of a kernel map's layout");
    assert!(size_of::<Offsets>() == 32);
};
