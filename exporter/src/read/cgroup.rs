//! Reads the files of cgroups, of containers and of others: counters, and limits if they may have changed.

use std::time::{Duration, Instant};

use tracing::debug;

use super::container::Container;
use super::files::format::{lines, words};
use super::files::limits::{Limits, LimitsVersion};
use super::files::open_files::{FileState, Outcome, count_malformed, reason};
use super::reader::{Pass, Reader};
use super::sample::fill::parse;
use super::timing::{PathsTaken, STAGGER_GROUPS, Timing, stagger_group, staggered};
use crate::discover::OtherChanges;
use crate::metrics::{Collector, CollectorSet, FamilySet};
use crate::name::Names;

/// Interval at which limits are read without evidence of a change. Reading them costs as much as reading all counters.
const LIMITS_INTERVAL: Duration = Duration::from_mins(5);

/// Interval at which limits are read if snapshots of the kernel's counters show every change.
const WATCHED_LIMITS_INTERVAL: Duration = Duration::from_hours(1);

/// Maximum age of a container at which its limits are read a second time, because limits are written and files appear while it
/// starts. If snapshots show every change, [`LIMITS_INTERVAL`] is early enough.
const SETTLE_DELAY: Duration = Duration::from_secs(30);

/// Returns the number of the interval at this age. The intervals of containers of different groups begin at different times.
fn interval_at(age: Duration, group: u32, is_watched: bool) -> u64 {
    let interval = if is_watched { WATCHED_LIMITS_INTERVAL } else { LIMITS_INTERVAL };
    let first = if is_watched { LIMITS_INTERVAL } else { SETTLE_DELAY };
    let settled = age.checked_sub(staggered(first, group));
    settled.map_or(0, |age| 1 + (age + interval * group / STAGGER_GROUPS).as_secs() / interval.as_secs())
}

impl Reader {
    /// Reads a container's limits if their [`LimitsVersion`] differs from the last one.
    pub(super) fn refresh_limits(&mut self, container: &mut Container, names: &Names, now: Instant) {
        let engine = container.info(names).map(|info| &info.limits);
        let age = now.saturating_duration_since(*container.first_seen.get_or_insert(now));
        let digest = container.record.digest;
        // An engine creates the cgroups of v1 one after the other, and the first pass may come in between.
        let known = container.limits_version.map_or(0, |version| version.trees);
        let trees = if self.live && age < SETTLE_DELAY { self.add_trees(container, known) } else { known };
        let version = LimitsVersion {
            with_engine: engine.is_some() || container.limits_version.is_some_and(|version| version.with_engine),
            digest,
            trees,
            interval: interval_at(age, stagger_group(container.generation), digest.is_some()),
        };
        // A capture is small, and may be edited at any time.
        if self.live && container.limits_version == Some(version) {
            return;
        }
        container.limits_version = Some(version);
        let self_metrics = &self.self_metrics;
        let problem = |file: &str, reason| self_metrics.count_read_error(file, reason);
        container.limits = Limits::read(&self.hierarchy, &container.path, engine, &mut self.files, problem);
        container.retry_absent();
    }

    /// Returns `known` with a bit for each other searched tree that has the container's cgroup.
    fn add_trees(&mut self, container: &Container, known: u32) -> u32 {
        let trees = self.hierarchy.searched().iter().take(32).enumerate();
        trees.filter(|(index, _)| known & 1 << index == 0).fold(known, |trees, (index, tree)| {
            container.file_path(&tree.path, "", &mut self.path);
            trees | u32::from(self.path.is_dir()) << index
        })
    }

