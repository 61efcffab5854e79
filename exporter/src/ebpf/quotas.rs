//! The maps with which the programs enforce a quota of table entries per container. `exporter-ebpf/src/owners.rs` has the rules.

use std::collections::{HashMap, HashSet};

use aya::Ebpf;
use aya::maps::{HashMap as KernelMap, MapData};
use exporter_ebpf::owners::{Ancestors, UNOWNED};

use super::error::Unsupported;
use super::loader::{Loader, map, refused_map};

/// A flag of `BPF_MAP_UPDATE_ELEM`: leaves an existing entry unchanged.
const BPF_NOEXIST: u64 = 1;

type Map = KernelMap<MapData, u64, u64>;

/// Names of the maps in their object.
pub(super) struct Names {
    pub(super) owners: &'static str,
    pub(super) charges: &'static str,
    pub(super) members: &'static str,
}

/// The names of the quota maps of one object.
macro_rules! quota_maps {
    ($word:literal) => {
        $crate::ebpf::quotas::Names {
            owners: concat!($word, "_OWNERS"),
            charges: concat!($word, "_CHARGES"),
            members: concat!($word, "_MEMBERS"),
        }
    };
}
pub(super) use quota_maps;

/// The quota maps of one table.
pub(super) struct Quotas {
    owners: Map,
    charges: Map,
    members: Map,
    /// A copy of the map of owners, as last written.
    written: HashMap<u64, u64>,
}

impl Quotas {
    /// Takes the maps from an object whose programs are loaded.
    ///
    /// # Errors
    /// The object does not have the maps, or the kernel refuses an entry.
    pub(super) fn take(object: &mut Ebpf, names: &Names) -> Result<Self, Unsupported> {
        let mut charges: Map = map(object, names.charges)?;
        charges.insert(UNOWNED, 0, 0).map_err(|error| refused_map("the kernel does not take an entry", &error))?;
        let (owners, members) = (map(object, names.owners)?, map(object, names.members)?);
        Ok(Self { owners, charges, members, written: HashMap::new() })
    }

    /// Writes the containers and the cgroups that hold them into the map of owners. A container that finds no room there counts
    /// as unowned.
    pub(super) fn publish(&mut self, owners: &HashMap<u64, u64>) {
        for id in self.written.keys().filter(|id| !owners.contains_key(id)) {
            // The entry is missing if the map was full.
            _ = self.owners.remove(id);
            _ = self.charges.remove(id);
        }
        for (id, written) in owners.iter().filter(|(id, written)| self.written.get(id) != Some(written)) {
            // An existing entry keeps its charges.
            _ = self.charges.insert(id, 0, BPF_NOEXIST);
            _ = self.owners.insert(id, written, 0);
        }
        self.written.clone_from(owners);
    }

    /// Returns the owner of a nested cgroup that has entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.members.get(&cgroup, 0).ok()
    }

    /// Removes nested cgroups that ended, and sets the number of entries that belong to no container.
    pub(super) fn forget_ended(&mut self, ended: &HashSet<u64>, unowned: usize) {
        for id in ended {
            _ = self.members.remove(id);
        }
        _ = self.charges.insert(UNOWNED, u64::try_from(unowned).unwrap_or(u64::MAX), 0);
    }
}

/// Looks up the offsets of a cgroup's ancestors in the running kernel's BTF.
///
/// # Errors
/// The kernel's types have no such members.
pub(super) fn ancestors(loader: &Loader) -> Result<Ancestors, Unsupported> {
    Ok(Ancestors { level: loader.offset("cgroup", "level")?, ancestors: loader.offset("cgroup", "ancestors")? })
}
