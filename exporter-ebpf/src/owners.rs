//! Whose entry a count goes to: cgroups below a container get entries of their own only up to a bound, as a container can make
//! as many cgroups as it likes. Beyond it their counts go to the container's entry, which is where they are added up in any case.
//!
//! User space tells the programs of containers and of the cgroups that these are in (the map of owners). A cgroup of which it
//! has not told yet is taken for a container where it is directly in one of the latter.

use core::mem::size_of;

/// Entries of each of the maps by which a table is shared out. They hold memory only for what is in them.
pub const OWNERS: u32 = 16_384;
/// Levels of the tree at which owners are looked for, from the first below the root.
pub const LEVELS: u32 = 10;
/// In the map of owners: containers are directly in this cgroup. For a container its payer is there: the id of the outermost
/// container that it is in, or its own.
pub const PARENT: u64 = u64::MAX;
/// Who pays for entries of cgroups that are no known container's.
pub const STRANGERS: u64 = 0;
/// Entries that one payer's nested cgroups take of a table, for each of its parts.
pub const PER_PART: u64 = 32;
/// And in all.
pub const MOST: u64 = 2048;
/// Entries that strangers take of a table.
pub const MOST_STRANGERS: u64 = 4096;

/// Entries that a container's own cgroup takes, where it may have any number of them, when the cgroups below have taken all of theirs.
pub const OWN: u64 = 256;
/// Entries of the own cgroup of a container in another one that this one does not pay for.
pub const NESTED_OWN: u64 = 16;

/// Entries that an account has when a container's own cgroup may still get one: that of the container itself, where it has
/// one for each device. `payer` is the outermost container that it is in.
#[must_use]
#[inline]
pub const fn own_bound(container: u64, payer: u64, parts: u32) -> u64 {
    if container == payer { bound(payer, parts) + OWN } else { NESTED_OWN }
}

/// Entries that a payer may have in a table of so many parts.
#[must_use]
#[inline]
pub const fn bound(payer: u64, parts: u32) -> u64 {
    let own = parts as u64 * PER_PART;
    match payer {
        STRANGERS => MOST_STRANGERS,
        _ if own < MOST => own,
        _ => MOST,
    }
}

/// The search for the owner of a cgroup, from the root down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// The innermost container so far; 0 where there is none.
    pub owner: u64,
    /// Who pays for what is below it.
    pub payer: u64,
    is_in_parent: bool,
}

impl Search {
    /// Above the first level.
    pub const BEGIN: Self = Self { owner: 0, payer: STRANGERS, is_in_parent: false };

    /// Takes in the ancestor at the next level, and what the map of owners says of it; 0 where it says nothing.
    #[inline]
    pub fn step(&mut self, id: u64, told: u64) {
        if told == PARENT {
            self.is_in_parent = true;
            return;
        }
        if told != 0 {
            self.owner = id;
            self.payer = told;
        } else if self.is_in_parent {
            self.owner = id;
            self.payer = STRANGERS;
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
    /// Before user space has set it. Not zero: the compiler keeps equal constants once, and a zero that a program inserts into a
    /// map would become what user space sets here.
    pub const UNSET: Self = Self { level: u32::MAX, ancestors: u32::MAX };
}

const _: () = assert!(size_of::<Ancestors>() == 8);

#[cfg(test)]
mod tests {
    use super::{MOST_STRANGERS, NESTED_OWN, OWN, PARENT, STRANGERS, Search, bound, own_bound};

    /// The outcome of ids from the first level on, each with what is told of it.
    fn search(path: &[(u64, u64)]) -> (u64, u64) {
        let mut search = Search::BEGIN;
        for (id, told) in path {
            search.step(*id, *told);
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
        assert_eq!(search(&[(1, PARENT), (30, 0), (31, 0), (32, 0)]), (30, STRANGERS));
        assert_eq!(search(&[(1, 0), (2, 0)]), (0, STRANGERS));
        assert_eq!(search(&[(1, 0), (2, PARENT), (3, PARENT), (4, 4)]), (4, 4));
    }

    #[test]
    fn no_payer_takes_a_table_whole() {
        assert_eq!([bound(7, 4), bound(7, 1024), bound(STRANGERS, 4)], [128, 2048, MOST_STRANGERS]);
    }

    #[test]
    fn a_container_itself_gets_entries_when_cgroups_below_have_taken_theirs() {
        assert_eq!(own_bound(7, 7, 16), bound(7, 16) + OWN);
        assert_eq!(own_bound(8, 7, 16), NESTED_OWN);
    }
}
