//! The containers that an engine knows, by id.
//!
//! The follower in [`crate::docker`] writes them. A scrape takes one snapshot, and never waits for an engine.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{ContainerInfo, Moment, State};
use crate::discover::ContainerId;

/// Maximum number of stored containers, so that a faulty engine cannot fill the memory.
pub const MAX_CONTAINERS: usize = 20_000;

/// A snapshot of all containers, which is cheap to hold and to compare.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Every known container: live, stopped, or lingering after its removal.
    pub containers: HashMap<ContainerId, Arc<ContainerInfo>>,
    /// Index of the engine that knows each container; empty if there is one engine.
    pub engines: HashMap<ContainerId, u8>,
    /// The number of this snapshot: while it is the same, so are the containers.
    pub generation: u64,
}

impl Names {
    /// Returns the index of the engine that knows a container; none for an unknown container.
    #[must_use]
    pub fn engine_of(&self, id: ContainerId) -> Option<usize> {
        let known = || self.containers.contains_key(&id).then_some(0);
        self.engines.get(&id).map_or_else(known, |index| Some(usize::from(*index)))
    }
}

/// Outcome of storing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The value is new or differs from the stored one.
    Changed,
    /// The value equals the stored one.
    Same,
    /// The store is full: [`MAX_CONTAINERS`] are known, and none of them is gone.
    Full,
}

/// The containers that the engine's follower writes and scrapes read.
///
/// A snapshot never changes: a write copies the containers if a snapshot is held.
#[derive(Debug)]
pub struct ContainerStore {
    names: RwLock<Arc<Names>>,
    linger: Duration,
    updated: Mutex<HashSet<ContainerId>>,
    settled: AtomicBool,
    interest: Mutex<Interest>,
}

impl ContainerStore {
    /// Returns an empty store that forgets a removed container after `linger`.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        Self {
            names: RwLock::default(),
            linger,
            updated: Mutex::default(),
            settled: AtomicBool::new(false),
            interest: Mutex::new(Interest::new(Instant::now())),
        }
    }

    /// Returns the current snapshot.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether an engine's full list was applied or could not be read, so that names are as complete as they can be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Records that an engine's full list was applied or could not be read.
    pub fn set_settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Records a scrape.
    pub fn scraped(&self, now: Instant) {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner).scraped(now);
    }

    /// Returns whether scrapes arrive regularly.
    #[must_use]
    pub fn is_scraped(&self, now: Instant) -> bool {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner).lasts(now)
    }

    /// Returns the containers whose limits were changed (`docker update`) since the last call, so that their limit
    /// files are read again. There is one reader.
    #[must_use]
    pub fn take_updated(&self) -> Vec<ContainerId> {
        self.updated.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    /// Records that the limits of a container were changed.
    pub fn mark_updated(&self, id: ContainerId) {
        let mut updated = self.updated.lock().unwrap_or_else(PoisonError::into_inner);
        if updated.len() < MAX_CONTAINERS {
            updated.insert(id);
        }
    }

    /// Stores a report on a container.
    pub fn upsert(&self, info: ContainerInfo) -> Stored {
        let mut guard = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let known = guard.containers.get(&info.id);
        if known.is_some_and(|known| **known == info) {
            return Stored::Same;
        }
        let room = known.is_some() || guard.containers.len() < MAX_CONTAINERS;
        let oldest = if room { None } else { oldest_removed(&guard) };
        if !room && oldest.is_none() {
            return Stored::Full;
        }
        let names = Arc::make_mut(&mut guard);
        if let Some(oldest) = oldest {
            names.containers.remove(&oldest);
        }
        names.containers.insert(info.id, Arc::new(info));
        names.generation += 1;
        Stored::Changed
    }

    /// Changes the report on a container. Returns whether it differs now. Does nothing for an unknown container.
    pub fn change(&self, id: ContainerId, change: impl FnOnce(&mut ContainerInfo)) -> bool {
        let Some(known) = self.names().containers.get(&id).map(Arc::clone) else { return false };
        let mut info = ContainerInfo::clone(&known);
        change(&mut info);
        drop(known);
        self.upsert(info) == Stored::Changed
    }

    /// Records that a container is gone since `now`. It lingers with its exit code in the state `exited`, or `removing`
    /// if its end was not seen.
    pub fn remove(&self, id: ContainerId, now: Moment) -> bool {
        self.change(id, |info| {
            info.removed = info.removed.or(Some(now));
            info.pid = None;
            info.reported.state = true;
            info.state = match info.state {
                State::Dead | State::Created => info.state,
                _ if info.exit_code.is_some() => State::Exited,
                _ => State::Removing,
            };
        })
    }

    /// Removes containers that have been gone for longer than the linger time, and returns them.
    pub fn prune(&self, now: Instant) -> Vec<ContainerId> {
        let over = |info: &ContainerInfo| {
            info.removed.is_some_and(|gone| now.saturating_duration_since(gone.at) >= self.linger)
        };
        let gone: Vec<_> = self.names().containers.values().filter(|info| over(info)).map(|info| info.id).collect();
        if !gone.is_empty() {
            let mut guard = self.names.write().unwrap_or_else(PoisonError::into_inner);
            let names = Arc::make_mut(&mut guard);
            names.containers.retain(|_, info| !over(info));
            names.generation += 1;
        }
        gone
    }
}

fn oldest_removed(names: &Names) -> Option<ContainerId> {
    let removed = names.containers.values().filter_map(|info| Some((info.removed?.at, info.id)));
    removed.min().map(|(_, id)| id)
}

/// Limits of the time for which interest lasts after a scrape.
const MIN_INTEREST: Duration = Duration::from_secs(30);
const MAX_INTEREST: Duration = Duration::from_mins(5);

/// Whether scrapes arrive, for requests to the engine that are made only for them. Interest lasts from a scrape until the next one is
/// overdue: twice the time between the last two.
#[derive(Debug)]
struct Interest {
    last: Instant,
    until: Instant,
}

impl Interest {
    /// Begins interest as after a scrape, as the first one is likely soon.
    fn new(now: Instant) -> Self {
        Self { last: now, until: now + MIN_INTEREST }
    }

    /// Records a scrape.
    fn scraped(&mut self, now: Instant) {
        let interval = now.saturating_duration_since(self.last);
        self.last = now;
        self.until = self.until.max(now + (interval * 2).clamp(MIN_INTEREST, MAX_INTEREST));
    }

    /// Returns whether the next scrape is not overdue yet.
    fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests;
