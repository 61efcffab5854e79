//! When a container's limits are read: they are slow facts, and reading them costs as much as all counters.

use std::time::{Duration, Instant};

use super::container::Container;
use super::limits::Limits;
use super::reader::Reader;
use crate::name::Names;

/// Longest time for which a changed limit goes unnoticed where no event of the engine tells of it. Reading the limits
/// of a container costs as much as reading all its counters: every 30 seconds, scrapes 15 seconds apart took twice as long.
const LIMITS_INTERVAL: Duration = Duration::from_mins(5);

/// The same where a snapshot tells of every change at once, but for the first time: see [`SETTLED`].
const WATCHED_LIMITS_INTERVAL: Duration = Duration::from_hours(1);

/// Limits are written, and files appear, while a container starts: both are looked at once more when that is surely over.
/// Where a snapshot tells of changes there is no haste, and those found together, at a start all of them, take turns.
const SETTLED: Duration = Duration::from_secs(30);

/// Groups of containers of which something is read anew in different scrapes.
pub(super) const TURNS: u32 = 16;

/// After how long a group reads something anew that is to be read once in an interval: after half of it at the earliest.
pub(super) fn in_turns(interval: Duration, turn: u32) -> Duration {
    interval * (TURNS + turn) / (2 * TURNS)
}

impl Reader {
    pub(super) fn refresh_limits(&mut self, container: &mut Container, names: &Names, now: Instant) {
        let engine = container.meta(names).map(|meta| &meta.limits);
        // A capture is small, and may be edited under us.
        let fresh = container.limits_due.is_some_and(|due| self.live && now < due);
        // A container may be seen before the engine tells of it, and what was asked for is known to it alone.
        if fresh && (container.limits_told || engine.is_none()) {
            return;
        }
        let interval = match (container.limits_due, container.copied.are_limits_watched()) {
            (None, false) => SETTLED,
            (None, true) | (Some(_), false) => LIMITS_INTERVAL,
            (Some(_), true) => WATCHED_LIMITS_INTERVAL,
        };
        container.limits_told = engine.is_some();
        let own = &self.own;
        let problem = |file: &str, reason| own.count_read_error(file, reason);
        container.limits = Limits::read(&self.hierarchy, &container.path, engine, &mut self.files, problem);
        // Containers found together take turns afterwards, so that no scrape reads the limits of all of them.
        self.limits_turn = (self.limits_turn + 1) % TURNS;
        container.limits_due = Some(now + in_turns(interval, self.limits_turn));
        container.retry_absent();
    }
}
