//! Traffic per cgroup and address family, as `bin/network.rs` counts it.

use core::mem::{offset_of, size_of};

/// A counter of its own cache line: what one CPU has counted for one cgroup in one address family.
///
/// The table of slots is one array: family by family, and within a family CPU by CPU, [`Layout`] says where. Each CPU
/// owns its slots, so a count is an uncontended atomic addition; atomic all the same, as an interrupt may come between.
///
/// `owner` is the state of a slot: [`FREE`], [`RETIRED`], or the id of the cgroup that it counts. Only the kernel turns
/// FREE into an owner, only user space retires an owner and, a scrape later when no program can still be writing, frees
/// the slot. So nobody ever inherits counts.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whose slot it is.
    pub owner: u64,
    /// What was counted.
    pub counters: Counters,
    /// Always 0: fills the cache line.
    pub reserved: [u64; 3],
}

/// An [`Slot::owner`] that is nobody. No cgroup has this id.
pub const FREE: u64 = 0;
/// A [`Slot::owner`] that is gone. No cgroup has this id.
pub const RETIRED: u64 = u64::MAX;

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

/// Key of the map that takes what found no slot.
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

/// An address family; its number is its place in the table of slots.
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
/// Slots of a set: a cgroup may use any of the slots of its set, tried in order.
pub const WAYS: u32 = 2;

/// Shape of the table of slots, told to the programs before they are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// CPUs that the kernel may ever have.
    pub cpus: u32,
    /// Binary logarithm of the number of sets per CPU and family, 1 to 16.
    pub set_bits: u32,
}

impl Layout {
    /// Number of slots of the whole table.
    #[must_use]
    pub const fn slots(self) -> u32 {
        (FAMILIES * self.cpus * WAYS) << self.set_bits
    }

    /// The first slot of a cgroup's set.
    ///
    /// Ids are inode numbers, and each file of a cgroup takes one: their lowest bits alone would use few of the sets.
    #[must_use]
    #[inline]
    pub const fn set(self, family: Family, cpu: u32, cgroup: u64) -> u32 {
        let hash = (cgroup.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32;
        (((family as u32 * self.cpus + cpu) << self.set_bits) + (hash >> (16 - self.set_bits))) * WAYS
    }
}

const _: () = {
    assert!(size_of::<Slot>() == 64 && offset_of!(Slot, counters) == 8, "Slot is part of a kernel map's layout");
    assert!(size_of::<Counters>() == 32 && offset_of!(Counters, transmit_packets) == 24);
    assert!(size_of::<Key>() == 16 && offset_of!(Key, family) == 8);
    assert!(size_of::<Layout>() == 8);
};

#[cfg(test)]
mod tests {
    use super::{Family, Key, Layout, WAYS};

    #[test]
    fn the_tail_of_a_key_is_zero_so_that_equal_keys_have_equal_bytes() {
        assert_eq!(Key::new(7, Family::Ipv4), Key { cgroup: 7, family: 0, reserved: 0 });
        assert_ne!(Key::new(7, Family::Ipv4), Key::new(7, Family::Ipv6));
    }

    #[test]
    fn every_set_is_inside_its_part_of_the_table() {
        let layout = Layout { cpus: 3, set_bits: 5 };
        assert_eq!(layout.slots(), 2 * 3 * 2 * 32);
        let parts = Family::ALL.iter().flat_map(|family| (0..3).map(move |cpu| (*family, cpu)));
        for ((family, cpu), place) in parts.zip(0_u32..) {
            let part = place * WAYS * 32..(place + 1) * WAYS * 32;
            for cgroup in [1, 2, 48, 4_294_967_299, u64::MAX - 1] {
                let set = layout.set(family, cpu, cgroup);
                assert!(
                    part.contains(&set) && set.is_multiple_of(WAYS),
                    "{set} for {family:?} on {cpu}, part {part:?}"
                );
            }
        }
    }

    #[test]
    fn ids_at_regular_distances_use_many_sets() {
        let layout = Layout { cpus: 1, set_bits: 11 };
        let mut used = [false; 2048 * WAYS as usize];
        (0..1000_u64).for_each(|place| used[layout.set(Family::Ipv4, 0, 4000 + place * 48) as usize] = true);
        assert!(used.iter().filter(|used| **used).count() > 700);
    }
}
