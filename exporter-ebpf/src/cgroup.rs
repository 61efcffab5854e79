//! Where a program finds the id of a cgroup, which is the inode number of its directory.

use core::mem::size_of;

/// Offsets of the members that lead from a `struct cgroup` to its id, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupIdOffsets {
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
}

impl CgroupIdOffsets {
    /// Placeholder until user space sets the offsets.
    pub const UNSET: Self = Self { kn: u32::MAX, kn_id: u32::MAX };
}

const _: () = assert!(size_of::<CgroupIdOffsets>() == 8);
