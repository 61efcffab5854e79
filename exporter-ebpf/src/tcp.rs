//! TCP segments sent again, per cgroup, as `bin/tcp.rs` counts them.

use core::mem::size_of;

use crate::cgroup::Way;

/// Where the running kernel keeps what the program follows: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sock.sk_cgrp_data.cgroup`
    pub sock_cgroup: u32,
    /// From the cgroup to its id.
    pub way: Way,
}

const _: () = assert!(size_of::<Offsets>() == 12);
