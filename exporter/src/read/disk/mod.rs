//! Sizes on disk: of what containers have written, and of the filesystems of containers and host.

pub(super) mod disks;
mod host;
mod layers;
pub(super) mod mounts;
pub(super) mod statfs;
