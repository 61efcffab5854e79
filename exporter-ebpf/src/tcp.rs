//! TCP retransmissions per cgroup, as `bin/tcp.rs` counts them.

use core::mem::size_of;

use crate::cgroup::CgroupIdOffsets;

/// Byte offsets of the members that the program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sock.sk_cgrp_data.cgroup`
    pub sock_cgroup: u32,
    /// Where a cgroup's id is.
    pub id_offsets: CgroupIdOffsets,
}

const _: () = assert!(size_of::<Offsets>() == 12);
