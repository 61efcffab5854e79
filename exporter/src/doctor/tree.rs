//! The containers in the trees, as the other checks look at them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::{ContainerId, Hierarchy, find_all};

/// A container's cgroup.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: ContainerId,
    /// From the root of its trees, with a leading slash.
    pub(super) path: String,
    /// In the tree that lists its processes.
    pub(super) directory: PathBuf,
}

/// Every container in the trees, nested ones too.
pub(super) fn containers(hierarchy: &Hierarchy) -> Vec<Found> {
    let found = find_all(hierarchy.searched()).into_iter();
    found
        .filter_map(|(id, path)| {
            let tree = hierarchy.searched().get(hierarchy.home(&path)?)?;
            Some(Found { id, directory: tree.path.join(path.trim_start_matches('/')), path })
        })
        .collect()
}

/// Pids in a container's cgroup, or in those below it (a container that runs systemd has none in its own).
pub(super) fn pids(cgroup: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut collect = |path: &Path| {
        let text = fs::read(path.join("cgroup.procs")).unwrap_or_default();
        pids.extend(words(&text).iter().filter_map(|word| word.parse::<u32>().ok()));
    };
    collect(cgroup);
    walk(cgroup, 3, &mut collect);
    pids
}

/// Words of a file.
pub(super) fn words(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect()
}

/// Visits every directory below `path`, to a depth; links are not followed, what vanishes is skipped.
fn walk(path: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let below = entry.path();
            visit(&below);
            if let Some(depth) = depth.checked_sub(1) {
                walk(&below, depth, visit);
            }
        }
    }
}
