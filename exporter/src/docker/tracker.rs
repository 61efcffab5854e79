//! Merges lists, events and inspections into the container store, in whatever order they arrive, and decides which
//! containers to inspect. Does no I/O.
//!
//! The engine may have made an answer before an event that has arrived earlier. So events are numbered, each request
//! records the number of the last event, and an answer is discarded if an event of its container has come since the
//! request.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::container::{Inspected, ListEntry};
use super::error::Error;
use super::events::{Action, Event};
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::name::{
    ContainerInfo, ContainerStore, Dropped, FixedMatch, HealthStatus, Identity, Moment, Names, NamingPolicy, OomEvents,
    Reported, State, Stored,
};

/// Number of times that a failed inspection is repeated before the next list.
const MAX_RETRIES: u8 = 2;

/// Maximum number of containers that are inspected for their health in one round. Those inspected longest ago come
/// first.
const HEALTH_ROUND: usize = 50;

/// Maximum error of an age in a list, which is rounded, and as old as the list.
const AGE_ERROR: Duration = Duration::from_mins(1);

/// Keeps the container store up to date with one engine.
#[derive(Debug)]
pub(super) struct Tracker {
    store: Arc<ContainerStore>,
    naming: NamingPolicy,
    self_metrics: SelfMetrics,
    histories: HashMap<ContainerId, ContainerHistory>,
    /// Containers to inspect, the next one first.
    queue: VecDeque<ContainerId>,
    /// The containers in `queue`.
    queued: HashSet<ContainerId>,
    /// Containers whose inspection has been requested and not answered.
    requested: HashSet<ContainerId>,
    /// Containers whose inspection has failed and is to be repeated.
    retry: Vec<ContainerId>,
    /// Containers for which the store has no room. Each is counted once.
    refused: HashSet<ContainerId>,
    /// Number of events so far.
    event_count: u64,
    /// When the last list was applied.
    listed: Option<Instant>,
    /// Whether events may have been missed since the last list.
    has_missed_events: bool,
    /// Number of rounds of inspections for health so far.
    health_round: u64,
    /// Whether a subscription to events has been active in this session or an earlier one.
    was_subscribed: bool,
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
            requested: HashSet::new(),
            retry: Vec::new(),
            refused: HashSet::new(),
            event_count: 0,
            listed: None,
            has_missed_events: false,
            health_round: 0,
            was_subscribed: false,
        }
    }

    /// Marks the store as settled, because the engine does not answer and no list will come.
    pub(super) fn settle(&self) {
        self.store.set_settled();
    }

    pub(super) fn naming(&self) -> &NamingPolicy {
        &self.naming
    }

    pub(super) fn names(&self) -> Arc<Names> {
        self.store.names()
    }

    /// Returns the number of the last event, to record it in a request.
    pub(super) fn last_event(&self) -> u64 {
        self.event_count
    }

    /// Takes the next container to inspect from the queue.
    pub(super) fn next_inspection(&mut self) -> Option<ContainerId> {
        let id = self.queue.pop_front()?;
        self.queued.remove(&id);
        self.requested.insert(id);
        Some(id)
    }

    /// Applies an event.
    pub(super) fn on_event(&mut self, event: &Event) {
        self.self_metrics.docker_events.with_label_values(&[event.action.as_str()]).inc();
        self.event_count += 1;
        let history = self.histories.entry(event.id).or_default();
        history.last_event = self.event_count;
        match event.action {
            Action::Destroy => {
                // By the clock of this host, because the engine may be on another one.
                self.store.remove(event.id, Moment::now());
                return;
            }
            Action::Update => self.store.mark_updated(event.id),
            _ => {}
        }
        let is_late = history.is_late(event);
        match event.action {
            Action::Start if !is_late => {
                history.oom = false;
                history.oom_events.start();
            }
            Action::Oom => {
                history.oom |= !is_late;
                history.oom_events.record(is_late);
            }
            _ => {}
        }
        let wants_inspection = event.needs_inspection() || !history.inspected;
        if self.store_event(event, is_late) && wants_inspection {
            self.enqueue(event.id);
        }
    }

    /// Stores what an event shows. Returns whether the container can be inspected: it exists, and the store has room
    /// for it.
    fn store_event(&mut self, event: &Event, is_late: bool) -> bool {
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
        if !is_late && (!gone || event.action == Action::Die) {
            event.apply(&mut info);
        }
        self.store(info) && !gone
    }

    /// Applies the list of all containers. Returns whether it shows a change of which no event has come.
    ///
    /// `asked` is the number of the last event at the request. A container that is not in a list may still exist if the
    /// list is not `complete`.
    pub(super) fn on_list(&mut self, list: Vec<ListEntry>, asked: u64, complete: bool) -> bool {
        let names = self.names();
        let existing: HashSet<_> = list.iter().map(|listed| listed.id).collect();
        let restart_age = self.restart_age();
        let mut has_news = false;
        for listed in list {
            has_news |= self.on_listed(listed, asked, &names, restart_age);
        }
        self.listed = Some(Instant::now());
        self.has_missed_events = false;
        let now = Moment::now();
        for (id, info) in names.containers.iter().filter(|_| complete) {
            if info.removed.is_none() && !existing.contains(id) && self.is_unchanged_since(*id, asked) {
                has_news |= self.store.remove(*id, now);
            }
        }
        let known = self.names();
        self.histories.retain(|id, history| {
            known.containers.contains_key(id) || existing.contains(id) || history.last_event > asked
        });
        self.refused.retain(|id| existing.contains(id));
        self.store.set_settled();
        has_news
    }

    /// Returns the age in seconds up to which a container may have been restarted since the last list; none if no
    /// events have been missed.
    fn restart_age(&self) -> Option<u64> {
        let since = self.listed.filter(|_| self.has_missed_events)?;
        Some((since.elapsed() + AGE_ERROR).as_secs())
    }

    /// Applies an entry of a list. Returns whether it shows a change of which no event has come.
    fn on_listed(&mut self, listed: ListEntry, asked: u64, names: &Names, restart_age: Option<u64>) -> bool {
        if !self.is_unchanged_since(listed.id, asked) {
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
        let changed = restarted || listed.differs(known);
        let may_be_restarted = restart_age.zip(history.age).is_some_and(|(limit, age)| age <= limit);
        if changed || may_be_restarted || !history.inspected || needs_polling(known) || known.reported != Reported::ALL
        {
            history.retries = 0;
            self.enqueue(id);
        }
        if labels_unknown {
            self.store.change(id, |info| identify(info, &listed.identity));
        }
        let is_confirmed = !known.reported.state && listed.state == Some(known.state);
        if changed || is_confirmed {
            let selected = self.naming.filter.selects(&listed.identity.name, fixed);
            self.store.change(id, |info| listed.apply(info, selected));
        }
        changed
    }

    /// Applies the answer to an inspection. `asked` is the number of the last event at the request.
    pub(super) fn on_inspected(&mut self, id: ContainerId, asked: u64, answer: Result<Value, Error>) {
        self.requested.remove(&id);
        if !self.histories.contains_key(&id) {
            return;
        }
        if !self.is_unchanged_since(id, asked) {
            // An event has come since, so the container is inspected again, unless it is gone.
            let gone = self.names().containers.get(&id).is_none_or(|info| info.removed.is_some());
            if !gone {
                self.enqueue(id);
            }
            return;
        }
        let answer = answer.map(|value| Inspected::parse(&value, &self.naming, &self.names()));
        match answer {
            Ok(Some(inspected)) if inspected.info.id == id => self.merge(inspected),
            Ok(_) => tracing::debug!(container = %id, "the engine answered an inspection with another container"),
            Err(error) => self.on_failed(id, &error),
        }
    }

    /// Stores the result of an inspection.
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
            // An inspection does not show that a removed container exists again.
            info.removed = known.removed;
            // The time of the end is converted to the monotonic clock only once.
            let same = known.finished.map(|moment| moment.wall_ns) == info.finished.map(|moment| moment.wall_ns);
            info.finished = if same { known.finished } else { info.finished };
        }
        self.store(info);
    }

    /// Handles a failed inspection. It is repeated unless the engine has answered: a container that is gone is removed
    /// by its `destroy` event or by the next list.
    fn on_failed(&mut self, id: ContainerId, error: &Error) {
        tracing::debug!(container = %id, %error, "inspection failed");
        if error.is_refusal() {
            // There will be no inspection to confirm the state.
            self.store.change(id, |info| info.reported.state = true);
        }
        let Some(history) = self.histories.get_mut(&id) else { return };
        if error.status().is_none() && history.retries < MAX_RETRIES {
            history.retries += 1;
            self.retry.push(id);
        }
    }

    /// Repeats failed inspections, and forgets containers whose time to linger is over. Called every few seconds.
    pub(super) fn tidy(&mut self) {
        for id in std::mem::take(&mut self.retry) {
            self.enqueue(id);
        }
        for id in self.store.prune(Instant::now()) {
            self.histories.remove(&id);
        }
    }

    /// Queues inspections of containers that are not healthy, because their failing streak grows without an event. Does
    /// so only while scrapes come. Called every few seconds.
    pub(super) fn refresh_health(&mut self, now: Instant) {
        if !self.store.is_scraped(now) {
            return;
        }
        let names = self.names();
        let unhealthy = names.containers.values().filter(|info| info.removed.is_none() && is_unhealthy(info));
        let unhealthy = unhealthy.filter(|info| !self.requested.contains(&info.id));
        let mut rounds: Vec<_> =
            unhealthy.filter_map(|info| Some((self.histories.get(&info.id)?.health_round, info.id))).collect();
        rounds.sort_unstable();
        self.health_round += 1;
        for (_, id) in rounds.into_iter().take(HEALTH_ROUND) {
            if let Some(history) = self.histories.get_mut(&id) {
                history.health_round = self.health_round;
            }
            self.enqueue(id);
        }
    }

    /// Records that a subscription to events is active.
    pub(super) fn subscribed(&mut self) {
        self.was_subscribed = true;
    }

    /// Records that events may be missing since the last list, so that young containers in the next list may have been
    /// restarted.
    pub(super) fn events_missed(&mut self) {
        self.has_missed_events = true;
    }

    /// Forgets queued and pending inspections. The list after the reconnection queues them again.
    pub(super) fn disconnected(&mut self) {
        self.events_missed();
        self.queue.clear();
        self.retry.clear();
        for id in self.queued.drain().chain(self.requested.drain()) {
            if let Some(history) = self.histories.get_mut(&id) {
                history.inspected = false;
            }
        }
    }

    /// Queues an inspection.
    fn enqueue(&mut self, id: ContainerId) {
        if self.queued.insert(id) {
            self.queue.push_back(id);
        }
    }

    /// Returns whether no event of the container has come since the event number `asked`.
    fn is_unchanged_since(&self, id: ContainerId, asked: u64) -> bool {
        self.histories.get(&id).is_none_or(|history| history.last_event <= asked)
    }

    /// Stores a container. Returns false, and counts the container once, if the store has no room for it.
    fn store(&mut self, mut info: ContainerInfo) -> bool {
        let id = info.id;
        let oom_events = self.histories.get(&id).map(|history| history.oom_events).unwrap_or_default();
        info.oom_events = (self.was_subscribed || oom_events.total() > 0).then_some(oom_events);
        if self.store.upsert(info) != Stored::Full {
            self.refused.remove(&id);
            return true;
        }
        if self.refused.insert(id) {
            self.self_metrics.series_dropped.with_label_values(&["container_limit"]).inc();
        }
        false
    }

    /// Counts the truncated and dropped texts of a container, once per container.
    fn count_dropped(&mut self, id: ContainerId, dropped: Dropped) {
        let history = self.histories.entry(id).or_default();
        if std::mem::replace(&mut history.dropped_counted, true) {
            return;
        }
        for (reason, count) in dropped.reasons() {
            tracing::debug!(container = %id, reason, count, "truncated names or labels");
            self.self_metrics.series_dropped.with_label_values(&[reason]).inc_by(count);
        }
    }
}

