//! How long the engine is waited for.

use std::time::Duration;

/// All time limits, together so that tests can have shorter ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For the first byte of an answer, and then for each further piece.
    pub(super) call: Duration,
    /// For the first byte of the full list, which takes an engine with thousands of containers seconds to make.
    pub(super) list: Duration,
    /// For an answer as a whole, from its head to its end.
    pub(super) whole: Duration,
    /// Silence after which the engine is asked for a sign of life.
    pub(super) heartbeat: Duration,
    /// For what the engine says of its host, before the first list is asked for without it.
    pub(super) info: Duration,
    /// For the subscription to events to stand before the list is asked for without it.
    pub(super) subscribe: Duration,
    /// Time between two lists while no subscription stands.
    pub(super) poll: Duration,
    /// How long a scrape may know more than the engine has reported before the engine is asked, and the shortest time
    /// between two lists for that reason.
    pub(super) doubt: (Duration, Duration),
    /// Shortest and longest wait before the next attempt to reach an engine that is down.
    pub(super) backoff: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(5),
            list: Duration::from_secs(20),
            whole: Duration::from_mins(1),
            heartbeat: Duration::from_secs(3),
            info: Duration::from_secs(1),
            subscribe: Duration::from_millis(250),
            poll: Duration::from_secs(10),
            doubt: (Duration::from_secs(1), Duration::from_secs(2)),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}
