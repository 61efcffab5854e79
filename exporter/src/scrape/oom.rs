//! Counts the OOM kills over all runs of a container.
//!
//! The kernel counts per cgroup: its count starts at 0 with each run, and a kill that ends the run disappears with the
//! cgroup before the next scrape. The engine reports such a kill by an event. The greater of both counts is used for
//! each run, so that a kill which both report counts once. While the cgroup can be read, its count is exact: an engine
//! on cgroup v1 may report one kill twice, and surplus events are ignored.

use std::mem;

use crate::name::OomEvents;

/// State of one container's count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OomKills {
    /// Generation of the last observed cgroup; 0 for none.
    generation: u64,
    /// The kernel's count in that cgroup.
    count: u64,
    /// The part of `count` that belongs to earlier runs.
    base: u64,
    /// 1 if the cgroup is newer than the last start that the engine reported, -1 if it is older.
    ahead: i8,
    events: OomEvents,
    /// Events of the current run in excess of the kernel's count.
    surplus: u64,
    /// Events of earlier runs in excess of the kernel's counts.
    earlier_surplus: u64,
    /// Kills of ended runs that the kernel counted and no event reports, and kills of events that the engine's follower
    /// has forgotten.
    carried: u64,
    /// The part of `carried` that late events of the previous run may still report.
    awaited: u64,
}

impl OomKills {
    /// Returns the kills in all runs.
    pub(super) fn total(&self) -> u64 {
        let (kernel, events) = (self.kernel(), self.events.current.saturating_sub(self.surplus));
        // A newer cgroup belongs to the next run.
        let current = if self.ahead > 0 { kernel + events } else { kernel.max(events) };
        self.carried + self.events.earlier.saturating_sub(self.earlier_surplus) + current
    }

    /// Updates the count by the engine's events and the kernel's count of the cgroup `generation`, if there is one.
    pub(super) fn observe(&mut self, events: OomEvents, cgroup: Option<(u64, Option<u64>)>) {
        let before = self.total();
        let starts = events.runs.saturating_sub(self.events.runs);
        let moved = self.generation != 0 && cgroup.is_some_and(|(generation, _)| generation != self.generation);
        // Late events of the previous run, whose kills were carried already. An engine reports no event of a run before
        // its start.
        let late = match (starts, self.ahead > 0) {
            (0, false) => events.previous.saturating_sub(self.events.previous),
            (0, true) => events.current.saturating_sub(self.events.current),
            (1, true) => events.previous.saturating_sub(self.events.current),
            _ => 0,
        };
        let counted = late.min(self.awaited);
        self.carried -= counted;
        self.awaited -= counted;
        if moved || (starts > 0 && self.ahead <= 0) {
            let reported = match starts {
                0 if self.ahead > 0 => 0,
                0 => events.current,
                1 => events.previous,
                _ => self.events.current,
            };
            self.awaited = self.kernel().saturating_sub(reported);
            self.carried += self.awaited;
            self.base = self.count;
        }
        if moved {
            (self.count, self.base) = (0, 0);
        }
        self.ahead = match (moved, starts) {
            // The first observed cgroup belongs to the last start.
            _ if self.generation == 0 => 0,
            (true, 1) => 0,
            (true, 0) => (self.ahead + 1).min(1),
            (false, 0) => self.ahead,
            (_, 1) => (self.ahead - 1).max(-1),
            _ => -i8::from(!moved),
        };
        if starts > 0 {
            self.earlier_surplus += mem::take(&mut self.surplus);
        }
        // Applies if the follower has forgotten events.
        self.surplus = self.surplus.min(events.current);
        self.earlier_surplus = self.earlier_surplus.min(events.earlier);
        self.events = events;
        if let Some((generation, count)) = cgroup {
            self.generation = generation;
            self.count = self.count.max(count.unwrap_or_default());
            if count.is_some() && self.ahead <= 0 {
                self.surplus = events.current.saturating_sub(self.kernel());
            }
        }
        // Differs only if the follower has forgotten events.
        self.carried += before.saturating_sub(self.total());
    }

