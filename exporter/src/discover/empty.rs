//! Checks whether a cgroup and all cgroups below it have no process in any tree.

use std::fs;
use std::path::{Path, PathBuf};

use super::walk::{BELOW_CONTAINER, Next, walk};
use super::{Tree, Version, cgroup};

/// The trees of a host, for their lists of processes.
#[derive(Debug)]
pub(super) struct Trees {
    roots: Vec<(PathBuf, Version)>,
    /// Whether v1 lists all processes: it omits those of other pid namespaces.
    lists_all: bool,
}

impl Trees {
    pub(super) fn new(trees: &[Tree], lists_all: bool) -> Self {
        Self { roots: trees.iter().map(|tree| (tree.path.clone(), tree.version)).collect(), lists_all }
    }

    /// Returns true only if that is certain.
    pub(super) fn is_empty(&self, path: &str) -> bool {
        let mut counted = false;
        for (root, version) in &self.roots {
            let directory = cgroup::directory(root, path);
            let empty = match version {
                Version::V2 => populated(&directory).map(|populated| !populated),
                Version::V1 => number(&directory, "pids.current").map(|tasks| tasks == 0),
            };
            counted |= empty == Some(true);
            if empty == Some(false) || (empty.is_none() && has_process(&directory)) {
                return false;
            }
        }
        counted || self.lists_all
    }
}

/// Returns `populated` of `cgroup.events`, which includes the cgroups below.
fn populated(directory: &Path) -> Option<bool> {
    let text = fs::read_to_string(directory.join("cgroup.events")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("populated ")).map(|value| value.trim() != "0")
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// Returns whether any process is listed there or below; true if not everything was walked.
fn has_process(directory: &Path) -> bool {
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

    use super::Trees;
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
            let trees = Trees::new(Hierarchy::detect(root.path()).unwrap().searched(), true);
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
        let trees = Trees::new(Hierarchy::detect(root.path()).unwrap().searched(), false);
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
        let trees = Trees::new(Hierarchy::detect(root.path()).unwrap().searched(), false);
        assert!(!trees.is_empty("/docker/x"));
        put(root.path(), "docker/x/cgroup.events", "populated 0\nfrozen 0\n");
        assert!(trees.is_empty("/docker/x"));
    }
}
