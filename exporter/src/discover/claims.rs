//! The cgroups whose names contain an id, and the one of them that is accepted as the container of that id.
//!
//! The name of a cgroup is a claim; [`identity`] decides on it. A cgroup is left behind if it still exists, without a
//! process, after the engine has removed its container.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{self, Tree, Version};
use super::id::ContainerId;
use super::identity::{self, Claim, Engine};
use super::walk::{BELOW_CONTAINER, Next, walk};

/// What a refresh has changed. A restarted container is both removed and added: apply removals first.
#[derive(Debug, Default)]
pub struct Changes {
    /// New containers.
    pub added: Vec<Added>,
    /// Containers whose cgroup is gone or has been replaced.
    pub removed: Vec<ContainerId>,
    /// Reasons for which parts of the trees were missed, as label values.
    pub missed: Vec<&'static str>,
}

/// A new container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// Id of the container.
    pub id: ContainerId,
    /// Path of its cgroup from the root of the tree, with a leading slash.
    pub path: String,
    /// Whether the engine's report for this id describes this cgroup.
    pub named: bool,
}

/// Maximum number of ids with cgroups left behind that one refresh decides again, because a process may have entered
/// them.
const MAX_RECHECKS: usize = 256;

/// All claims of a host, by id.
#[derive(Debug)]
pub(super) struct Claims {
    processes: ProcessLists,
    procfs: PathBuf,
    by_id: HashMap<ContainerId, Entry>,
    /// Ids to decide in this refresh.
    undecided: HashSet<ContainerId>,
    /// Ids whose decision depends on the engine's report.
    contested: HashSet<ContainerId>,
    /// Ids whose cgroups were left behind, in the order in which to decide them again.
    left_behind: VecDeque<ContainerId>,
    /// Number of cgroups, and number of accepted cgroups.
    counts: (usize, usize),
    /// Generation of the engines' reports and the bits of the engines that answered, at the last decisions.
    engine_state: (u64, u64),
    /// Order of the next cgroup.
    order: u64,
    /// Cgroups of this order and above are new in this refresh.
    new_from: u64,
}

/// The cgroups that claim one id.
#[derive(Debug, Default)]
struct Entry {
    cgroups: Vec<Cgroup>,
    /// Order of the accepted cgroup, and whether it is named.
    accepted: Option<(u64, bool)>,
    /// Whether the id is in [`Claims::left_behind`].
    is_left_behind: bool,
}

/// A cgroup as a walk has observed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Path from the root of the tree, with a leading slash.
    pub(super) path: &'a str,
    /// Index of the tree, and inode of the directory there.
    pub(super) at: (usize, u64),
    /// Inode of the child [`CHILD`], if that child has the processes.
    pub(super) child: Option<u64>,
    /// Number of the walk.
    pub(super) walk: u64,
}

#[derive(Debug)]
struct Cgroup {
    path: String,
    /// Index of the first tree that has the cgroup, and inode of the directory there.
    at: (usize, u64),
    /// Inode of the child [`CHILD`], if that child has the processes.
    child: Option<u64>,
    /// Order of observation; a cgroup that is created again gets a new one.
    order: u64,
    /// Number of the last walk that observed the cgroup.
    walk: u64,
}

impl Cgroup {
    /// Returns the path of the cgroup that has the processes: the cgroup itself, or its child.
    fn process_path(&self) -> String {
        if self.child.is_some() { format!("{}/{CHILD}", self.path) } else { self.path.clone() }
    }
}

/// Name of the child cgroup into which crun moves the processes of a container that has a systemd scope.
pub(super) const CHILD: &str = "container";

impl Claims {
    pub(super) fn new(processes: ProcessLists, procfs: &Path) -> Self {
        Self {
            processes,
            procfs: procfs.to_owned(),
            by_id: HashMap::new(),
            undecided: HashSet::new(),
            contested: HashSet::new(),
            left_behind: VecDeque::new(),
            counts: (0, 0),
            engine_state: (0, 0),
            order: 0,
            new_from: 0,
        }
    }

    /// Returns the number of containers.
    pub(super) fn accepted(&self) -> usize {
        self.counts.1
    }

    /// Returns whether a cgroup and all cgroups below it certainly have no process in any tree.
    pub(super) fn is_empty(&self, path: &str) -> bool {
        self.processes.is_empty(path)
    }

    /// Returns the number of containers that have no process.
    pub(super) fn count_empty(&self) -> usize {
        let accepted = self.by_id.values().filter_map(|entry| {
            let (order, _) = entry.accepted?;
            entry.cgroups.iter().find(|cgroup| cgroup.order == order)
        });
        accepted.filter(|cgroup| self.is_empty(&cgroup.path)).count()
    }

