//! One mounted cgroup tree.

use std::path::PathBuf;

use rustix::fs::statfs;

/// Interface version of one tree.
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
    /// Whether it is the kernel's and not a capture.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let magic = statfs(&self.path).map(|statistics| u64::try_from(statistics.f_type).unwrap_or(0));
        matches!(magic, Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC))
    }
}
