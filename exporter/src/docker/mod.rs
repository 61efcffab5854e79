//! Docker engines: fills [`crate::name`] from their lists, events and inspections, and reads the stats API where no
//! cgroup tree can be read.
//!
//! | file | what it does |
//! |---|---|
//! | `engines` | an engine; all engines, and one view of their reports |
//! | `http` | one request on a connection of its own |
//! | `session` | the version of the API; counted requests with limits of size and time |
//! | `error` | why a request has failed, and what helps |
//! | `json` | an engine's answers, cut into objects and read leniently |
//! | `container`, `events` | what the list, an inspection and an event say of a container |
//! | `tracker` | merges them into the container store, and decides which containers to inspect |
//! | `follow`, `live` | the task: subscribe, list, inspect, start over after an outage |
//! | `doubts` | containers in another state than the engine has reported |
//! | `outage` | how long to wait for an engine, and what to log while it does not answer |
//! | `stats` | readings of the stats API |
//!
//! Works with Docker from API 1.40 on, with Podman's compatible socket, and behind a proxy that allows only `GET` on
//! `/version`, `/events`, `/containers/json` and `/containers/ID/json`.

mod container;
mod doubts;
mod engines;
mod error;
mod events;
#[cfg(test)]
mod fake;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http;
mod json;
mod live;
mod outage;
mod session;
mod stats;
mod tracker;

pub use doubts::{Doubts, Seen};
pub use engines::{Engine, Engines, Member};
pub use error::{Error, is_unlinked};
pub use follow::follow;
pub use session::{About, bounds};
pub use stats::{DEFAULT_CONCURRENCY, Stats, Sweep, Sweeping};
