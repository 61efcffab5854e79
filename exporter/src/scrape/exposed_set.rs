//! The set of exposed containers: running ones, stopped ones that an engine knows, and ones that ended recently.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::oom::OomKills;
use crate::discover::{ContainerId, IdFilter};
use crate::docker::Seen;
use crate::name::{ContainerFilter, ContainerInfo, Moment, Names, State};
use crate::read::{Limits, Sample};
use crate::render::{Exposed, LabelSets};

/// A running container, as its source reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveContainer<'a> {
    pub(super) id: ContainerId,
    /// Cgroup path with a leading slash.
    pub(super) path: &'a str,
    /// Whether the engine's report for this id describes this container.
    pub(super) named: bool,
    pub(super) sample: &'a Sample,
    pub(super) limits: &'a Limits,
    /// Number of the container's cgroup, unique in this process.
    pub(super) generation: u64,
    /// OOM kills that the kernel counted in this cgroup.
    pub(super) oom_kills: Option<u64>,
}

/// Caches each exposed container's label sets and the time when it was last seen.
///
/// Engine and kernel may disagree. `container_state` and its companions follow the engine, and values follow the cgroup.
/// `container_last_seen` advances while the cgroup exists; it follows the engine only if the engine's containers are not in
/// the tree that is read.
#[derive(Debug)]
pub(super) struct ExposedSet {
    filter: Arc<ContainerFilter>,
    linger: Duration,
    /// Boxed, because a hash map may be half empty.
    entries: HashMap<ContainerId, Box<Entry>>,
    pass: u64,
    /// Containers of this pass whose state contradicts the engine's report.
    doubts: Vec<(ContainerId, Seen)>,
    /// Engines with at least one named container in the tree, one bit each: all of their containers are expected there.
    in_tree: u64,
    /// Owner of each name in the predecessor's schema; `None` if that schema is not exposed.
    names: Option<NameOwners>,
}

#[derive(Debug, Default)]
struct Entry {
    sets: LabelSets,
    path: String,
    /// Whether the engine's report for this id describes this container.
    named: bool,
    /// When the container was last running, as far as known.
    seen: Option<Moment>,
    /// The last pass that exposes the container.
    shown: u64,
    /// The last pass that saw the container running.
    ran: u64,
    oom: OomKills,
    /// Start of the first run that `oom` counts, in nanoseconds since the epoch.
    oom_since_ns: Option<u64>,
    /// Whether `oom` counts at all: by the kernel's count or by the engine's events.
    oom_known: bool,
    /// Whether `sets` omit the name because another container owns it.
    nameless: bool,
}

impl ExposedSet {
    /// Returns an empty set. `by_name` tells whether the predecessor's schema is exposed, whose series have a name but no
    /// id.
    pub(super) fn new(filter: Arc<ContainerFilter>, linger: Duration, by_name: bool) -> Self {
        let names = by_name.then(NameOwners::default);
        Self { filter, linger, entries: HashMap::new(), pass: 0, doubts: Vec::new(), in_tree: 0, names }
    }

