//! How long tasks wait for a CPU, per cgroup, as `bin/sched.rs` counts it at each context switch.

use core::mem::{offset_of, size_of};

use crate::latency::Histogram;

/// What one CPU has observed for one cgroup.
///
/// The table of slots is one array, CPU by CPU: [`Layout`] says where. Context switches are too many to share anything.
/// A CPU is the only one that writes to its slots, and nothing interrupts a switch, so that plain additions do.
///
/// `owner` is the state of a slot: [`FREE`], [`RETIRED`], or the id of the cgroup that it counts. Only the kernel turns
/// FREE into an owner, only user space retires an owner and, a scrape later when no program can still be writing, frees
/// the slot. So nobody ever inherits counts.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whose slot it is.
    pub owner: u64,
    /// From being runnable to running, each time.
    pub latency: Histogram,
}

/// A [`Slot::owner`] that is nobody. No cgroup has this id.
pub const FREE: u64 = 0;
/// A [`Slot::owner`] that is gone. No cgroup has this id.
pub const RETIRED: u64 = u64::MAX;
/// Slots of a set: a cgroup may use any of the slots of its set, tried in order.
pub const WAYS: u32 = 2;

/// Shape of the table of slots, told to the program before it is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// CPUs that the kernel may ever have.
    pub cpus: u32,
    /// Binary logarithm of the number of sets per CPU, 1 to 16.
    pub set_bits: u32,
}

impl Layout {
    /// Number of slots of the whole table.
    #[must_use]
    pub const fn slots(self) -> u32 {
        (self.cpus * WAYS) << self.set_bits
    }

    /// The first slot of a cgroup's set.
    #[must_use]
    #[inline]
    pub const fn set(self, cpu: u32, cgroup: u64) -> u32 {
        let hash = (cgroup.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32;
        ((cpu << self.set_bits) + (hash >> (16 - self.set_bits))) * WAYS
    }
}

/// Where the running kernel keeps what the program follows: byte offsets, from the kernel's BTF.
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
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
}

const _: () = {
    assert!(size_of::<Slot>() == 192 && offset_of!(Slot, latency) == 8, "Slot is part of a kernel map's layout");
    assert!(size_of::<Layout>() == 8 && size_of::<Offsets>() == 32);
};

#[cfg(test)]
mod tests {
    use super::{Layout, WAYS};

    #[test]
    fn every_set_is_inside_the_part_of_its_cpu() {
        let layout = Layout { cpus: 3, set_bits: 5 };
        assert_eq!(layout.slots(), 3 * 2 * 32);
        for cpu in 0..3 {
            let part = cpu * WAYS * 32..(cpu + 1) * WAYS * 32;
            for cgroup in [1, 2, 48, 4_294_967_299, u64::MAX - 1] {
                assert!(part.contains(&layout.set(cpu, cgroup)));
            }
        }
    }
}
