//! The way from a cgroup to its id, which is the number of its directory: every program that is not told the id goes it.

use core::mem::size_of;

/// Where the running kernel keeps what is on the way: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub kn_id: u32,
}

impl Way {
    /// Until user space has set it.
    pub const UNSET: Self = Self { kn: u32::MAX, kn_id: u32::MAX };
}

const _: () = assert!(size_of::<Way>() == 8);
