//! Whose a name is where series have a name and no id: in the predecessor's schema.
//!
//! Names are unique among the containers of one engine, but a removed container lingers beside the one that has taken its
//! name, events of a rename may be on their way, and long names are cut.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::discover::ContainerId;
use crate::name::ContainerInfo;

/// The owner of each name, by the name's hash. Its memory is used again in each pass.
#[derive(Debug, Default)]
pub(super) struct NameOwners {
    hasher: RandomState,
    owners: HashMap<u64, Claim>,
}

/// What decides, the most important first: who runs, who exists, who belongs to the first engine, who came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    runs: bool,
    exists: bool,
    engine: Reverse<usize>,
    removed: Option<Instant>,
    started_ns: Option<u64>,
    created_ns: Option<u64>,
    id: ContainerId,
}

impl NameOwners {
    /// Forgets the owners of the last pass.
    pub(super) fn begin(&mut self) {
        self.owners.clear();
    }

    /// Enters a container of an engine, given by its index, for the container's name.
    pub(super) fn claim(&mut self, info: &ContainerInfo, engine: usize, runs: bool) {
        let claim = Claim {
            runs,
            exists: info.removed.is_none(),
            engine: Reverse(engine),
            removed: info.removed.map(|moment| moment.at),
            started_ns: info.started_ns,
            created_ns: info.created_ns,
            id: info.id,
        };
        let owner = self.owners.entry(self.hasher.hash_one(&info.name)).or_insert(claim);
        *owner = claim.max(*owner);
    }

    /// Whether the container's name is its own; one without a name has no name to share.
    pub(super) fn owns(&self, info: &ContainerInfo) -> bool {
        info.name.is_empty()
            || self.owners.get(&self.hasher.hash_one(&info.name)).is_none_or(|owner| owner.id == info.id)
    }
}
