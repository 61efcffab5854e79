//! Merges what lists, events and inspections say into the container store, whichever arrives first, and knows which
//! container has to be inspected. No I/O.
//!
//! Answers overtake each other: an inspection may have been made before an event that arrived earlier. So every event
//! moves a clock, and an answer whose question is older than the container's last event is not believed.

mod history;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use history::ContainerHistory;
use serde_json::Value;

use super::Error;
use super::events::{Action, Event};
use super::inspect::{Inspected, inspected};
use super::list::ListEntry;
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::name::{
    ContainerInfo, ContainerStore, Dropped, HealthStatus, Identity, Moment, Names, NamingPolicy, Reported, State,
    Stored,
};

/// How often a failed inspection is tried again before the next full list.
const MAX_RETRIES: u8 = 2;

/// Containers inspected for their health in one round: those of which that was done the longest time ago.
const HEALTH_ROUND: usize = 50;

/// What a list's ages may be off by: they are rounded, and a list takes its time.
const ROUNDED: Duration = Duration::from_mins(1);

/// Everything that is known beside the container store.
#[derive(Debug)]
pub(super) struct Tracker {
    store: Arc<ContainerStore>,
    naming: NamingPolicy,
    self_metrics: SelfMetrics,
    histories: HashMap<ContainerId, ContainerHistory>,
    /// Containers to inspect, in the order of asking and as a set.
    queue: VecDeque<ContainerId>,
    queued: HashSet<ContainerId>,
    /// Containers whose inspection is on the way.
    asked: HashSet<ContainerId>,
    /// Containers whose inspection failed.
    retry: Vec<ContainerId>,
    /// Containers for which there was no room; counted when they came in.
    refused: HashSet<ContainerId>,
    clock: u64,
    /// When the last list was taken over.
    listed: Option<Instant>,
    /// Whether events may have been missed since.
    interrupted: bool,
    /// Rounds of inspections for health so far.
    health_round: u64,
    /// Whether the engine has sent its events in this session or an earlier one.
    subscribed: bool,
}

impl Tracker {
    pub(super) fn new(store: Arc<ContainerStore>, naming: NamingPolicy, self_metrics: SelfMetrics) -> Self {
        Self {
            store,
            naming,
            self_metrics,
            histories: HashMap::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            asked: HashSet::new(),
            retry: Vec::new(),
            refused: HashSet::new(),
            clock: 0,
            listed: None,
            interrupted: false,
            health_round: 0,
            subscribed: false,
        }
    }

    /// There is no list to wait for.
    pub(super) fn settle(&self) {
        self.store.set_settled();
    }

    pub(super) fn naming(&self) -> &NamingPolicy {
        &self.naming
    }

    pub(super) fn names(&self) -> Arc<Names> {
        self.store.names()
    }

    /// Returns the number of the last event, for a question that is asked now.
    pub(super) fn now(&self) -> u64 {
        self.clock
    }

    /// Takes the next container to inspect.
    pub(super) fn next_inspection(&mut self) -> Option<ContainerId> {
        let id = self.queue.pop_front()?;
        self.queued.remove(&id);
        self.asked.insert(id);
        Some(id)
    }

    /// Something happened.
    pub(super) fn on_event(&mut self, event: &Event) {
        self.self_metrics.docker_events.with_label_values(&[event.action.as_str()]).inc();
        self.clock += 1;
        let history = self.histories.entry(event.id).or_default();
        history.last_event = self.clock;
        match event.action {
            Action::Destroy => {
                // By our clock, as everything about lingering is: the engine may be on another host.
                self.store.remove(event.id, Moment::now());
                return;
            }
            Action::Update => self.store.mark_updated(event.id),
            _ => {}
        }
        let late = history.is_late(event);
        match event.action {
            Action::Start if !late => {
                history.oom = false;
                history.oom_events.start();
            }
            Action::Oom => {
                history.oom |= !late;
                history.oom_events.record(late);
            }
            _ => {}
        }
        let ask = event.leaves_questions() || !history.inspected;
        if self.store_event(event, late) && ask {
            self.enqueue(event.id);
        }
    }

