//! One walk over a cgroup tree: which directories are containers, and which could come to hold some.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{ContainerId, cgroup, relative};

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Containers and the paths of their cgroups.
    pub(super) containers: Vec<(ContainerId, String)>,
    /// Directories that hold or may hold containers, and are none themselves.
    pub(super) parents: Vec<PathBuf>,
}

/// Deeper than any engine nests; ends a walk over a tree that loops.
const MAX_DEPTH: usize = 32;

/// Walks everything in the tree at `root` from `directory` downwards, which itself counts as well. Where a container is known
/// (from another tree), what is below it is left out.
pub(super) fn walk(root: &Path, directory: &Path, is_known: impl Fn(ContainerId) -> bool) -> Found {
    let mut found = Found::default();
    visit(root, directory, MAX_DEPTH, &is_known, &mut found);
    found
}

fn visit(root: &Path, directory: &Path, depth: usize, is_known: &impl Fn(ContainerId) -> bool, found: &mut Found) {
    let name = directory.file_name().filter(|_| directory != root).unwrap_or_default();
    match ContainerId::from_cgroup_name(name.as_bytes()) {
        Some(id) if is_known(id) => return,
        Some(id) => {
            let Some(path) = relative(root, directory) else { return };
            found.containers.push((id, path));
        }
        None => found.parents.push(directory.to_owned()),
    }
    // Most containers end here.
    if depth == 0 || cgroup::is_leaf(fs::metadata(directory)) {
        return;
    }
    // A directory that vanishes under the walk has nothing to tell.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(root, &entry.path(), depth - 1, is_known, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::walk;

    const OUTER: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";
    const INNER: &str = "2f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

    #[test]
    fn containers_are_found_wherever_they_hang() {
        let root = tempfile::tempdir().unwrap();
        let nested = format!("docker/{OUTER}/docker/{INNER}");
        let scope = format!("system.slice/docker-{}.scope", OUTER.replace('1', "3"));
        for path in [nested.as_str(), scope.as_str(), "system.slice/cron.service"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let found = walk(root.path(), root.path(), |_| false);
        let mut paths: Vec<_> =
            found.containers.iter().map(|(_, path)| path.trim_start_matches('/').to_owned()).collect();
        paths.sort_unstable();
        assert_eq!(paths, [format!("docker/{OUTER}"), nested, scope]);
        assert_eq!(found.parents.len(), 5, "{:?}", found.parents);
    }
}
