//! Doubts: a scrape or a heartbeat has seen a container in a state that contradicts the reports of the engine.
//!
//! A scrape raises a doubt and does not wait. The follower lists the containers if the doubt lasts, and so notices an
//! event stream that is open and silent. A doubt that a list has not settled does not cause another list. So ids that
//! the engine does not know cause one list, however many there are and however often they are seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::discover::ContainerId;
use crate::name::{MAX_CONTAINERS, Names};

/// How long an answered doubt is kept after it was raised last.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// State in which a container was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It runs.
    Running,
    /// It does not run.
    Ended,
    /// It exists, in whatever state.
    ListEntry,
}

impl Seen {
    /// Returns whether the engine reports the same now.
    fn is_reported(self, id: ContainerId, names: &Names) -> bool {
        let info = names.containers.get(&id);
        let runs = info.is_some_and(|info| info.state.is_alive() && info.removed.is_none());
        match self {
            Self::Running => runs,
            Self::Ended => !runs,
            Self::ListEntry => info.is_some(),
        }
    }
}

/// Doubts about the reports of one engine. Scrapes raise them, the follower settles them.
#[derive(Debug, Default)]
pub struct Doubts {
    state: Mutex<State>,
    raised: Notify,
}

#[derive(Debug, Default)]
struct State {
    doubts: HashMap<ContainerId, Doubt>,
    /// When the oldest doubt that no list has answered was raised.
    open_since: Option<Instant>,
}

#[derive(Debug)]
struct Doubt {
    seen: Seen,
    /// When it was raised first.
    since: Instant,
    /// When it was raised last.
    last: Instant,
    /// Whether a list that was requested later has been applied.
    answered: bool,
}

impl Doubts {
    /// Raises or renews a doubt about each container. Does not wait for the engine.
    pub fn raise(&self, seen: impl IntoIterator<Item = (ContainerId, Seen)>) {
        let mut seen = seen.into_iter().peekable();
        if seen.peek().is_none() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        let before = state.open_since;
        for (id, seen) in seen {
            if let Some(doubt) = state.doubts.get_mut(&id).filter(|doubt| doubt.seen == seen) {
                doubt.last = now;
                continue;
            }
            if state.doubts.len() >= MAX_CONTAINERS {
                state.doubts.clear();
            }
            state.doubts.insert(id, Doubt { seen, since: now, last: now, answered: false });
            state.open_since.get_or_insert(now);
        }
        if before.is_none() && state.open_since.is_some() {
            self.raised.notify_one();
        }
    }

    /// Completes when an unanswered doubt has lasted for `patience`, but not before `earliest`.
    pub(super) async fn due(&self, patience: Duration, earliest: Instant) {
        loop {
            let open_since = self.lock().open_since;
            match open_since {
                Some(since) => return sleep_until((since + patience).max(earliest)).await,
                None => self.raised.notified().await,
            }
        }
    }

    /// Drops the doubts that reports of the engine have settled. Returns whether an unanswered doubt is left.
    pub(super) fn are_left(&self, names: &Names) -> bool {
        let mut state = self.lock();
        state.doubts.retain(|id, doubt| doubt.answered || !doubt.seen.is_reported(*id, names));
        state.update_open_since();
        state.open_since.is_some()
    }

    /// Records that a list that was requested at `asked` has been applied. Doubts that it has not settled cause no
    /// other list.
    pub(super) fn answered(&self, asked: Instant, names: &Names) {
        let mut state = self.lock();
        state.doubts.retain(|id, doubt| {
            doubt.answered |= doubt.since <= asked;
            !doubt.seen.is_reported(*id, names) && (!doubt.answered || doubt.last.elapsed() < FORGOTTEN_AFTER)
        });
        state.update_open_since();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn update_open_since(&mut self) {
        self.open_since = self.doubts.values().filter(|doubt| !doubt.answered).map(|doubt| doubt.since).min();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Doubts, Instant, Names, Seen};
    use crate::docker::fake::id;
    use crate::name::{ContainerInfo, State};

    fn names(letter: char, state: State) -> Names {
        let info = ContainerInfo { state, ..ContainerInfo::unknown(id(letter)) };
        Names { containers: [(info.id, Arc::new(info))].into(), ..Names::default() }
    }

    fn is_open(doubts: &Doubts) -> bool {
        doubts.lock().open_since.is_some()
    }

    #[test]
    fn what_events_tell_in_time_needs_no_list() {
        let doubts = Doubts::default();
        doubts.raise([(id('a'), Seen::Running)]);
        assert!(doubts.are_left(&names('a', State::Exited)));
        assert!(!doubts.are_left(&names('a', State::Running)));
        doubts.raise([(id('a'), Seen::Ended)]);
        assert!(doubts.are_left(&names('a', State::Running)));
        assert!(!doubts.are_left(&names('a', State::Exited)));
    }

    #[test]
    fn an_id_that_a_list_does_not_know_is_not_asked_for_again() {
        let doubts = Doubts::default();
        doubts.raise([(id('a'), Seen::Running)]);
        doubts.answered(Instant::now(), &Names::default());
        for _ in 0..3 {
            doubts.raise([(id('a'), Seen::Running)]);
            assert!(!is_open(&doubts));
        }
        doubts.raise([(id('b'), Seen::Running)]);
        assert!(is_open(&doubts), "another one is");
    }

    #[test]
    fn a_list_that_was_asked_for_before_the_doubt_does_not_answer_it() {
        let doubts = Doubts::default();
        let before = Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        doubts.raise([(id('a'), Seen::ListEntry)]);
        doubts.answered(before, &Names::default());
        assert!(is_open(&doubts));
        doubts.answered(Instant::now(), &names('a', State::Created));
        assert!(!is_open(&doubts) && doubts.lock().doubts.is_empty());
    }
}
