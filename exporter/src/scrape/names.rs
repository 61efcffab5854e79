//! Decides which container owns a name in the predecessor's schema, whose series have a name and no id.
//!
//! Names are unique within one engine, but a removed container lingers beside its successor, rename events may be
//! delayed, and long names are truncated.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::discover::ContainerId;
use crate::name::ContainerInfo;

/// The owner of each name, by the hash of the name. Passes reuse its memory.
#[derive(Debug, Default)]
pub(super) struct NameOwners {
    hasher: RandomState,
    owners: HashMap<u64, Claim>,
}

/// Sort key of a claim, most significant first: running, existing, engine order, latest.
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

    /// Registers a container's claim to its name. `engine` is the index of its engine.
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

    /// Returns whether the container owns its name; a container without a name always does.
    pub(super) fn owns(&self, info: &ContainerInfo) -> bool {
        info.name.is_empty()
            || self.owners.get(&self.hasher.hash_one(&info.name)).is_none_or(|owner| owner.id == info.id)
    }
}
