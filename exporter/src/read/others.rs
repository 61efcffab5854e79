//! Reads cgroups that are not containers: their files and limits. Values of processes are left out, because those of a
//! slice belong to the containers and services below it.

use std::time::Instant;

use super::container::Container;
use super::reader::{Pass, Reader};
use super::timing::Timing;
use crate::discover::OtherChanges;

impl Reader {
    /// Adds new cgroups and removes those that are gone.
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

    /// Returns the cgroups that are no containers, in the order of their paths.
    #[must_use]
    pub fn others(&self) -> &[Container] {
        &self.others
    }

    /// Removes those whose files vanished during the last pass. Returns their paths.
    pub fn drop_ended_others(&mut self) -> Vec<String> {
        let ended = self.others.extract_if(.., |other| !other.alive);
        ended.map(|other| other.path).collect()
    }

    /// Reads the next ones until the pass's deadline. Returns whether all are read.
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

    /// Clears the values of cgroups that an unfinished pass has not reached. Returns whether there are any.
    pub(super) fn clear_unread_others(&mut self, next: usize) -> bool {
        let unread = self.others.get_mut(next..).unwrap_or_default();
        for other in unread.iter_mut() {
            other.sample.clear();
        }
        !unread.is_empty()
    }
}
