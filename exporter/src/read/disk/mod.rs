//! The filesystem of a container: its device, its size, the size of its writable layer.

pub(super) mod measure;
pub(super) mod root;
mod size;
