//! The cgroups whose names claim to be containers, and the claim that is accepted for each id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use super::ContainerId;
use super::empty::Trees;
use super::identity::{self, Claim, Engine};

/// What a refresh changed. Removals come before additions: a restarted container is in both.
#[derive(Debug, Default)]
pub struct Changes {
    /// New containers.
    pub added: Vec<Added>,
    /// Containers whose cgroup is gone or was replaced.
    pub removed: Vec<ContainerId>,
    /// Reasons for which parts of the trees were not read, as label values.
    pub missed: Vec<&'static str>,
}

/// A new container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// Its id.
    pub id: ContainerId,
    /// Its cgroup, from the root of its trees, with a leading slash.
    pub path: String,
    /// Whether the engine's report for this id describes this cgroup.
    pub named: bool,
}

/// Maximum number of cgroups left behind that one refresh checks again, as a process may have come.
const MAX_RECHECKS: usize = 256;

/// All claims of one tree.
#[derive(Debug)]
pub(super) struct Claims {
    trees: Trees,
    procfs: PathBuf,
    by_id: HashMap<ContainerId, Entry>,
    /// Ids to decide in this refresh.
    undecided: HashSet<ContainerId>,
    /// Ids whose decision depends on the engine's report.
    contested: HashSet<ContainerId>,
    /// Ids whose cgroups were left behind, in the order of the next checks.
    left: VecDeque<ContainerId>,
    /// Number of cgroups, and of accepted ones.
    counts: (usize, usize),
    /// Generation of the engines' reports and the engines that answered, as of the last decisions.
    heard: (u64, u64),
    order: u64,
    /// The order from which cgroups are new in this refresh.
    new_from: u64,
}

/// The cgroups that claim one id.
#[derive(Debug, Default)]
struct Entry {
    cgroups: Vec<Cgroup>,
    /// Order of the accepted cgroup, and whether it is named.
    accepted: Option<(u64, bool)>,
    is_left: bool,
}

/// One observed cgroup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Path from the root of the tree, with a leading slash.
    pub(super) path: &'a str,
    /// The tree, and the number of the directory in it.
    pub(super) at: (usize, u64),
    /// Inode of its child `container`, if that has the processes.
    pub(super) child: Option<u64>,
    /// The walk that observed it.
    pub(super) walk: u64,
}

#[derive(Debug)]
struct Cgroup {
    path: String,
    /// The first tree that has it, and the number of its directory there.
    at: (usize, u64),
    child: Option<u64>,
    order: u64,
    walk: u64,
}

impl Cgroup {
    /// Returns the path of the cgroup that has the processes.
    fn shown(&self) -> String {
        if self.child.is_some() { format!("{}/{CHILD}", self.path) } else { self.path.clone() }
    }
}

/// Name of the child cgroup in which crun puts the processes of a container with a scope of its own.
pub(super) const CHILD: &str = "container";

impl Claims {
    pub(super) fn new(trees: Trees, procfs: &Path) -> Self {
        Self {
            trees,
            procfs: procfs.to_owned(),
            by_id: HashMap::new(),
            undecided: HashSet::new(),
            contested: HashSet::new(),
            left: VecDeque::new(),
            counts: (0, 0),
            heard: (0, 0),
            order: 0,
            new_from: 0,
        }
    }

    /// Returns the number of containers.
    pub(super) fn accepted(&self) -> usize {
        self.counts.1
    }

    /// Returns whether a cgroup has no process, in any tree.
    pub(super) fn is_empty(&self, path: &str) -> bool {
        self.trees.is_empty(path)
    }

    /// Returns how many containers have no process.
    pub(super) fn count_empty(&self) -> usize {
        let accepted = self.by_id.values().filter_map(|entry| {
            let (order, _) = entry.accepted?;
            entry.cgroups.iter().find(|cgroup| cgroup.order == order)
        });
        accepted.filter(|cgroup| self.is_empty(&cgroup.path)).count()
    }

    /// Returns the number of cgroups that are not accepted, and how many of them were left behind.
    pub(super) fn refused(&self) -> (usize, usize) {
        (self.counts.0 - self.counts.1, self.left.len())
    }

