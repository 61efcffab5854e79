//! Sizes on disk: of what containers have written, of the filesystems below them, and of the host's.

pub(super) mod host;
pub(super) mod layers;
pub(super) mod listed;
pub(super) mod measure;
pub(super) mod mounts;
pub(super) mod pass;
pub(super) mod root;
pub(super) mod size;