    /// Returns whether the container may be asked about: it exists, and there is room for it.
    fn store_event(&mut self, event: &Event, late: bool) -> bool {
        let known = self.names().containers.get(&event.id).map(|info| ContainerInfo::clone(info));
        let mut info = known.unwrap_or_else(|| ContainerInfo::unknown(event.id));
        let fixed = self.histories.get(&event.id).and_then(|history| history.fixed);
        match (&event.identity, fixed) {
            (Some(identity), None) => identify(&mut info, identity),
            (Some(identity), Some(fixed)) if event.action == Action::Rename => {
                info.name.clone_from(&identity.name);
                info.selected = self.naming.filter.selects(&identity.name, fixed);
            }
            _ => {}
        }
        if event.proves_existence() {
            info.removed = None;
        }
        let gone = info.removed.is_some();
        if !late && (!gone || event.action == Action::Die) {
            event.apply(&mut info);
        }
        self.store(info) && !gone
    }

    /// Takes over the full list that was asked for at `asked`. Tells whether it held a change that events should
    /// have reported. What a list lacks that is not `complete` may still exist.
    pub(super) fn on_list(&mut self, list: Vec<ListEntry>, asked: u64, complete: bool) -> bool {
        let names = self.names();
        let existing: HashSet<_> = list.iter().map(|listed| listed.id).collect();
        let gap = self.gap();
        let mut surprise = false;
        for listed in list {
            surprise |= self.on_listed(listed, asked, &names, gap);
        }
        self.listed = Some(Instant::now());
        self.interrupted = false;
        let now = Moment::now();
        for (id, info) in names.containers.iter().filter(|_| complete) {
            if info.removed.is_none() && !existing.contains(id) && self.is_older(*id, asked) {
                surprise |= self.store.remove(*id, now);
            }
        }
        let known = self.names();
        self.histories.retain(|id, history| {
            known.containers.contains_key(id) || existing.contains(id) || history.last_event > asked
        });
        self.refused.retain(|id| existing.contains(id));
        self.store.set_settled();
        surprise
    }

    /// Seconds that a container must be older than to be surely the one of the last list: after an outage nothing else
    /// shows a restart of one that was young then, or that came since.
    fn gap(&self) -> Option<u64> {
        let since = self.listed.filter(|_| self.interrupted)?;
        Some((since.elapsed() + ROUNDED).as_secs())
    }

    fn on_listed(&mut self, listed: ListEntry, asked: u64, names: &Names, gap: Option<u64>) -> bool {
        if !self.is_older(listed.id, asked) {
            return false;
        }
        let id = listed.id;
        self.count_dropped(id, listed.identity.dropped);
        let history = self.histories.entry(id).or_default();
        let restarted = listed.status.age.zip(history.age).is_some_and(|(now, before)| now < before);
        history.age = listed.status.age;
        let labels_unknown = history.fixed.is_none();
        let fixed = *history.fixed.get_or_insert(listed.identity.fixed);
        let Some(known) = names.containers.get(&id).filter(|info| info.removed.is_none()) else {
            if self.store(listed.into_info()) {
                self.enqueue(id);
            }
            return true;
        };
        let changed = restarted || differs(known, &listed);
        let doubtful = gap.zip(history.age).is_some_and(|(gap, age)| age <= gap);
        if changed || doubtful || !history.inspected || needs_polling(known) || known.reported != Reported::ALL {
            history.retries = 0;
            self.enqueue(id);
        }
        if labels_unknown {
            self.store.change(id, |info| identify(info, &listed.identity));
        }
        let is_confirmed = !known.reported.state && listed.state == Some(known.state);
        if changed || is_confirmed {
            let selected = self.naming.filter.selects(&listed.identity.name, fixed);
            self.store.change(id, |info| take_over(info, &listed, selected));
        }
        changed
    }

