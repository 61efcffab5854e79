//! What has to be remembered of one container to tell news from what is old.

use crate::docker::events::{Action, Event};
use crate::name::{FixedMatch, OomEvents};

/// The history of one container, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct ContainerHistory {
    /// The clock at its last event.
    pub(super) last_event: u64,
    pub(super) inspected: bool,
    pub(super) retries: u8,
    /// Counts of truncated texts.
    pub(super) counted: bool,
    /// Age in the last list: a smaller one shows a restart without an event.
    pub(super) age: Option<u64>,
    /// An `oom` event since the last start.
    pub(super) oom: bool,
    /// The part of the filter's decision that image and labels determine.
    pub(super) fixed: Option<FixedMatch>,
    pub(super) oom_events: OomEvents,
    /// The round in which it was last inspected for its health.
    pub(super) health_round: u64,
    /// Time of the last `start` event.
    start_ns: u64,
    /// Time of the last `die` event.
    die_ns: u64,
}

impl ContainerHistory {
    /// Notes an event; returns whether it came after one that it preceded: a `start` after the `die` of the same run, or
    /// the end of a run after the start of the next.
    pub(super) fn is_late(&mut self, event: &Event) -> bool {
        match event.action {
            Action::Start => {
                self.start_ns = event.time_ns;
                event.time_ns < self.die_ns
            }
            Action::Die => {
                self.die_ns = event.time_ns;
                event.time_ns < self.start_ns
            }
            Action::Oom => event.time_ns < self.start_ns,
            _ => false,
        }
    }
}
