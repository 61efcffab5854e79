//! Traffic per cgroup and address family, as `bin/network.rs` counts it.

use core::mem::{offset_of, size_of};

/// Counts of one cgroup in one address family on one CPU, on a cache line of its own.
///
/// Each CPU has a shard of the table for each family, in the order of [`shard`]. The additions are atomic,
/// because an interrupt may count in between; they are uncontended.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The state of the slot. The key is the id of the cgroup.
    pub state: u64,
    /// What was counted.
    pub counters: Counters,
    /// Always 0: fills the cache line.
    pub reserved: [u64; 3],
}

/// Counts of one cgroup in one address family.
///
/// Bytes are those of the IP packet, without the link layer's header: 14 bytes a packet less than an Ethernet
/// interface counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received, as they were on the wire (a buffer that the kernel has merged counts its segments).
    pub receive_packets: u64,
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Packets sent, counted as [`Counters::receive_packets`].
    pub transmit_packets: u64,
}

/// Key of the overflow map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kernel's id of the cgroup in the v2 hierarchy: the inode number of its directory.
    pub cgroup: u64,
    /// [`Family`] as a number. An integer, not the enum: it comes out of the kernel unchecked.
    pub family: u32,
    /// Always 0. The kernel compares keys byte by byte, so the tail must have a name and a value.
    pub reserved: u32,
}

impl Key {
    /// The key of a cgroup's traffic in one address family.
    #[must_use]
    pub const fn new(cgroup: u64, family: Family) -> Self {
        Self { cgroup, family: family as u32, reserved: 0 }
    }
}

/// An address family. Its number selects the shard among those of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    Ipv4 = 0,
    /// IPv6.
    Ipv6 = 1,
}

impl Family {
    /// Both.
    pub const ALL: [Self; FAMILIES as usize] = [Self::Ipv4, Self::Ipv6];
}

/// Number of address families.
pub const FAMILIES: u32 = 2;

/// Returns the shard of a CPU for an address family.
#[must_use]
#[inline]
pub const fn shard(cpu: u32, family: Family) -> u32 {
    cpu * FAMILIES + family as u32
}

const _: () = {
    assert!(size_of::<Slot>() == 64 && offset_of!(Slot, counters) == 8, "Slot is part of a kernel map's layout");
    assert!(size_of::<Counters>() == 32 && offset_of!(Counters, transmit_packets) == 24);
    assert!(size_of::<Key>() == 16 && offset_of!(Key, family) == 8);
};

#[cfg(test)]
mod tests {
    use super::{FAMILIES, Family, Key, shard};

    #[test]
    fn the_tail_of_a_key_is_zero_so_that_equal_keys_have_equal_bytes() {
        assert_eq!(Key::new(7, Family::Ipv4), Key { cgroup: 7, family: 0, reserved: 0 });
        assert_ne!(Key::new(7, Family::Ipv4), Key::new(7, Family::Ipv6));
    }

    #[test]
    fn every_cpu_has_a_shard_for_each_family() {
        let shards = (0..3).flat_map(|cpu| Family::ALL.map(|family| shard(cpu, family)));
        assert!(shards.eq(0..3 * FAMILIES));
    }
}