    /// Takes over the answer to an inspection that was asked for at `asked`.
    pub(super) fn on_inspected(&mut self, id: ContainerId, asked: u64, answer: Result<Value, Error>) {
        self.asked.remove(&id);
        if !self.histories.contains_key(&id) {
            return;
        }
        if !self.is_older(id, asked) {
            // Unless it is gone, that event has already asked for, or needs, another inspection.
            let gone = self.names().containers.get(&id).is_none_or(|info| info.removed.is_some());
            if !gone {
                self.enqueue(id);
            }
            return;
        }
        let answer = answer.map(|value| inspected(&value, &self.naming, &self.names()));
        match answer {
            Ok(Some(inspected)) if inspected.info.id == id => self.merge(inspected),
            Ok(_) => tracing::debug!(container = %id, "the engine answered an inspection with another container"),
            Err(error) => self.failed(id, &error),
        }
    }

    fn merge(&mut self, inspected: Inspected) {
        let Inspected { mut info, fixed, dropped } = inspected;
        self.count_dropped(info.id, dropped);
        let history = self.histories.entry(info.id).or_default();
        history.fixed = Some(fixed);
        let seen_before = std::mem::replace(&mut history.inspected, true);
        history.retries = 0;
        info.oom_killed |= history.oom;
        if let Some(known) = self.store.names().containers.get(&info.id) {
            if seen_before && known.limits != info.limits {
                self.store.mark_updated(info.id);
            }
            // Gone meanwhile: only its own end is news.
            info.removed = known.removed;
            // Known already: converted to the monotonic clock only once.
            let same = known.finished.map(|moment| moment.wall_ns) == info.finished.map(|moment| moment.wall_ns);
            info.finished = if same { known.finished } else { info.finished };
        }
        self.store(info);
    }

    /// A container that is not there any more is left to its `destroy` event or the next list.
    fn failed(&mut self, id: ContainerId, error: &Error) {
        tracing::debug!(container = %id, %error, "inspection failed");
        if error.is_refusal() {
            // Nothing but its events can be known.
            self.store.change(id, |info| info.reported.state = true);
        }
        let Some(history) = self.histories.get_mut(&id) else { return };
        if error.status().is_none() && history.retries < MAX_RETRIES {
            history.retries += 1;
            self.retry.push(id);
        }
    }

    /// Tries failed inspections again, and forgets what has lingered long enough. To be called every few seconds.
    pub(super) fn tidy(&mut self) {
        for id in std::mem::take(&mut self.retry) {
            self.enqueue(id);
        }
        for id in self.store.prune(Instant::now()) {
            self.histories.remove(&id);
        }
    }

    /// Has containers inspected that are not healthy, as their failing streak grows without an event. Only while somebody
    /// scrapes; to be called every few seconds.
    pub(super) fn refresh_health(&mut self, now: Instant) {
        if !self.store.is_scraped(now) {
            return;
        }
        let names = self.names();
        let sick = names.containers.values().filter(|info| info.removed.is_none() && is_sick(info));
        let sick = sick.filter(|info| !self.asked.contains(&info.id));
        let mut rounds: Vec<_> =
            sick.filter_map(|info| Some((self.histories.get(&info.id)?.health_round, info.id))).collect();
        rounds.sort_unstable();
        self.health_round += 1;
        for (_, id) in rounds.into_iter().take(HEALTH_ROUND) {
            if let Some(history) = self.histories.get_mut(&id) {
                history.health_round = self.health_round;
            }
            self.enqueue(id);
        }
    }

    /// The engine tells its events.
    pub(super) fn subscribed(&mut self) {
        self.subscribed = true;
    }

    /// Events may be missing since the last list: what is young in the next one may have been restarted.
    pub(super) fn events_missed(&mut self) {
        self.interrupted = true;
    }