/// What is remembered of one container beside its entry in the store.
#[derive(Debug, Default)]
struct ContainerHistory {
    /// The number of its last event.
    last_event: u64,
    /// Whether it has been inspected in this session.
    inspected: bool,
    /// Number of repeated inspections since the last success or the last list.
    retries: u8,
    /// Whether its truncated texts have been counted.
    dropped_counted: bool,
    /// Its age in the last list, in seconds. A smaller age in the next list shows a restart of which no event has come.
    age: Option<u64>,
    /// Whether an `oom` event has come since the last start.
    oom: bool,
    /// The part of the filter's decision that image and labels determine.
    fixed: Option<FixedMatch>,
    /// Numbers of `oom` events.
    oom_events: OomEvents,
    /// The number of the round in which it was last inspected for its health.
    health_round: u64,
    /// Time of the last `start` event, in nanoseconds since the epoch.
    start_ns: u64,
    /// Time of the last `die` event, in nanoseconds since the epoch.
    die_ns: u64,
}

impl ContainerHistory {
    /// Records the time of an event. Returns whether the event has arrived after a later one: a `start` after the `die`
    /// of the same run, or the end of a run after the start of the next.
    fn is_late(&mut self, event: &Event) -> bool {
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

/// Returns whether each list causes an inspection: no event comes when the streak of a failing health check grows, or
/// when a failed restart is counted.
fn needs_polling(known: &ContainerInfo) -> bool {
    is_unhealthy(known) || known.state == State::Restarting
}

/// Returns whether a live container has a health check that has not succeeded.
fn is_unhealthy(known: &ContainerInfo) -> bool {
    known.state.is_alive() && known.health.is_some_and(|health| health.status != HealthStatus::Healthy)
}

/// Applies the names of a container.
fn identify(info: &mut ContainerInfo, identity: &Identity) {
    info.name.clone_from(&identity.name);
    info.image.clone_from(&identity.image);
    info.labels.clone_from(&identity.labels);
    info.selected = identity.selected;
}

#[cfg(test)]
mod tests;
