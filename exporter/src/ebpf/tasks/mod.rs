//! Counts the threads of every container by state, when a scrape asks, and once a second while scrapes come for the load average.
//!
//! Memory: the table of slots is 160 KiB, for 4,096 containers; the slots of 2,048 other cgroups that are remembered take as much.
//!
//! | file | what it does |
//! |---|---|
//! | `walk` | loads the program and runs it |
//! | `sampler` | what a run gives, by slot; the thread that runs it between scrapes |

mod sampler;
mod walk;

use std::collections::HashMap;

use aya::Ebpf;
use aya::maps::{HashMap as KernelMap, MapData};
use exporter_ebpf::tasks::{Counts, OTHERS, SLOTS, STATES, State};
use tracing::warn;

use super::error::Unsupported;
use super::loader::{Loader, map, mapped};
use super::owners::{CgroupOwners, ContainerRef};
use crate::metrics::TaskState;
use sampler::{Sampler, Shared};

/// The program, loaded, and what it has counted.
pub(super) struct Tasks {
    /// Keeps the maps alive.
    pub(super) object: Ebpf,
    containers: KernelMap<MapData, u64, u64>,
    /// The slot of each container's own cgroup.
    slots: HashMap<u64, u32>,
    shared: Shared,
    /// As of the last [`Tasks::read`]; empty where that failed.
    counts: Vec<Counts>,
    loads: Vec<Option<u64>>,
    has_failed: bool,
    is_full: bool,
}

impl Tasks {
    /// Loads a program that this kernel takes.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Unsupported> {
        let (mut object, walk) = walk::load(loader)?;
        let containers = map(&mut object, "TASKS_CONTAINERS")?;
        let words = mapped(&mut object, "TASKS_WORDS", exporter_ebpf::tasks::WORDS as usize)?;
        let table = mapped(&mut object, "TASKS_COUNTS", SLOTS as usize * STATES)?;
        Ok(Self {
            object,
            containers,
            slots: HashMap::new(),
            shared: Shared::new(Sampler::new(walk, words, table)),
            counts: Vec::new(),
            loads: Vec::new(),
            has_failed: false,
            is_full: false,
        })
    }

    /// Has the program count by these containers from now on. Those that it knows keep their slots.
    pub(super) fn publish<'a>(&mut self, owners: &CgroupOwners, containers: impl Iterator<Item = ContainerRef<'a>>) {
        let cgroups: HashMap<&str, u64> =
            containers.filter_map(|container| Some((container.path, owners.own_cgroup(container.id)?))).collect();
        let mut sampler = self.shared.lock();
        let present: std::collections::HashSet<u64> = cgroups.values().copied().collect();
        let containers = &mut self.containers;
        self.slots.retain(|id, slot| {
            let stays = present.contains(id);
            if !stays {
                // It may have had no room.
                _ = containers.remove(id);
                sampler.free(*slot);
            }
            stays
        });
        for id in present {
            if self.slots.contains_key(&id) {
                continue;
            }
            let Some(slot) = sampler.take_slot() else {
                if !std::mem::replace(&mut self.is_full, true) {
                    warn!(
                        slots = SLOTS,
                        "there are more containers than threads are counted for: the others have no thread states"
                    );
                }
                break;
            };
            match containers.insert(id, u64::from(slot), 0) {
                Ok(()) => _ = self.slots.insert(id, slot),
                Err(_full) => sampler.free(slot),
            }
        }
        let slot = |path: &str| cgroups.get(path).and_then(|id| self.slots.get(id)).copied();
        sampler.assign(nested(cgroups.keys().copied(), slot));
    }

    /// Counts all threads now. A failure is logged once, and costs these values alone.
    pub(super) fn read(&mut self) {
        let mut sampler = self.shared.lock();
        match sampler.sample_for_scrape() {
            Ok(()) => {
                self.counts.clone_from(&sampler.counts);
                self.loads = sampler.loads.iter().map(|load| load.thousandths()).collect();
            }
            Err(error) => {
                self.counts.clear();
                self.loads.clear();
                if !std::mem::replace(&mut self.has_failed, true) {
                    warn!(%error, "cannot count threads: their states are missing");
                }
            }
        }
        drop(sampler);
        self.shared.keep_sampling();
    }

    /// Returns whether the last reading gave values.
    pub(super) fn succeeded(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Containers that threads are counted for.
    pub(super) fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Threads of a container by its own cgroup, and its load in thousandths, as of the last [`Tasks::read`]. None where it has no
    /// thread: then it has ended, whether or not its cgroup is still there.
    pub(super) fn counted(&self, cgroup: u64) -> Option<Threads> {
        let threads = self.slots.get(&cgroup).and_then(|slot| self.of_slot(*slot))?;
        threads.counts.iter().any(|count| *count > 0).then_some(threads)
    }

    /// Returns those of the whole host.
    pub(super) fn host(&self) -> Option<Threads> {
        self.of_slot(OTHERS)
    }

    fn of_slot(&self, slot: u32) -> Option<Threads> {
        let slot = slot as usize;
        Some(Threads { counts: *self.counts.get(slot)?, load: self.loads.get(slot).copied().flatten() })
    }
}

/// The threads of one container, or of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    counts: Counts,
    /// Load average in thousandths.
    pub load: Option<u64>,
}

impl Threads {
    /// Returns how many are in a state.
    #[must_use]
    pub fn count(&self, state: TaskState) -> u64 {
        let state = match state {
            TaskState::Sleeping => State::Sleeping,
            TaskState::Running => State::Running,
            TaskState::Stopped => State::Stopped,
            TaskState::Uninterruptible => State::Uninterruptible,
            TaskState::IoWaiting => State::IoWaiting,
        };
        self.counts.get(state as usize).copied().unwrap_or(0)
    }
}

/// Of each container that is in another one its slot and that one's, the innermost first.
fn nested<'a>(paths: impl Iterator<Item = &'a str>, slot: impl Fn(&str) -> Option<u32>) -> Vec<(u32, u32)> {
    let outer = |path: &str| path.rmatch_indices('/').find_map(|(end, _)| slot(path.get(..end)?));
    let mut nested: Vec<(usize, u32, u32)> =
        paths.filter_map(|path| Some((path.len(), slot(path)?, outer(path)?))).collect();
    nested.sort_unstable_by(|one, other| other.cmp(one));
    nested.into_iter().map(|(_, inner, outer)| (inner, outer)).collect()
}

#[cfg(test)]
mod tests {
    use super::nested;

    #[test]
    fn a_container_in_another_one_counts_for_that_one_too() {
        let slots = [("/docker/a", 1), ("/docker/a/docker/b", 2), ("/docker/a/docker/b/x/c", 3), ("/docker/d", 4)];
        let slot = |path: &str| slots.iter().find(|(known, _)| *known == path).map(|(_, slot)| *slot);
        assert_eq!(nested(slots.iter().map(|(path, _)| *path), slot), [(3, 2), (2, 1)]);
    }
}
