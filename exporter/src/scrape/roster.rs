//! Who is exposed: the containers that run, those that the engine knows and that do not, and those that have just ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::discover::ContainerId;
use crate::docker::Seen;
use crate::name::{ContainerFilter, Meta, Names, State};
use crate::read::{Limits, Sample};
use crate::render::{Exposed, LabelSets};

/// One running container as its source gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live<'a> {
    pub(super) id: ContainerId,
    /// Cgroup path with a leading slash.
    pub(super) path: &'a str,
    pub(super) sample: &'a Sample,
    pub(super) limits: &'a Limits,
}

/// Remembers each container's label sets and when it was last there.
#[derive(Debug)]
pub(super) struct Roster {
    filter: Arc<ContainerFilter>,
    linger_ms: u64,
    /// Boxed, as a map is half empty at times.
    entries: HashMap<ContainerId, Box<Entry>>,
    pass: u64,
    /// What this pass saw that the engine has not told.
    doubts: Vec<(ContainerId, Seen)>,
}

#[derive(Debug, Default)]
struct Entry {
    sets: LabelSets,
    path: String,
    /// None for a container that has never run while we looked, and of which the engine does not say either.
    last_seen_ms: Option<u64>,
    /// The last pass in which it is to be exposed.
    shown: u64,
    /// The last pass in which it ran.
    ran: u64,
}

impl Roster {
    pub(super) fn new(filter: Arc<ContainerFilter>, linger: Duration) -> Self {
        let linger_ms = u64::try_from(linger.as_millis()).unwrap_or(u64::MAX);
        Self { filter, linger_ms, entries: HashMap::new(), pass: 0, doubts: Vec::new() }
    }

    /// A pass: brings label sets and times up to date; what is neither there nor lingering is forgotten.
    pub(super) fn update<'a>(&mut self, live: impl Iterator<Item = Live<'a>>, names: &Names, now_ms: u64) {
        self.pass += 1;
        self.doubts.clear();
        for container in live {
            let pass = self.pass;
            if !names.containers.get(&container.id).is_some_and(|meta| meta.state.is_alive()) {
                self.doubts.push((container.id, Seen::Running));
            }
            let entry = self.see(container.id, Some(container.path), names);
            entry.last_seen_ms = Some(now_ms);
            entry.ran = pass;
        }
        for meta in names.containers.values() {
            self.look_at(meta, names, now_ms);
        }
        let (pass, linger_ms) = (self.pass, self.linger_ms);
        self.entries.retain(|id, entry| {
            // An ended container that no engine tells of lingers by what we saw ourselves.
            let lingers = entry.last_seen_ms.is_some_and(|seen| now_ms.saturating_sub(seen) < linger_ms);
            entry.shown == pass || (lingers && !names.containers.contains_key(id))
        });
    }

    /// A container as the engine tells of it, where it does not run.
    fn look_at(&mut self, meta: &Meta, names: &Names, now_ms: u64) {
        let known = self.entries.get(&meta.id);
        if known.is_some_and(|entry| entry.ran == self.pass) {
            return;
        }
        if meta.state.is_alive() && known.is_some_and(|entry| entry.ran + 1 == self.pass) {
            self.doubts.push((meta.id, Seen::Ended));
        }
        let told = [meta.finished_ns, meta.removed_ns].into_iter().flatten().map(|ns| ns / 1_000_000).max();
        let seen = known.and_then(|entry| entry.last_seen_ms).max(told);
        let ended = meta.removed_ns.is_some() || matches!(meta.state, State::Exited | State::Dead | State::Removing);
        let lingers = seen.is_some_and(|seen| now_ms.saturating_sub(seen) < self.linger_ms);
        if !ended || lingers {
            // Without a cgroup of its own in our tree, a container runs by the engine's word alone.
            let seen = if meta.state.is_alive() && !ended { Some(now_ms) } else { seen };
            self.see(meta.id, None, names).last_seen_ms = seen;
        }
    }

    /// What the last pass saw that the engine has not told: reason to ask it.
    pub(super) fn doubts(&self) -> impl Iterator<Item = (ContainerId, Seen)> {
        self.doubts.iter().copied()
    }

    fn see(&mut self, id: ContainerId, path: Option<&str>, names: &Names) -> &mut Entry {
        let meta = names.containers.get(&id);
        let pass = self.pass;
        let entry = self.entries.entry(id).or_default();
        let path = path.or_else(|| (!entry.path.is_empty()).then_some(entry.path.as_str()));
        let moved = path != Some(entry.path.as_str());
        if moved {
            entry.path = path.map_or_else(|| format!("/docker/{id}"), str::to_owned);
        }
        if moved || !entry.sets.is_current(meta) {
            entry.sets = LabelSets::new(Some(id), &entry.path, meta);
        }
        entry.shown = pass;
        entry
    }

    /// Everything to be exposed: running containers in the order given, then the others by path.
    pub(super) fn exposed<'a>(&'a self, live: impl Iterator<Item = Live<'a>>, names: &'a Names) -> Vec<Exposed<'a>> {
        let mut exposed: Vec<Exposed<'a>> = Vec::with_capacity(self.entries.len());
        exposed.extend(live.filter_map(|container| {
            let entry = self.entries.get(&container.id)?;
            let one = self.expose(container.id, entry, names)?;
            Some(Exposed { sample: Some(container.sample), limits: Some(container.limits), ..one })
        }));
        let mut others: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.ran != self.pass).collect();
        others.sort_unstable_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        exposed.extend(others.into_iter().filter_map(|(id, entry)| self.expose(*id, entry, names)));
        exposed
    }

    /// None where the user's filter leaves the container out.
    fn expose<'a>(&self, id: ContainerId, entry: &'a Entry, names: &'a Names) -> Option<Exposed<'a>> {
        let meta = names.containers.get(&id).map(|meta| &**meta);
        let selected = meta.map_or_else(|| self.filter.selects_unknown(), |meta| meta.selected);
        selected.then_some(Exposed {
            sets: &entry.sets,
            sample: None,
            limits: None,
            meta,
            last_seen_ms: entry.last_seen_ms,
        })
    }
}
