//! A cgroup as a directory: where it is, its id, and whether there are others below it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The directory of the cgroup at `path` (from the root of its tree, with a leading slash) in the tree at `root`.
pub(crate) fn directory(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Its id: the number of its directory. None where there is no such cgroup.
pub(crate) fn id(root: &Path, path: &str) -> Option<u64> {
    fs::metadata(directory(root, path)).ok().map(|metadata| metadata.ino())
}

/// Whether there are no cgroups below it. A directory's link count is two plus its subdirectories, cgroup file systems
/// included: to ask for it costs less than a listing of its hundred files.
pub(crate) fn is_leaf(directory: &Metadata) -> bool {
    directory.nlink() == 2
}