    /// Returns the number of cgroups that are not accepted, and the number of ids with cgroups left behind.
    pub(super) fn refused(&self) -> (usize, usize) {
        (self.counts.0 - self.counts.1, self.left_behind.len())
    }

    /// Returns whether this walk has observed the cgroup in an earlier tree, so that it can skip the cgroup in this
    /// one.
    pub(super) fn is_seen(&self, id: ContainerId, path: &str, tree: usize, walk: u64) -> bool {
        let mut cgroups = self.by_id.get(&id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups.any(|cgroup| cgroup.path == path && cgroup.walk == walk && cgroup.at.0 < tree)
    }

    /// Returns whether the cgroup is known in this tree with this inode.
    pub(super) fn is_at(&self, id: ContainerId, path: &str, at: (usize, u64)) -> bool {
        let mut cgroups = self.by_id.get(&id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups.any(|cgroup| cgroup.path == path && cgroup.at == at)
    }

    /// Records an existing cgroup as seen in the first tree that has it. Returns whether the cgroup is new, or was
    /// created again under its path.
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

    /// Returns the ids and paths of the cgroups that this walk has not observed.
    pub(super) fn unseen(&self, walk: u64) -> Vec<(ContainerId, String)> {
        let cgroups = self.by_id.iter().flat_map(|(id, entry)| entry.cgroups.iter().map(|cgroup| (*id, cgroup)));
        let unseen = cgroups.filter(|(_, cgroup)| cgroup.walk != walk);
        unseen.map(|(id, cgroup)| (id, cgroup.path.clone())).collect()
    }

    /// Withdraws the accepted claim of a container that a reader has dropped. Returns the path of its cgroup.
    pub(super) fn withdraw(&mut self, id: ContainerId) -> Option<String> {
        let entry = self.by_id.get_mut(&id)?;
        let (order, _) = entry.accepted.take()?;
        self.counts.1 -= 1;
        self.undecided.insert(id);
        entry.cgroups.iter().find(|cgroup| cgroup.order == order).map(|cgroup| cgroup.path.clone())
    }

    /// Has the next refresh decide the id again, because the container may have no process any more.
    pub(super) fn suspect(&mut self, id: ContainerId) {
        self.undecided.insert(id);
    }

    /// Decides the ids whose cgroups have changed, the ids that depend on the engine's reports if these have changed,
    /// and, if `all`, every id that an answering engine does not run.
    pub(super) fn decide(&mut self, engine: &dyn Engine, all: bool, changes: &mut Changes) {
        let engine_state = (engine.generation(), engine.answering());
        if engine_state != self.engine_state {
            self.undecided.extend(&self.contested);
            let runs = |id: &&ContainerId| engine.container(**id).is_some_and(|record| record.runs);
            self.undecided.extend(self.left_behind.iter().filter(|id| !engine.answers(**id) || runs(id)));
        }
        let is_back = engine.answering() & !self.engine_state.1 != 0;
        if all || is_back {
            let runs = |id: &ContainerId| engine.container(*id).is_some_and(|record| record.runs);
            self.undecided.extend(self.by_id.keys().filter(|id| engine.answers(**id) && !runs(id)));
        }
        self.engine_state = engine_state;
        for _ in 0..MAX_RECHECKS.min(self.left_behind.len()) {
            let Some(id) = self.left_behind.pop_front() else { break };
            if let Some(entry) = self.by_id.get_mut(&id) {
                entry.is_left_behind = false;
            }
            self.undecided.insert(id);
        }
        for id in std::mem::take(&mut self.undecided) {
            self.decide_one(id, engine, changes);
        }
        self.new_from = self.order;
    }

    /// Decides one id, and adds the outcome to `changes`.
    fn decide_one(&mut self, id: ContainerId, engine: &dyn Engine, changes: &mut Changes) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let Entry { cgroups, accepted, is_left_behind } = entry;
        let claims = cgroups.iter().map(|cgroup| Claim { path: &cgroup.path, order: cgroup.order });
        let process = |pid: u32| fs::read_to_string(self.procfs.join(pid.to_string()).join("cgroup")).ok();
        let is_empty = |index: usize| cgroups.get(index).is_some_and(|cgroup| self.processes.is_empty(&cgroup.path));
        let decided = identity::decide(id, claims, engine, process, is_empty);
        let chosen = decided.and_then(|decided| Some((cgroups.get(decided.index)?, decided.named)));
        let now = chosen.map(|(cgroup, named)| (cgroup.order, named));
        if *accepted != now {
            if accepted.is_some() {
                changes.removed.push(id);
                self.counts.1 -= 1;
            }
            if let Some((cgroup, named)) = chosen {
                changes.added.push(Added { id, path: cgroup.process_path(), named });
                self.counts.1 += 1;
            }
            *accepted = now;
        }
        let outer = || cgroups.iter().filter(|cgroup| !identity::is_nested(&cgroup.path));
        if now.is_none() && !*is_left_behind && outer().next().is_some() {
            *is_left_behind = true;
            // A new cgroup may get its first process at any time.
            if outer().any(|cgroup| cgroup.order >= self.new_from) {
                self.left_behind.push_front(id);
            } else {
                self.left_behind.push_back(id);
            }
        } else if now.is_some() && *is_left_behind {
            *is_left_behind = false;
            self.left_behind.retain(|other| *other != id);
        }
        if cgroups.len() != 1 || outer().next().is_none() {
            self.contested.insert(id);
        } else {
            self.contested.remove(&id);
        }
        if cgroups.is_empty() {
            self.by_id.remove(&id);
            self.contested.remove(&id);
            self.left_behind.retain(|other| *other != id);
        }
    }
}

/// The lists of processes that the trees of a host have for each cgroup.
#[derive(Debug)]
pub(super) struct ProcessLists {
    roots: Vec<(PathBuf, Version)>,
    /// Whether v1 trees list the processes of all pid namespaces. They omit those that our own namespace does not show.
    lists_all: bool,
}

impl ProcessLists {
    /// Returns the lists of these trees. `lists_all` as in [`Discovery::new`](super::Discovery::new).
    pub(super) fn new(trees: &[Tree], lists_all: bool) -> Self {
        Self { roots: trees.iter().map(|tree| (tree.path.clone(), tree.version)).collect(), lists_all }
    }

