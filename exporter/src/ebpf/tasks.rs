//! The program that counts the threads of every container by state: assigns slots to containers, and reads their
//! counts.
//!
//! Memory: the table of slots takes 160 KiB, for 4,096 containers. The program remembers the slots of 2,048 other
//! cgroups, which takes as much.

use std::collections::{HashMap, HashSet};

use aya::Ebpf;
use aya::maps::{HashMap as KernelMap, MapData};
use exporter_ebpf::tasks::{Counts, OTHERS, SLOTS, STATES, State};
use tracing::warn;

use super::loader::{Loader, map_array, take_map};
use super::owners::{CgroupOwners, ContainerRef};
use super::task_sampler::{self, Sampler, SamplerThread};
use super::unsupported::Unsupported;
use crate::metrics::TaskState;

/// The loaded program and its counts.
pub(super) struct Tasks {
    /// Keeps the maps alive.
    pub(super) object: Ebpf,
    /// The map of slots by cgroup.
    containers: KernelMap<MapData, u64, u64>,
    /// The slot of each container's own cgroup.
    slots: HashMap<u64, u32>,
    sampler: SamplerThread,
    /// Counts by slot, as of the last [`Tasks::read`]; empty if that failed.
    counts: Vec<Counts>,
    /// Load averages by slot in thousandths, as of the last [`Tasks::read`].
    loads: Vec<Option<u64>>,
    /// Whether a failure has been logged.
    is_failure_logged: bool,
    /// Whether a lack of slots has been logged.
    is_full_logged: bool,
}

impl Tasks {
    /// Loads the program.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Unsupported> {
        let (mut object, walk) = task_sampler::load(loader)?;
        let containers = take_map(&mut object, "TASKS_CONTAINERS")?;
        let words = map_array(&mut object, "TASKS_WORDS", exporter_ebpf::tasks::WORDS as usize)?;
        let table = map_array(&mut object, "TASKS_COUNTS", SLOTS as usize * STATES)?;
        Ok(Self {
            object,
            containers,
            slots: HashMap::new(),
            sampler: SamplerThread::new(Sampler::new(walk, words, table)),
            counts: Vec::new(),
            loads: Vec::new(),
            is_failure_logged: false,
            is_full_logged: false,
        })
    }

    /// Has the program count by these containers from now on. Known containers keep their slots.
    pub(super) fn publish<'a>(&mut self, owners: &CgroupOwners, containers: impl Iterator<Item = ContainerRef<'a>>) {
        let cgroups: HashMap<&str, u64> =
            containers.filter_map(|container| Some((container.path, owners.own_cgroup(container.id)?))).collect();
        let mut sampler = self.sampler.lock();
        let present: HashSet<u64> = cgroups.values().copied().collect();
        let containers = &mut self.containers;
        self.slots.retain(|id, slot| {
            let stays = present.contains(id);
            if !stays {
                // The entry is missing if the map was full.
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
                if !std::mem::replace(&mut self.is_full_logged, true) {
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

    /// Counts all threads now. The first failure is logged. If it fails, only these values are missing.
    pub(super) fn read(&mut self) {
        let mut sampler = self.sampler.lock();
        match sampler.sample_for_scrape() {
            Ok(()) => {
                self.counts.clone_from(&sampler.counts);
                self.loads = sampler.loads.iter().map(|load| load.thousandths()).collect();
            }
            Err(error) => {
                self.counts.clear();
                self.loads.clear();
                if !std::mem::replace(&mut self.is_failure_logged, true) {
                    warn!(%error, "cannot count threads: their states are missing");
                }
            }
        }
        drop(sampler);
        self.sampler.keep_sampling();
    }

    /// Returns whether the last [`Tasks::read`] has succeeded.
    pub(super) fn succeeded(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Returns the number of containers with a slot.
    pub(super) fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Returns the threads of the container with this cgroup of its own, as of the last [`Tasks::read`]. Returns none
    /// if it has no thread: the container has ended, even if its cgroup still exists.
    pub(super) fn counted(&self, cgroup: u64) -> Option<Threads> {
        let threads = self.slots.get(&cgroup).and_then(|slot| self.of_slot(*slot))?;
        threads.counts.iter().any(|count| *count > 0).then_some(threads)
    }

    /// Returns the threads of the whole host, as of the last [`Tasks::read`].
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
    /// Returns the number of threads in a state.
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

/// Returns the slot of each nested container with the slot of the container that it is in, the innermost first.
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
