//! The pass over the files of a container's cgroup: its counters, and now and then its limits, which are slow facts and cost as much.

use std::time::{Duration, Instant};

use tracing::debug;

use super::container::Container;
use super::files::format::{lines, words};
use super::files::limits::Limits;
use super::files::open_files::{Handle, Outcome, reason};
use super::reader::Reader;
use super::sample::parse::parse;
use super::timing::{Timing, Ways};
use crate::metrics::{Collector, CollectorSet};
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

    /// The files of the container's cgroup.
    pub(super) fn read_files(&mut self, container: &mut Container, wanted: CollectorSet, timing: &mut Timing) -> Ways {
        let mut ways = Ways::default();
        // What takes no reading is told for all at once: the clock costs as much as filling in a file's values.
        let mut since = CollectorSet::EMPTY;
        let mut handles = std::mem::take(&mut container.handles);
        for (place, file) in self.plan.files.iter().enumerate() {
            if file.collectors.intersection(wanted).is_empty() {
                continue;
            }
            if container.id.is_some() && self.idle_alternatives.get(place).copied().unwrap_or(false) {
                if let Some(handle) = handles.get_mut(place) {
                    handle.close();
                }
                continue;
            }
            let collector = file.collectors.iter().next().unwrap_or(Collector::State);
            let of_this = CollectorSet::EMPTY.with(collector);
            if let Some(snapshot) = self.snapshot.as_mut().filter(|_| container.id.is_some())
                && snapshot.fill(place, container, &mut self.labels, &mut self.devices)
            {
                if let Some(handle) = handles.get_mut(place).filter(|_| !snapshot.is_read_often(place)) {
                    handle.close();
                }
                ways.copied(file.collectors);
                since = since.with(collector);
                continue;
            }
            // A collector's files follow each other: one look at the clock serves them all.
            if since != of_this {
                timing.lap_for(since);
                since = of_this;
            }
            if handles.is_empty() {
                handles.resize_with(self.plan.files.len(), Handle::default);
            }
            let Some(handle) = handles.get_mut(place) else { break };
            let untried = !matches!(handle, Handle::Absent);
            if !matches!(handle, Handle::Open(_)) {
                container.file_path(&file.tree, &file.name, &mut self.path);
            }
            let mut outcome = self.files.read(handle, &self.path);
            // A file that is opened each time and goes by its other name seems to have vanished under its first.
            if let (Outcome::Absent | Outcome::Vanished, Some(fallback), true) = (&outcome, file.fallback, untried) {
                container.file_path(&file.tree, fallback, &mut self.path);
                handle.retry();
                outcome = self.files.read(handle, &self.path);
            }
            match outcome {
                Outcome::Text(text) => {
                    ways.read(file.collectors, handle);
                    if file.is_alternative && container.id.is_none() && !counts_anything(text) {
                        // The recursive file, not the one that counts the root cgroup alone.
                        container.file_path(&file.tree, &file.name, &mut self.path);
                        self.idle_alternatives.resize(self.plan.files.len(), false);
                        self.idle_alternatives.get_mut(place).into_iter().for_each(|idle| *idle = self.path.exists());
                    }
                    let malformed = parse(file, text, &mut container.sample, &mut self.labels, &mut self.devices);
                    for _ in 0..malformed {
                        self.own.count_read_error(&file.name, "malformed");
                    }
                    if malformed > 0 {
                        debug!(cgroup = %container.path, file = %file.name, malformed, "values left out: not in the kernel's form");
                    }
                    if let Some(snapshot) = self.snapshot.as_mut().filter(|_| malformed == 0) {
                        snapshot.learn(place, container);
                    }
                }
                Outcome::Absent => {}
                Outcome::Vanished => {
                    self.own.count_read_error(&file.name, "vanished");
                    container.file_path(&file.tree, "", &mut self.path);
                    // In a capture a file may go alone. Under a kernel it goes with its cgroup, or with a controller that
                    // the parent hands down no more: then that is looked for again, as the limits that went with it.
                    container.alive = !self.live || self.path.is_dir();
                    if self.live && container.alive {
                        *handle = Handle::Absent;
                        container.limits_due = None;
                    }
                }
                Outcome::Failed(error) => {
                    self.own.count_read_error(&file.name, reason(&error));
                    debug!(cgroup = %container.path, file = %file.name, %error, "values left out");
                    timing.fail(file.collectors);
                }
            }
            if !container.alive {
                break;
            }
        }
        timing.lap_for(since);
        container.handles = handles;
        ways
    }
}

/// Whether a file of operations has a value other than 0. The root's counts the cgroups below, too.
fn counts_anything(text: &[u8]) -> bool {
    lines(text).filter_map(|line| words(line).last()).any(|value| value != b"0")
}
