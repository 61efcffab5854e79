//! Finds the container cgroups of this host.

mod id;

pub use id::ContainerId;
