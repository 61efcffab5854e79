//! Decides which cgroup's entry an event counts in. A container can make as many cgroups as it likes, so the cgroups below it
//! have a quota of entries of their own. Beyond the quota they count in the container's entry, where user space adds them
//! up in any case.
//!
//! User space writes the containers, and the cgroups that directly hold containers, into the map of owners. A cgroup that is
//! not in the map, but directly below one that holds containers, is a container that user space has not seen yet.

use core::mem::size_of;

/// Capacity of each of the maps that enforce the quotas. They take memory only for the entries in use.
pub const OWNERS: u32 = 16_384;
/// Levels of the tree that the search for an owner covers, from the first below the root.
pub const LEVELS: u32 = 10;
/// Value in the map of owners of a cgroup that directly holds containers. A container's value is its payer: the id of the
/// outermost container that it is in, or its own.
pub const PARENT: u64 = u64::MAX;
/// Payer of the entries of cgroups that belong to no known container.
pub const UNOWNED: u64 = 0;
/// Entries that the nested cgroups of one payer may have for each shard of a table.
pub const PER_SHARD: u64 = 32;
/// Entries that the nested cgroups of one payer may have in all shards together.
pub const MAX_NESTED: u64 = 2048;
/// Entries of a table that [`UNOWNED`] pays for.
pub const MAX_UNOWNED: u64 = 4096;

/// Entries that remain for a container's own cgroup (one for each device, say) after the cgroups below it have used up theirs.
pub const MAX_OWN: u64 = 256;
/// Entries of a nested container's own cgroup that the outer container does not pay for.
pub const MAX_NESTED_OWN: u64 = 16;

/// Entries up to which a container's own cgroup gets another one. `payer` is the outermost container that it is in.
#[must_use]
#[inline]
pub const fn own_quota(container: u64, payer: u64, shards: u32) -> u64 {
    if container == payer { quota(payer, shards) + MAX_OWN } else { MAX_NESTED_OWN }
}

/// Entries that a payer may have in a table of `shards` shards.
#[must_use]
#[inline]
pub const fn quota(payer: u64, shards: u32) -> u64 {
    let own = shards as u64 * PER_SHARD;
    match payer {
        UNOWNED => MAX_UNOWNED,
        _ if own < MAX_NESTED => own,
        _ => MAX_NESTED,
    }
}

/// The search for the owner of a cgroup, from the root down to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// The innermost container so far, 0 for none.
    pub owner: u64,
    /// The payer of cgroups below the owner.
    pub payer: u64,
    is_in_parent: bool,
}

impl Search {
    /// Above the first level.
    pub const BEGIN: Self = Self { owner: 0, payer: UNOWNED, is_in_parent: false };

    /// Takes the ancestor at the next level and its value in the map of owners, 0 for none.
    #[inline]
    pub fn step(&mut self, id: u64, value: u64) {
        if value == PARENT {
            self.is_in_parent = true;
            return;
        }
        if value != 0 {
            self.owner = id;
            self.payer = value;
        } else if self.is_in_parent {
            self.owner = id;
            self.payer = UNOWNED;
        }
        self.is_in_parent = false;
    }
}

/// Where the running kernel keeps the ancestors of a cgroup: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestors {
    /// `cgroup.level`
    pub level: u32,
    /// `cgroup.ancestors`
    pub ancestors: u32,
}

impl Ancestors {
    /// Placeholder until user space sets the offsets. Not zero: the compiler merges equal constants, so that a zero which a
    /// program inserts into a map would change along with the offsets.
    pub const UNSET: Self = Self { level: u32::MAX, ancestors: u32::MAX };
}

const _: () = assert!(size_of::<Ancestors>() == 8);

#[cfg(test)]
mod tests {
    use super::{MAX_NESTED_OWN, MAX_OWN, MAX_UNOWNED, PARENT, Search, UNOWNED, own_quota, quota};

    /// Owner and payer of the last of these ids, which are given from the first level on with their values in the map.
    fn search(path: &[(u64, u64)]) -> (u64, u64) {
        let mut search = Search::BEGIN;
        for (id, value) in path {
            search.step(*id, *value);
        }
        (search.owner, search.payer)
    }

    #[test]
    fn the_innermost_container_owns_and_the_outermost_pays() {
        assert_eq!(search(&[(1, PARENT), (10, 10), (11, 0), (12, 0)]), (10, 10));
        assert_eq!(search(&[(1, PARENT), (10, 10), (11, 0), (20, 10), (21, 0)]), (20, 10));
    }

    #[test]
    fn a_cgroup_where_containers_are_is_taken_for_one() {
        assert_eq!(search(&[(1, PARENT), (30, 0), (31, 0), (32, 0)]), (30, UNOWNED));
        assert_eq!(search(&[(1, 0), (2, 0)]), (0, UNOWNED));
        assert_eq!(search(&[(1, 0), (2, PARENT), (3, PARENT), (4, 4)]), (4, 4));
    }

    #[test]
    fn no_payer_takes_a_table_whole() {
        assert_eq!([quota(7, 4), quota(7, 1024), quota(UNOWNED, 4)], [128, 2048, MAX_UNOWNED]);
    }

    #[test]
    fn a_container_itself_gets_entries_when_cgroups_below_have_taken_theirs() {
        assert_eq!(own_quota(7, 7, 16), quota(7, 16) + MAX_OWN);
        assert_eq!(own_quota(8, 7, 16), MAX_NESTED_OWN);
    }
}
