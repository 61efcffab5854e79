//! Finds the containers in the trees, for the other checks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::walk::{BELOW_CONTAINER, Next, walk};
use crate::discover::{self, ContainerId, Hierarchy, find_and_check};
use crate::read::shows_all_processes;

/// A container's cgroup.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: ContainerId,
    /// From the root of its trees, with a leading slash.
    pub(super) path: String,
    /// In the tree that lists its processes.
    pub(super) directory: PathBuf,
    /// Whether it has certainly no process: then it is one only if an engine runs it.
    pub(super) is_empty: bool,
}

/// Returns every container in the trees, nested ones too.
pub(super) fn containers(hierarchy: &Hierarchy, procfs: &Path) -> Vec<Found> {
    let found = find_and_check(hierarchy.searched(), shows_all_processes(procfs, hierarchy.is_live())).into_iter();
    found
        .filter_map(|discover::Found { id, path, is_empty }| {
            let tree = hierarchy.searched().get(hierarchy.home(&path)?)?;
            Some(Found { id, directory: tree.path.join(path.trim_start_matches('/')), path, is_empty })
        })
        .collect()
}

/// Returns pids in a container's cgroup, or in those below it (a container that runs systemd has none in its own).
pub(super) fn pids(cgroup: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    // A few processes suffice, so that missed cgroups do not matter.
    let _missed = walk(cgroup, BELOW_CONTAINER, |visited| {
        let text = fs::read(visited.path.join("cgroup.procs")).unwrap_or_default();
        pids.extend(words(&text).iter().filter_map(|word| word.parse::<u32>().ok()));
        Next::Descend
    });
    pids
}

/// Returns the words of a file.
pub(super) fn words(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect()
}
