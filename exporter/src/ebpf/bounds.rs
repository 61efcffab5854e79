//! The maps by which the programs share a table out among containers, so that none takes it whole. The rules stand in
//! `exporter-ebpf/src/owners.rs`.

use std::collections::{HashMap, HashSet};

use aya::Ebpf;
use aya::maps::{HashMap as KernelMap, MapData};
use exporter_ebpf::owners::{Ancestors, STRANGERS};

use super::facts::Unsupported;
use super::loader::{Loader, map, refused_map};

/// A flag of `BPF_MAP_UPDATE_ELEM`: leaves an entry alone that there is.
const BPF_NOEXIST: u64 = 1;

type Map = KernelMap<MapData, u64, u64>;

/// Names of the maps in their object.
pub(super) struct Names {
    pub(super) owners: &'static str,
    pub(super) paid: &'static str,
    pub(super) members: &'static str,
}

/// The names that begin with a word.
macro_rules! bounds {
    ($word:literal) => {
        $crate::ebpf::bounds::Names {
            owners: concat!($word, "_OWNERS"),
            paid: concat!($word, "_PAID"),
            members: concat!($word, "_MEMBERS"),
        }
    };
}
pub(super) use bounds;

/// The maps of one table.
pub(super) struct Bounds {
    owners: Map,
    paid: Map,
    members: Map,
    /// What is in the programs' map.
    written: HashMap<u64, u64>,
}

impl Bounds {
    /// Takes them out of an object whose programs are loaded.
    ///
    /// # Errors
    /// It does not have them.
    pub(super) fn take(object: &mut Ebpf, names: &Names) -> Result<Self, Unsupported> {
        let mut paid: Map = map(object, names.paid)?;
        paid.insert(STRANGERS, 0, 0).map_err(|error| refused_map("the kernel does not take an entry", &error))?;
        let (owners, members) = (map(object, names.owners)?, map(object, names.members)?);
        Ok(Self { owners, paid, members, written: HashMap::new() })
    }

    /// Tells the programs which containers there are, and where. An id that the map has no room for is a stranger's.
    pub(super) fn publish(&mut self, owners: &HashMap<u64, u64>) {
        for id in self.written.keys().filter(|id| !owners.contains_key(id)) {
            // It may have had no room.
            _ = self.owners.remove(id);
            _ = self.paid.remove(id);
        }
        for (id, written) in owners.iter().filter(|(id, written)| self.written.get(id) != Some(written)) {
            // What is in the map already keeps what it has paid.
            _ = self.paid.insert(id, 0, BPF_NOEXIST);
            _ = self.owners.insert(id, written, 0);
        }
        self.written.clone_from(owners);
    }

    /// The owner of a nested cgroup that has entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.members.get(&cgroup, 0).ok()
    }

    /// Lets go of nested cgroups, and tells how many entries are strangers' now.
    pub(super) fn settle(&mut self, ended: &HashSet<u64>, strangers: usize) {
        for id in ended {
            _ = self.members.remove(id);
        }
        _ = self.paid.insert(STRANGERS, u64::try_from(strangers).unwrap_or(u64::MAX), 0);
    }
}

/// Where the running kernel keeps the ancestors of a cgroup.
///
/// # Errors
/// Its types do not tell.
pub(super) fn ancestors(loader: &Loader) -> Result<Ancestors, Unsupported> {
    Ok(Ancestors { level: loader.offset("cgroup", "level")?, ancestors: loader.offset("cgroup", "ancestors")? })
}
