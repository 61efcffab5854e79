//! Docker engines: fills [`crate::name`] from its list and events, and reads its stats API where no cgroup tree can
//! be read.
//!
//! | file | what it does |
//! |---|---|
//! | `engines` | all engines, and one view of what they say |
//! | `client` | where an engine is, and the session with it |
//! | `http` | one request on a connection of its own |
//! | `session`, `version` | the version that is spoken; counted, bounded, timed requests |
//! | `error` | what can go wrong, and what helps |
//! | `split`, `json`, `time` | an engine's answers, cut and read leniently |
//! | `list`, `inspect`, `events` | what the three kinds of answers say of a container |
//! | `tracker` | merges them into the container store, and knows which container has to be inspected |
//! | `follow`, `live` | the task: subscribe, list, inspect, start again when the engine was away |
//! | `doubts` | what scrapes saw that the engine has not reported |
//! | `outage` | what is logged while the engine is away |
//! | `host` | what the engine says of its host |
//! | `stats` | readings of the stats API |
//!
//! Works with Docker from API 1.40 on, with Podman's compatible socket, and behind
//! a proxy that allows only `GET` on `/version`, `/events`, `/containers/json` and `/containers/ID/json`.

mod client;
mod doubts;
mod engines;
mod error;
mod events;
#[cfg(test)]
mod fake;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod http;
mod inspect;
mod json;
mod list;
mod live;
mod outage;
mod session;
mod split;
mod stats;
mod time;
mod timing;
mod tracker;
mod version;

pub use client::Engine;
pub use doubts::{Doubts, Seen};
pub use engines::{Engines, Member};
pub use error::{Error, is_unlinked};
pub use follow::follow;
pub use session::{About, bounds};
pub use stats::{DEFAULT_CONCURRENCY, Stats, Sweep, Sweeping};
