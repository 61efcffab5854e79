//! How long the engine is waited for.

use std::time::Duration;

/// All time limits, together so that tests can have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For the first byte of an answer, and then for each further piece.
    pub(super) call: Duration,
    /// For the first byte of the full list, which takes an engine with thousands of containers seconds to make.
    pub(super) list: Duration,
    /// For the first byte of the list with sizes, which takes an engine a walk over every container's files.
    pub(super) sizes: Duration,
    /// Silence after which the engine is asked for a sign of life.
    pub(super) heartbeat: Duration,
    /// For what the engine says of its host, before the first list is asked for without it.
    pub(super) info: Duration,
    /// From subscribing to events until the first list: a refusal is known by then, and the subscription stands.
    pub(super) subscribe: Duration,
    /// From the first list to a second one, which heals what happened while the subscription was not standing yet.
    pub(super) settle: Duration,
    /// Time between two lists while the engine refuses to tell its events.
    pub(super) poll: Duration,
    /// Shortest and longest wait before the next attempt to reach an engine that is down.
    pub(super) backoff: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(5),
            list: Duration::from_secs(20),
            sizes: Duration::from_mins(4),
            heartbeat: Duration::from_secs(3),
            info: Duration::from_secs(1),
            subscribe: Duration::from_millis(100),
            settle: Duration::from_secs(2),
            poll: Duration::from_secs(10),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}