    /// Fills the values of a cgroup's files into its sample, by snapshots or by reading the files.
    pub(super) fn read_files(
        &mut self,
        container: &mut Container,
        wanted: FamilySet,
        timing: &mut Timing,
    ) -> PathsTaken {
        let mut taken = PathsTaken::default();
        // The time of several files is attributed together, because reading the clock costs as much as parsing a file.
        let mut since = CollectorSet::EMPTY;
        let mut states = std::mem::take(&mut container.files);
        for (index, file) in self.plan.files.iter().enumerate() {
            if !file.families.intersects(&wanted) {
                continue;
            }
            if !container.is_host() && self.idle_alternatives.get(index).copied().unwrap_or(false) {
                if let Some(state) = states.get_mut(index) {
                    state.close();
                }
                continue;
            }
            let collector = file.collectors.iter().next().unwrap_or(Collector::State);
            let of_this = CollectorSet::EMPTY.with(collector);
            if let Some(snapshots) = self.snapshots.as_mut().filter(|_| container.id.is_some())
                && snapshots.fill(index, container, &mut self.labels, &mut self.devices)
            {
                if let Some(state) = states.get_mut(index).filter(|_| !snapshots.keeps_open(index)) {
                    state.close();
                }
                taken.copied(file.collectors);
                since = since.with(collector);
                continue;
            }
            // The files of a collector follow each other, so that one reading of the clock serves all of them.
            if since != of_this {
                timing.share_time_among(since);
                since = of_this;
            }
            if states.is_empty() {
                states.resize_with(self.plan.files.len(), FileState::default);
            }
            let Some(state) = states.get_mut(index) else { break };
            let is_untried = !matches!(state, FileState::Absent);
            if !matches!(state, FileState::Open(_)) {
                container.file_path(&file.tree, &file.name, &mut self.path);
            }
            let mut outcome = self.files.read(state, &self.path);
            // A file that is reopened under its fallback name is reported as vanished under its first name.
            if let (Outcome::Absent | Outcome::Vanished, Some(fallback), true) = (&outcome, file.fallback, is_untried) {
                container.file_path(&file.tree, fallback, &mut self.path);
                state.retry();
                outcome = self.files.read(state, &self.path);
            }
            match outcome {
                Outcome::Text(text) => {
                    taken.read(file.collectors, state);
                    if file.is_alternative && container.is_host() && !counts_anything(text) {
                        // The name of the recursive file: the fallback counts the root cgroup alone.
                        container.file_path(&file.tree, &file.name, &mut self.path);
                        self.idle_alternatives.resize(self.plan.files.len(), false);
                        self.idle_alternatives.get_mut(index).into_iter().for_each(|idle| *idle = self.path.exists());
                    }
                    let malformed = parse(file, text, &mut container.sample, &mut self.labels, &mut self.devices);
                    count_malformed(&file.name, malformed, &self.self_metrics);
                    if malformed > 0 {
                        debug!(cgroup = %container.path, file = %file.name, malformed, "ignored malformed values");
                    }
                    if let Some(snapshots) = self.snapshots.as_mut().filter(|_| malformed == 0) {
                        snapshots.learn_keys(index, container);
                    }
                }
                Outcome::Absent => {}
                Outcome::Vanished => {
                    self.self_metrics.count_read_error(&file.name, "vanished");
                    container.file_path(&file.tree, "", &mut self.path);
                    // In a capture a single file may disappear. In a live tree a file disappears with its cgroup, or with a
                    // controller that is disabled. In the latter case the file is tried again, and the limits are read again.
                    container.alive = !self.live || self.path.is_dir();
                    if self.live && container.alive {
                        *state = FileState::New;
                        container.limits_version = None;
                    }
                }
                Outcome::Failed(error) => {
                    self.self_metrics.count_read_error(&file.name, reason(&error));
                    debug!(cgroup = %container.path, file = %file.name, %error, "cannot read a file of a cgroup");
                    timing.fail(file.collectors);
                }
            }
            if !container.alive {
                break;
            }
        }
        timing.share_time_among(since);
        container.files = states;
        taken
    }
}

/// Cgroups that are not containers: their files and limits are read. Values of processes are left out, because those of a slice
/// belong to the containers and services below it.
impl Reader {
    /// Adds new cgroups that are not containers, and removes those that are gone.
    pub fn apply_others(&mut self, changes: OtherChanges) {
        if changes.added.is_empty() && changes.removed.is_empty() {
            return;
        }
        self.others.retain(|other| !changes.removed.contains(&other.path));
        for path in changes.added {
            self.generations += 1;
            self.others.push(Container::new(None, self.generations, path, &self.plan));
        }
        self.others.sort_by(|one, other| one.path.cmp(&other.path));
    }

    /// Returns the cgroups that are not containers, in the order of their paths.
    #[must_use]
    pub fn others(&self) -> &[Container] {
        &self.others
    }

    /// Removes those of them whose files vanished during the last pass. Returns their paths.
    pub fn drop_ended_others(&mut self) -> Vec<String> {
        let ended = self.others.extract_if(.., |other| !other.alive);
        ended.map(|other| other.path).collect()
    }

    /// Reads the next of them until the pass's deadline. Returns whether all are read.
    pub(super) fn advance_others(
        &mut self,
        next: &mut usize,
        pass: Pass<'_>,
        now: Instant,
        timing: &mut Timing,
    ) -> bool {
        let mut others = std::mem::take(&mut self.others);
        while *next < others.len() && pass.deadline.is_none_or(|deadline| timing.last() < deadline) {
            if let Some(other) = others.get_mut(*next).filter(|other| pass.wants(other)) {
                other.sample.clear();
                if pass.families.intersects(&self.plan.needs.limits) {
                    self.refresh_limits(other, pass.names, now);
                }
                self.read_files(other, pass.families, timing);
            }
            *next += 1;
        }
        self.others = others;
        *next >= self.others.len()
    }

    /// Clears the values of those that an unfinished pass has not reached. Returns whether there are any.
    pub(super) fn clear_unread_others(&mut self, next: usize) -> bool {
        let unread = self.others.get_mut(next..).unwrap_or_default();
        for other in unread.iter_mut() {
            other.sample.clear();
        }
        !unread.is_empty()
    }
}

/// Returns whether a file of operations has a value other than 0. That of the root cgroup includes all cgroups below.
fn counts_anything(text: &[u8]) -> bool {
    lines(text).filter_map(|line| words(line).last()).any(|value| value != b"0")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::interval_at;
    use crate::read::timing::STAGGER_GROUPS;

    #[test]
    fn limits_are_read_again_when_settled_and_then_by_turns() {
        let changes = |is_watched, hours: u64| {
            let at = |group, second| interval_at(Duration::from_secs(second), group, is_watched);
            let changes =
                |group| (1..hours * 3600).filter(|second| at(group, *second) != at(group, second - 1)).collect();
            (0..STAGGER_GROUPS).map(changes).collect::<Vec<Vec<u64>>>()
        };
        for group in changes(false, 1) {
            let [first, second, third, ..] = group[..] else { panic!("{group:?}") };
            assert!((15..=30).contains(&first) && second - first <= 301 && third - second == 300, "{group:?}");
        }
        let watched = changes(true, 3);
        assert!(watched.iter().all(|group| (3..=4).contains(&group.len())), "{watched:?}");
        assert!(watched.iter().all(|group| (150..=300).contains(&group[0])), "{watched:?}");
    }
}