    /// Updates label sets and times by one pass, and removes containers that are neither present nor lingering. `in_tree`
    /// tells whether `live` comes from a cgroup tree rather than from the engine.
    pub(super) fn update<'a>(
        &mut self,
        live: impl Iterator<Item = LiveContainer<'a>>,
        names: &Names,
        now: Moment,
        in_tree: bool,
    ) {
        self.pass += 1;
        self.doubts.clear();
        for container in live {
            let pass = self.pass;
            // An engine does not know the containers that another engine made inside a container.
            let info = names.containers.get(&container.id);
            if info.map_or(container.named, |info| !info.state.is_alive()) {
                self.doubts.push((container.id, Seen::Running));
            }
            if let Some(engine) = names.engine_of(container.id).filter(|_| in_tree && container.named) {
                self.in_tree |= 1 << engine;
            }
            let entry = self.observe(container.id, Some((container.path, container.named)), names);
            entry.seen = Some(now);
            entry.ran = pass;
            let info = names.containers.get(&container.id);
            let info = info.filter(|_| container.named).map(|info| &**info);
            entry.count_oom_kills(info, in_tree.then_some((container.generation, container.oom_kills)));
        }
        for info in names.containers.values() {
            self.merge_engine_state(info, names, now);
        }
        let (pass, linger) = (self.pass, self.linger);
        self.entries.retain(|id, entry| {
            // An ended container that no engine knows lingers from the last pass that saw it.
            let lingers = entry.seen.is_some_and(|seen| now.at.saturating_duration_since(seen.at) < linger);
            entry.shown == pass || if names.containers.contains_key(id) { entry.oom.total() > 0 } else { lingers }
        });
        self.share_names(names);
    }

    /// Updates a container that is not running, from the engine's report.
    fn merge_engine_state(&mut self, info: &ContainerInfo, names: &Names, now: Moment) {
        let known = self.entries.get(&info.id);
        if known.is_some_and(|entry| entry.ran == self.pass) {
            return;
        }
        if info.state.is_alive() && known.is_some_and(|entry| entry.ran + 1 == self.pass) {
            self.doubts.push((info.id, Seen::Ended));
        }
        if let Some(entry) = self.entries.get_mut(&info.id) {
            entry.count_oom_kills(Some(info), None);
        }
        let known = self.entries.get(&info.id);
        let seen = later(known.and_then(|entry| entry.seen), info.finished.or(info.removed));
        let ended = info.removed.is_some() || matches!(info.state, State::Exited | State::Dead | State::Removing);
        let lingers = seen.is_some_and(|seen| now.at.saturating_duration_since(seen.at) < self.linger);
        if !ended || lingers {
            let is_in_tree = names.engine_of(info.id).is_some_and(|engine| self.in_tree >> engine & 1 == 1);
            let runs_elsewhere = info.state.is_alive() && !ended && !is_in_tree;
            self.observe(info.id, None, names).seen = if runs_elsewhere { Some(now) } else { seen };
        }
    }

    /// Assigns each name of several containers to one of them, for the predecessor's schema.
    fn share_names(&mut self, names: &Names) {
        let Some(owners) = &mut self.names else { return };
        owners.begin();
        for (id, entry) in &self.entries {
            if let Some(info) = names.containers.get(id).filter(|info| entry.named && info.selected) {
                owners.claim(info, names.engine_of(*id).unwrap_or_default(), entry.ran == self.pass);
            }
        }
        for (id, entry) in &mut self.entries {
            let Some(info) = names.containers.get(id).filter(|_| entry.named) else { continue };
            let nameless = !owners.owns(info);
            if nameless == entry.nameless {
                continue;
            }
            entry.nameless = nameless;
            if nameless {
                let exists = entry.ran == self.pass || info.removed.is_none();
                entry.sets.give_up_name(exists.then_some(*id));
            } else {
                entry.sets = LabelSets::new(Some(*id), &entry.path, Some(info));
            }
        }
    }

    /// Returns the containers of the last pass whose state contradicts the engine's report. The engine has to be asked
    /// again about them.
    pub(super) fn doubts(&self) -> &[(ContainerId, Seen)] {
        &self.doubts
    }

    /// Updates the path and the label sets of a container that this pass exposes. `running` is the path of a running
    /// container, and whether the engine's report describes it.
    fn observe(&mut self, id: ContainerId, running: Option<(&str, bool)>, names: &Names) -> &mut Entry {
        let pass = self.pass;
        let entry = self.entries.entry(id).or_default();
        // A cgroup without a name may belong to another container with the same id.
        let known = (entry.named && !entry.path.is_empty()).then_some(entry.path.as_str());
        let (path, is_named) = running.map_or((known, true), |(path, named)| (Some(path), named));
        let info = names.containers.get(&id).filter(|_| is_named);
        entry.named = is_named;
        let moved = path != Some(entry.path.as_str());
        if moved {
            let expected = || info.map_or_else(|| format!("/docker/{id}"), |info| info.cgroup_path(false));
            entry.path = path.map_or_else(expected, str::to_owned);
        }
        if moved || !entry.sets.is_current(info) {
            entry.sets = LabelSets::new(Some(id), &entry.path, info);
            entry.nameless = false;
        }
        entry.shown = pass;
        entry
    }

    /// Returns all exposed containers: running ones in the given order, then the others by path.
    pub(super) fn exposed<'a>(
        &'a self,
        live: impl Iterator<Item = LiveContainer<'a>>,
        names: &'a Names,
        ids: &IdFilter,
    ) -> Vec<Exposed<'a>> {
        let mut exposed: Vec<Exposed<'a>> = Vec::with_capacity(ids.count().unwrap_or(self.entries.len()));
        exposed.extend(live.filter(|container| ids.has(Some(container.id), container.path)).filter_map(|container| {
            let entry = self.entries.get(&container.id)?;
            let one = self.expose(container.id, entry, names)?;
            Some(Exposed { sample: Some(container.sample), limits: Some(container.limits), ..one })
        }));
        // Hidden containers that the engine knows are kept only for their OOM counts.
        let is_shown = |id, entry: &Entry| entry.shown == self.pass || !names.containers.contains_key(id);
        let others = self.entries.iter().filter(|(id, entry)| entry.ran != self.pass && is_shown(*id, entry));
        let mut others: Vec<_> = others.filter(|(id, entry)| ids.has(Some(**id), &entry.path)).collect();
        others.sort_unstable_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        exposed.extend(others.into_iter().filter_map(|(id, entry)| self.expose(*id, entry, names)));
        exposed
    }

    /// Returns what is exposed of a container, or `None` if the user's filter excludes it.
    fn expose<'a>(&self, id: ContainerId, entry: &'a Entry, names: &'a Names) -> Option<Exposed<'a>> {
        let info = names.containers.get(&id).filter(|_| entry.named).map(|info| &**info);
        let selected = info.map_or_else(|| self.filter.selects_unknown(), |info| info.selected);
        selected.then_some(Exposed {
            labels: entry.sets.base(),
            sample: None,
            limits: None,
            info,
            oom_kills: entry.oom_kills(info, entry.ran == self.pass),
            last_seen_ms: entry.seen.map(Moment::wall_ms),
            oom_since_ns: entry.oom_since_ns,
        })
    }
}