    /// Returns whether this walk has observed the cgroup in an earlier tree, so that it can skip it.
    pub(super) fn is_seen(&self, id: ContainerId, path: &str, tree: usize, walk: u64) -> bool {
        let mut cgroups = self.by_id.get(&id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups.any(|cgroup| cgroup.path == path && cgroup.walk == walk && cgroup.at.0 < tree)
    }

    /// Returns whether this cgroup is known with this inode.
    pub(super) fn is_at(&self, id: ContainerId, path: &str, at: (usize, u64)) -> bool {
        let mut cgroups = self.by_id.get(&id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups.any(|cgroup| cgroup.path == path && cgroup.at == at)
    }

    /// Registers an existing cgroup, as seen in the first tree that has it. Returns whether it is new, or was created
    /// again under its path.
    pub(super) fn observe(&mut self, id: ContainerId, seen: Seen<'_>) -> bool {
        let entry = self.by_id.entry(id).or_default();
        let known = entry.cgroups.iter_mut().find(|cgroup| cgroup.path == seen.path);
        if let Some(known) = known {
            known.walk = seen.walk;
            if (known.at, known.child) == (seen.at, seen.child) {
                return false;
            }
            (known.at, known.child, known.order) = (seen.at, seen.child, self.order);
        } else {
            let Seen { path, at, child, walk } = seen;
            entry.cgroups.push(Cgroup { path: path.to_owned(), at, child, order: self.order, walk });
            self.counts.0 += 1;
        }
        self.order += 1;
        self.undecided.insert(id);
        true
    }

    /// Removes a cgroup that is gone.
    pub(super) fn remove(&mut self, id: ContainerId, path: &str) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let before = entry.cgroups.len();
        entry.cgroups.retain(|cgroup| cgroup.path != path);
        self.counts.0 -= before - entry.cgroups.len();
        if before != entry.cgroups.len() {
            self.undecided.insert(id);
        }
    }

    /// Returns the cgroups that the walk has not observed.
    pub(super) fn unseen(&self, walk: u64) -> Vec<(ContainerId, String)> {
        let cgroups = self.by_id.iter().flat_map(|(id, entry)| entry.cgroups.iter().map(|cgroup| (*id, cgroup)));
        let unseen = cgroups.filter(|(_, cgroup)| cgroup.walk != walk);
        unseen.map(|(id, cgroup)| (id, cgroup.path.clone())).collect()
    }

    /// Removes a container that the reader has dropped. Returns the path of its cgroup.
    pub(super) fn dropped(&mut self, id: ContainerId) -> Option<String> {
        let entry = self.by_id.get_mut(&id)?;
        let (order, _) = entry.accepted.take()?;
        self.counts.1 -= 1;
        self.undecided.insert(id);
        entry.cgroups.iter().find(|cgroup| cgroup.order == order).map(|cgroup| cgroup.path.clone())
    }

    /// Records that the container may have no process any more.
    pub(super) fn suspect(&mut self, id: ContainerId) {
        self.undecided.insert(id);
    }

    /// Decides the changed ids, those that depend on the engine, and, if `all`, every id that the engine does not run.
    pub(super) fn decide(&mut self, engine: &dyn Engine, all: bool, changes: &mut Changes) {
        let heard = (engine.generation(), engine.answering());
        if heard != self.heard {
            self.undecided.extend(&self.contested);
            let runs = |id: &&ContainerId| engine.container(**id).is_some_and(|record| record.runs);
            self.undecided.extend(self.left.iter().filter(|id| !engine.answers(**id) || runs(id)));
        }
        let is_back = engine.answering() & !self.heard.1 != 0;
        if all || is_back {
            let runs = |id: &ContainerId| engine.container(*id).is_some_and(|record| record.runs);
            self.undecided.extend(self.by_id.keys().filter(|id| engine.answers(**id) && !runs(id)));
        }
        self.heard = heard;
        for _ in 0..MAX_RECHECKS.min(self.left.len()) {
            let Some(id) = self.left.pop_front() else { break };
            if let Some(entry) = self.by_id.get_mut(&id) {
                entry.is_left = false;
            }
            self.undecided.insert(id);
        }
        for id in std::mem::take(&mut self.undecided) {
            self.decide_one(id, engine, changes);
        }
        self.new_from = self.order;
    }

    fn decide_one(&mut self, id: ContainerId, engine: &dyn Engine, changes: &mut Changes) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let Entry { cgroups, accepted, is_left } = entry;
        let claims = cgroups.iter().map(|cgroup| Claim { path: &cgroup.path, order: cgroup.order });
        let process = |pid: u32| std::fs::read_to_string(self.procfs.join(pid.to_string()).join("cgroup")).ok();
        let is_empty = |index: usize| cgroups.get(index).is_some_and(|cgroup| self.trees.is_empty(&cgroup.path));
        let decided = identity::decide(id, claims, engine, process, is_empty);
        let chosen = decided.and_then(|decided| Some((cgroups.get(decided.index)?, decided.named)));
        let now = chosen.map(|(cgroup, named)| (cgroup.order, named));
        if *accepted != now {
            if accepted.is_some() {
                changes.removed.push(id);
                self.counts.1 -= 1;
            }
            if let Some((cgroup, named)) = chosen {
                changes.added.push(Added { id, path: cgroup.shown(), named });
                self.counts.1 += 1;
            }
            *accepted = now;
        }
        let outer = || cgroups.iter().filter(|cgroup| !identity::is_nested(&cgroup.path));
        if now.is_none() && !*is_left && outer().next().is_some() {
            *is_left = true;
            // A new cgroup may get its first process at any time.
            if outer().any(|cgroup| cgroup.order >= self.new_from) {
                self.left.push_front(id);
            } else {
                self.left.push_back(id);
            }
        } else if now.is_some() && *is_left {
            *is_left = false;
            self.left.retain(|other| *other != id);
        }
        if cgroups.len() != 1 || outer().next().is_none() {
            self.contested.insert(id);
        } else {
            self.contested.remove(&id);
        }
        if cgroups.is_empty() {
            self.by_id.remove(&id);
            self.contested.remove(&id);
            self.left.retain(|other| *other != id);
        }
    }
}
