//! Finds the container cgroups of this host and follows their coming and going.
//!
//! A scrape calls [`Discovery::refresh`]: it drains inotify events, reads those containers where something happened,
//! and walks all trees only at the start, after an overflow, and once in [`WALK_INTERVAL`] to heal what was missed.
//! Which cgroups are containers is decided in `identity`.

mod candidates;
pub(crate) mod cgroup;
mod claims;
mod discovery;
mod empty;
mod hierarchy;
mod id;
mod id_filter;
pub(crate) mod identity;
mod missed;
mod mounts;
mod others;
pub(crate) mod walk;
mod watch;

pub use cgroup::{Tree, Version};
pub use claims::{Added, Changes};
pub use discovery::{Discovery, WALK_INTERVAL, find_all};
pub use hierarchy::{Error, Hierarchy, Kind};
pub use id::ContainerId;
pub use id_filter::IdFilter;
pub use identity::{Engine, EngineRecord, NoEngine};
pub(crate) use mounts::{host_v2, unescape};
pub use others::{CgroupFilter, MAX_OTHERS, OtherChanges};
