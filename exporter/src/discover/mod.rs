//! Finds the container cgroups of this host and follows their changes.
//!
//! A scrape calls [`Discovery::refresh`]: it drains inotify events, reads the containers with events, and walks all
//! trees at the start, after an overflow, and once in [`WALK_INTERVAL`] to repair what events missed. `identity`
//! decides which cgroups are containers.

pub(crate) mod cgroup;
mod claims;
mod discovery;
mod hierarchy;
mod id;
pub(crate) mod identity;
mod others;
pub(crate) mod walk;
mod watch;

pub use cgroup::{Tree, Version};
pub(crate) use cgroup::{host_v2, unescape};
pub use claims::{Added, Changes};
pub use discovery::{Discovery, Found, WALK_INTERVAL, and_empty, find_all, find_and_check};
pub use hierarchy::{Error, Hierarchy, Kind};
pub use id::{ContainerId, IdFilter};
pub use identity::{Engine, EngineRecord, NoEngine};
pub use others::{CgroupFilter, MAX_OTHERS, OtherChanges};