    /// Returns the kernel's count of this run.
    fn kernel(&self) -> u64 {
        self.count.saturating_sub(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::OomKills;
    use crate::name::OomEvents;

    /// An event in the life of a container. `Seen` is a scrape that finds a cgroup generation and the kernel's count.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Start,
        Oom,
        LateOom,
        Seen(u64, u64),
        /// A scrape of a kernel that does not count kills.
        Uncounted(u64),
        /// A scrape that finds no cgroup.
        Gone,
        /// The follower forgets the container.
        Forget,
    }
    use Step::{Forget, Gone, LateOom, Oom, Seen, Start, Uncounted};

    fn totals(steps: &[Step]) -> Vec<u64> {
        let (mut events, mut kills, mut totals) = (OomEvents::default(), OomKills::default(), Vec::new());
        for step in steps {
            match *step {
                Start => events.start(),
                Oom => events.record(false),
                LateOom => events.record(true),
                Forget => events = OomEvents::default(),
                Seen(generation, count) => kills.observe(events, Some((generation, Some(count)))),
                Uncounted(generation) => kills.observe(events, Some((generation, None))),
                Gone => kills.observe(events, None),
            }
            if matches!(step, Seen(..) | Uncounted(_) | Gone) {
                totals.push(kills.total());
            }
        }
        assert!(totals.is_sorted(), "{totals:?} of {steps:?}");
        totals
    }

    #[test]
    fn kills_that_the_kernel_s_count_did_not_survive_are_counted_by_events() {
        assert_eq!(totals(&[Seen(1, 0), Oom, Start, Seen(2, 0), Oom, Start, Oom, Start, Seen(4, 0)]), [0, 1, 3]);
        assert_eq!(totals(&[Uncounted(1), Oom, Uncounted(1), Oom, Oom, Start, Uncounted(2)]), [0, 1, 3]);
        assert_eq!(totals(&[Seen(1, 0), Oom, Gone, Start, Oom, Gone, Start, Gone]), [0, 1, 2, 2]);
    }

    #[test]
    fn a_kill_that_both_have_counted_counts_once() {
        assert_eq!(totals(&[Seen(1, 1), Oom, Seen(1, 1), Start, Seen(2, 0)]), [1, 1, 1]);
        assert_eq!(totals(&[Oom, Seen(1, 0), Seen(1, 1), Start, Seen(2, 0), Oom, Seen(2, 1)]), [0, 1, 1, 2]);
        // The kernel's count was read before the event came, and the next scrape is after the restart.
        assert_eq!(totals(&[Seen(1, 1), Oom, Start, Seen(2, 0)]), [1, 1]);
        assert_eq!(totals(&[Seen(1, 1), Oom, Start, Gone, Seen(2, 0)]), [1, 1, 1]);
        assert_eq!(totals(&[Seen(1, 1), Oom, Gone, Start, Gone, Seen(2, 0)]), [1, 1, 1, 1]);
    }

    #[test]
    fn an_event_beyond_the_count_of_a_cgroup_that_can_be_read_is_no_kill() {
        // The engine reports one kill twice.
        assert_eq!(totals(&[Seen(1, 0), Oom, Oom, Seen(1, 1), Seen(1, 1)]), [0, 1, 1]);
        assert_eq!(totals(&[Seen(1, 1), Oom, Oom, Seen(1, 1), Start, Seen(2, 0), Oom, Seen(2, 1)]), [1, 1, 1, 2]);
        // The next kill ends the run before a scrape: one event more.
        assert_eq!(totals(&[Oom, Oom, Seen(1, 1), Oom, Gone, Start, Seen(2, 0), Oom, Gone]), [1, 2, 2, 3]);
        assert_eq!(totals(&[Oom, Oom, Seen(1, 1), Gone, Forget, Gone]), [1, 1, 1]);
    }

    #[test]
    fn what_the_kernel_counted_is_carried_over_runs() {
        assert_eq!(totals(&[Seen(1, 5), Start, Seen(2, 0), Seen(2, 2)]), [5, 5, 7]);
        assert_eq!(totals(&[Seen(1, 5), Oom, Start, Seen(2, 0), Oom, Start, Seen(3, 0)]), [5, 5, 6]);
        // Without events: an engine that is down, or refuses them.
        assert_eq!(totals(&[Seen(1, 5), Seen(2, 0), Seen(2, 1), Gone, Seen(3, 3)]), [5, 5, 6, 6, 9]);
    }

    #[test]
    fn a_new_cgroup_may_be_seen_before_its_start_is_told() {
        assert_eq!(totals(&[Seen(1, 1), Oom, Seen(2, 0), Start, Seen(2, 0), Seen(2, 1)]), [1, 1, 1, 2]);
        assert_eq!(totals(&[Seen(1, 0), Start, Seen(1, 0), Seen(1, 1), Oom, Seen(1, 1)]), [0, 0, 1, 1]);
    }

    #[test]
    fn the_first_cgroup_that_is_seen_is_that_of_the_start_that_was_reported() {
        assert_eq!(totals(&[Start, Seen(1, 0), Oom, Seen(2, 0), Start, Seen(2, 0)]), [0, 1, 1]);
    }

    #[test]
    fn a_start_may_be_told_before_the_new_cgroup_is_seen() {
        assert_eq!(totals(&[Seen(1, 1), Oom, Start, Seen(1, 1), Seen(2, 0), Seen(2, 1)]), [1, 1, 1, 2]);
    }

    #[test]
    fn a_late_event_belongs_to_the_run_before() {
        assert_eq!(totals(&[Seen(1, 1), Start, LateOom, Seen(2, 0)]), [1, 1]);
    }

    #[test]
    fn an_event_that_comes_after_its_kill_was_carried_counts_nothing_more() {
        assert_eq!(totals(&[Seen(1, 1), Start, Seen(2, 0), LateOom, Seen(2, 0)]), [1, 1, 1]);
        assert_eq!(totals(&[Seen(1, 1), Seen(2, 0), Oom, Seen(2, 0), Start, Seen(2, 0)]), [1, 1, 1, 1]);
        assert_eq!(totals(&[Seen(1, 1), Seen(2, 0), Oom, Start, Seen(2, 0)]), [1, 1, 1]);
        // More of them than the kernel's count had.
        assert_eq!(
            totals(&[Seen(1, 1), Start, Seen(2, 0), LateOom, LateOom, Seen(2, 1), Oom, Seen(2, 1)]),
            [1, 1, 3, 3]
        );
    }

    #[test]
    fn the_count_survives_a_follower_that_forgets() {
        assert_eq!(totals(&[Oom, Start, Oom, Uncounted(1), Forget, Uncounted(1), Oom, Uncounted(1)]), [2, 2, 3]);
    }
}