    /// Returns whether the cgroup at `path` and all cgroups below it certainly have no process in any tree.
    fn is_empty(&self, path: &str) -> bool {
        let mut counted = false;
        for (root, version) in &self.roots {
            let directory = cgroup::directory(root, path);
            let empty = match version {
                Version::V2 => populated(&directory).map(|populated| !populated),
                Version::V1 => number(&directory, "pids.current").map(|tasks| tasks == 0),
            };
            counted |= empty == Some(true);
            if empty == Some(false) || (empty.is_none() && may_have_process(&directory)) {
                return false;
            }
        }
        counted || self.lists_all
    }
}

/// Returns `populated` of `cgroup.events`: whether the cgroup or one below it has a process.
fn populated(directory: &Path) -> Option<bool> {
    let text = fs::read_to_string(directory.join("cgroup.events")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("populated ")).map(|value| value.trim() != "0")
}

/// Reads a file that has one number.
fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// Returns whether the cgroup or one below it lists a process, or could not be read.
fn may_have_process(directory: &Path) -> bool {
    let mut found = false;
    let missed = walk(directory, BELOW_CONTAINER, |visited| {
        found |= fs::read(visited.path.join("cgroup.procs")).is_ok_and(|text| !text.trim_ascii().is_empty());
        if found { Next::Skip } else { Next::Descend }
    });
    found || missed.truncated || missed.unreadable.is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::ProcessLists;
    use crate::discover::Hierarchy;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_process_in_one_tree_of_v1_or_below_is_enough() {
        for process in ["cpu/docker/x/cgroup.procs", "memory/docker/x/child/cgroup.procs"] {
            let root = tempfile::tempdir().unwrap();
            for tree in ["cpu", "memory"] {
                put(root.path(), &format!("{tree}/docker/x/cgroup.procs"), "");
            }
            let trees = ProcessLists::new(Hierarchy::detect(root.path()).unwrap().searched(), true);
            assert!(trees.is_empty("/docker/x"));
            put(root.path(), process, "7\n");
            assert!(!trees.is_empty("/docker/x"), "{process}");
        }
    }

    #[test]
    fn where_processes_are_hidden_only_a_count_is_certain() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "memory/docker/x/cgroup.procs", "");
        put(root.path(), "pids/docker/x/cgroup.procs", "");
        let trees = ProcessLists::new(Hierarchy::detect(root.path()).unwrap().searched(), false);
        assert!(!trees.is_empty("/docker/x"));
        put(root.path(), "pids/docker/x/pids.current", "0\n");
        assert!(trees.is_empty("/docker/x"));
        put(root.path(), "pids/docker/x/pids.current", "1\n");
        assert!(!trees.is_empty("/docker/x"));
    }

    #[test]
    fn v2_counts_what_is_below() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "cgroup.controllers", "memory");
        put(root.path(), "docker/x/cgroup.events", "populated 1\nfrozen 0\n");
        put(root.path(), "docker/x/cgroup.procs", "");
        let trees = ProcessLists::new(Hierarchy::detect(root.path()).unwrap().searched(), false);
        assert!(!trees.is_empty("/docker/x"));
        put(root.path(), "docker/x/cgroup.events", "populated 0\nfrozen 0\n");
        assert!(trees.is_empty("/docker/x"));
    }
}