impl Entry {
    fn count_oom_kills(&mut self, info: Option<&ContainerInfo>, cgroup: Option<(u64, Option<u64>)>) {
        let events = info.and_then(|info| info.oom_events);
        self.oom_since_ns = self.oom_since_ns.or(info.and_then(|info| info.started_ns));
        self.oom.observe(events.unwrap_or_default(), cgroup);
        self.oom_known = events.is_some() && cgroup.is_none() || cgroup.is_some_and(|(_, count)| count.is_some());
    }

    /// Returns the OOM kills. Returns `None` if neither kernel nor engine counts them, or if the container neither runs nor
    /// restarts.
    fn oom_kills(&self, info: Option<&ContainerInfo>, runs: bool) -> Option<u64> {
        let total = self.oom.total();
        let goes_on =
            info.is_some_and(|info| info.state == State::Restarting || info.state.is_alive() || !info.reported.state);
        ((runs && self.oom_known) || ((runs || goes_on) && total > 0)).then_some(total)
    }
}

fn later(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    [one, other].into_iter().flatten().max_by_key(|moment| moment.at)
}

/// Decides which container owns a name in the predecessor's schema, whose series have a name and no id.
///
/// Names are unique within one engine, but a removed container lingers beside its successor, rename events may be
/// delayed, and long names are truncated. Owners are stored by the hash of the name. Passes reuse the memory.
#[derive(Debug, Default)]
struct NameOwners {
    hasher: RandomState,
    owners: HashMap<u64, Claim>,
}

/// The sort key of a claim: running containers first, then existing ones, then by the order of engines, then the latest.
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
    fn begin(&mut self) {
        self.owners.clear();
    }

    /// Registers a container's claim to its name. `engine` is the index of its engine.
    fn claim(&mut self, info: &ContainerInfo, engine: usize, runs: bool) {
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

    /// Returns whether the container owns its name. A container without a name always does.
    fn owns(&self, info: &ContainerInfo) -> bool {
        info.name.is_empty()
            || self.owners.get(&self.hasher.hash_one(&info.name)).is_none_or(|owner| owner.id == info.id)
    }
}

#[cfg(test)]
mod tests;
