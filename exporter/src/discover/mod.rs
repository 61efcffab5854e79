//! Finds the container cgroups of this host and follows their changes.
//!
//! A scrape calls [`Discovery::refresh`], which applies inotify events and reads the containers with events. It walks
//! over all trees at the start, after an overflow of the queue of events, and once in [`WALK_INTERVAL`].
//!
//! | file | what it does |
//! |---|---|
//! | `cgroup` | finds the mounted trees; a cgroup as a directory of a tree |
//! | `hierarchy` | says which tree has which controller |
//! | `id` | container ids, in names of cgroups and in requests |
//! | `discovery` | follows containers by events and walks |
//! | `watch`, `walk` | inotify on directories; bounded walks over directories |
//! | `claims`, `identity` | the cgroups whose names contain an id; which of them is the container |
//! | `others` | cgroups that are not containers and get rows |

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