    /// Forgets the inspections that were wanted; the list after the reconnection asks for them again.
    pub(super) fn disconnected(&mut self) {
        self.events_missed();
        self.queue.clear();
        self.retry.clear();
        for id in self.queued.drain().chain(self.asked.drain()) {
            if let Some(history) = self.histories.get_mut(&id) {
                history.inspected = false;
            }
        }
    }

    fn enqueue(&mut self, id: ContainerId) {
        if self.queued.insert(id) {
            self.queue.push_back(id);
        }
    }

    /// Returns whether nothing has happened to the container since `asked`.
    fn is_older(&self, id: ContainerId, asked: u64) -> bool {
        self.histories.get(&id).is_none_or(|history| history.last_event <= asked)
    }

    /// False where there is no room for the container, which is counted once.
    fn store(&mut self, mut info: ContainerInfo) -> bool {
        let id = info.id;
        let oom_events = self.histories.get(&id).map(|history| history.oom_events).unwrap_or_default();
        info.oom_events = (self.subscribed || oom_events.total() > 0).then_some(oom_events);
        if self.store.upsert(info) != Stored::Full {
            self.refused.remove(&id);
            return true;
        }
        if self.refused.insert(id) {
            self.self_metrics.series_dropped.with_label_values(&["container_limit"]).inc();
        }
        false
    }

    /// Once per container, not once per list.
    fn count_dropped(&mut self, id: ContainerId, dropped: Dropped) {
        let history = self.histories.entry(id).or_default();
        if std::mem::replace(&mut history.counted, true) {
            return;
        }
        for (reason, count) in dropped.reasons() {
            tracing::debug!(container = %id, reason, count, "truncated names or labels");
            self.self_metrics.series_dropped.with_label_values(&[reason]).inc_by(count);
        }
    }
}

/// Returns whether the list shows something else than what is known.
fn differs(known: &ContainerInfo, listed: &ListEntry) -> bool {
    let exit_code = listed.status.exit_code.filter(|_| !known.state.is_alive());
    let health = listed.status.health.filter(|_| known.state.is_alive());
    known.name != listed.identity.name
        || listed.state.is_some_and(|state| state != known.state)
        || exit_code.is_some_and(|code| known.exit_code != Some(code))
        || health.is_some_and(|verdict| known.health.map(|health| health.status) != Some(verdict))
}

/// Returns whether the container needs polling: the streak of a failing health check grows without an event, and a
/// failed restart is counted without one.
fn needs_polling(known: &ContainerInfo) -> bool {
    is_sick(known) || known.state == State::Restarting
}

fn is_sick(known: &ContainerInfo) -> bool {
    known.state.is_alive() && known.health.is_some_and(|health| health.status != HealthStatus::Healthy)
}

fn identify(info: &mut ContainerInfo, identity: &Identity) {
    info.name.clone_from(&identity.name);
    info.image.clone_from(&identity.image);
    info.labels.clone_from(&identity.labels);
    info.selected = identity.selected;
}

/// What the list proves; the inspection that follows tells the rest.
fn take_over(info: &mut ContainerInfo, listed: &ListEntry, selected: bool) {
    info.name.clone_from(&listed.identity.name);
    info.selected = selected;
    if let Some(health) = listed.health().filter(|health| info.health.is_none_or(|known| known.status != health.status))
    {
        (info.health, info.reported.health) = (Some(health), true);
    }
    info.reported.state |= listed.state.is_some();
    let Some(state) = listed.state.filter(|state| *state != info.state) else { return };
    (info.state, info.reported.end) = (state, false);
    info.pid = None;
    if state == State::Running {
        info.started_ns = None;
    }
    info.exit_code = listed.status.exit_code.filter(|_| !state.is_alive());
    if state.is_alive() {
        info.finished = None;
    }
}

#[cfg(test)]
mod tests;
