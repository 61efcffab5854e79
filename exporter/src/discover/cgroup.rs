//! Mounted cgroup trees, and cgroups as directories in them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

/// Interface version of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// `cgroup-v1/`.
    V1,
    /// `cgroup-v2.rst`.
    V2,
}

/// A mounted cgroup tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its interface.
    pub version: Version,
}

/// Magic numbers of the kernel's cgroup file systems (`include/uapi/linux/magic.h`).
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

impl Tree {
    /// Returns whether the kernel serves the tree, and not a capture.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let magic = statfs(&self.path).map(|statistics| u64::try_from(statistics.f_type).unwrap_or(0));
        matches!(magic, Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC))
    }
}

/// Returns the directory of the cgroup at `path` (from the root of its tree, with a leading slash) in the tree at `root`.
pub(crate) fn directory(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Returns the id of a cgroup, the inode number of its directory. None if the cgroup does not exist.
pub(crate) fn id(root: &Path, path: &str) -> Option<u64> {
    fs::metadata(directory(root, path)).ok().map(|metadata| metadata.ino())
}

/// Returns whether a cgroup has no children. The link count of a directory is two plus its subdirectories, also in cgroup file
/// systems; reading it costs less than listing the hundred files.
pub(crate) fn is_leaf(directory: &Metadata) -> bool {
    directory.nlink() == 2
}
