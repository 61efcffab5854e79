//! Whose a name is where series have a name and no id: in the predecessor's schema.
//!
//! Names are unique among the containers of one engine, but a removed container lingers beside the one that has taken its
//! name, events of a rename may be on their way, and long names are cut.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::discover::ContainerId;
use crate::name::Meta;

/// The owner of each name, by the name's hash. Its memory is used again in each pass.
#[derive(Debug, Default)]
pub(super) struct NameOwners {
    hasher: RandomState,
    owners: HashMap<u64, Claim>,
}

/// What decides, the most important first: who runs, who exists, who came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    runs: bool,
    exists: bool,
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

    /// Enters a container for its name.
    pub(super) fn claim(&mut self, meta: &Meta, runs: bool) {
        let claim = Claim {
            runs,
            exists: meta.removed.is_none(),
            removed: meta.removed.map(|moment| moment.at),
            started_ns: meta.started_ns,
            created_ns: meta.created_ns,
            id: meta.id,
        };
        let owner = self.owners.entry(self.hasher.hash_one(&meta.name)).or_insert(claim);
        *owner = claim.max(*owner);
    }

    /// Whether the container's name is its own; one without a name has no name to share.
    pub(super) fn owns(&self, meta: &Meta) -> bool {
        meta.name.is_empty()
            || self.owners.get(&self.hasher.hash_one(&meta.name)).is_none_or(|owner| owner.id == meta.id)
    }
}
