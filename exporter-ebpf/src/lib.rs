//! What the kernel side and the user side of the eBPF collectors must agree on: the records of their maps.
//!
//! A record is written by a program inside the kernel and read by the exporter, so its layout is part of the
//! interface: `repr(C)`, no padding that nobody names, sizes and offsets asserted at compile time on both sides.
//! This crate has no dependency and no code that runs; it builds for the host and for the kernel's virtual machine.
//!
//! The programs themselves are not here yet, and nothing loads one. They come with the eBPF collectors
//! (`ebpf_network` first, which is what [`NetKey`] and [`NetCounters`] are for).

#![no_std]

use core::mem::{offset_of, size_of};

/// Which counters: one cgroup, one address family. Key of the network map.
///
/// There is no direction in the key: a cgroup that receives also sends, so both live in one [`NetCounters`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetKey {
    /// The kernel's id of the cgroup in the v2 hierarchy: the inode number of its directory.
    pub cgroup_id: u64,
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`]. An integer, not an enum: it comes out of the kernel unchecked.
    pub family: u32,
    /// Always 0. The kernel compares keys byte by byte, so the tail must have a name and a value.
    pub reserved: u32,
}

impl NetKey {
    /// The key of a cgroup's traffic in one address family.
    #[must_use]
    pub const fn new(cgroup_id: u64, family: u32) -> Self {
        Self { cgroup_id, family, reserved: 0 }
    }
}

/// IPv4, in [`NetKey::family`]. The IP version, not an `AF_` constant, which differs between operating systems.
pub const FAMILY_IPV4: u32 = 4;
/// IPv6, in [`NetKey::family`].
pub const FAMILY_IPV6: u32 = 6;

/// What one CPU has counted for a [`NetKey`]. The counts of all CPUs add up to the counter that is exposed.
///
/// Bytes are those of the IP packet, without the link layer's header: 14 bytes a packet less than an Ethernet
/// interface counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received, as they were on the wire (a buffer that the kernel has merged counts its segments).
    pub receive_packets: u64,
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Packets sent, counted as [`NetCounters::receive_packets`].
    pub transmit_packets: u64,
}

const _: () = {
    assert!(size_of::<NetKey>() == 16, "NetKey is part of a kernel map's layout");
    assert!(offset_of!(NetKey, family) == 8 && offset_of!(NetKey, reserved) == 12);
    assert!(size_of::<NetCounters>() == 32, "NetCounters is part of a kernel map's layout");
    assert!(offset_of!(NetCounters, transmit_packets) == 24);
};

#[cfg(test)]
mod tests {
    use super::{FAMILY_IPV4, FAMILY_IPV6, NetKey};

    #[test]
    fn the_tail_of_a_key_is_zero_so_that_equal_keys_have_equal_bytes() {
        assert_eq!(NetKey::new(7, FAMILY_IPV4), NetKey { cgroup_id: 7, family: 4, reserved: 0 });
        assert_ne!(NetKey::new(7, FAMILY_IPV4), NetKey::new(7, FAMILY_IPV6));
    }
}
