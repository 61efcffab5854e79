//! The task that keeps the container store up to date: it subscribes to events, lists, inspects new and changed
//! containers, applies events, lists again at intervals, and starts over after the engine was away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemInfo;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::doubts::Seen;
use super::events::Event;
use super::list::ListEntry;
use super::live::{Events, List, LiveSession, Mark, SessionEvent, next_session_event, pending};
use super::outage::{Logged, Outage};
use super::timing::Backoff;
use super::timing::Timing;
use super::tracker::Tracker;
use super::{Engine, Error, json};
use crate::discover::ContainerId;
use crate::name::{ContainerStore, MAX_CONTAINERS, NamingPolicy};

/// Maximum number of pending inspections.
const INSPECTIONS: usize = 8;
/// A shorter session counts as failed: the next one has to wait.
const MIN_SESSION: Duration = Duration::from_secs(5);
/// A shorter event stream without an event counts as failed.
const MIN_STREAM: Duration = Duration::from_secs(1);
/// Consecutive failed event streams before that is logged.
const MAX_FAILED_STREAMS: u32 = 4;
/// Maximum number of chunks of the event stream that are read at once, so that a flood does not delay the rest.
const MAX_BURST: usize = 64;
/// How long after a subscription the engine may repeat earlier events.
const REPEAT_WINDOW: Duration = Duration::from_secs(2);
/// Maximum time between two lists that only doubts caused.
const MAX_GAP: Duration = Duration::from_mins(1);

/// Keeps `store` up to date with `engine` until `stop` is ready. Never ends by itself: an engine that is down is
/// retried with growing waits, and its known containers stay.
///
/// `resync` is the time between two full lists, which repair what events missed.
pub async fn follow(
    engine: Engine,
    store: Arc<ContainerStore>,
    naming: NamingPolicy,
    resync: Duration,
    stop: impl Future<Output = ()>,
) {
    let timing = engine.timing();
    let mut follower = Follower {
        tracker: Tracker::new(store, naming, engine.self_metrics().clone()),
        backoff: Backoff::new(timing.backoff.0, timing.backoff.1),
        resubscribe: Backoff::new(timing.backoff.0, timing.poll.max(timing.backoff.0)),
        fruitless: 0,
        last_event: None,
        gap: timing.doubt.1,
        tick: ticker(timing.heartbeat),
        engine,
        timing,
        resync,
        outage: None,
        forgiven: false,
        seen_up: false,
        logged: Logged::default(),
    };
    tokio::select! {
        () = stop => {}
        () = follower.run() => {}
    }
    // Pending requests are dropped with the follower, their connections included.
    follower.engine.disconnect();
}

struct Follower {
    engine: Engine,
    tracker: Tracker,
    timing: Timing,
    resync: Duration,
    backoff: Backoff,
    /// Waits before the next subscription.
    resubscribe: Backoff,
    fruitless: u32,
    last_event: Option<Mark>,
    /// Minimum time between two lists caused by doubts; grows while they settle nothing.
    gap: Duration,
    tick: Interval,
    outage: Option<Outage>,
    /// Whether a broken answer was tolerated since the last list.
    forgiven: bool,
    seen_up: bool,
    logged: Logged,
}

impl Follower {
    async fn run(&mut self) {
        loop {
            let began = Instant::now();
            let error = match self.session().await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.tracker.disconnected();
            if began.elapsed() >= MIN_SESSION {
                self.backoff.reset();
            }
            let broken = matches!(error, Error::Closed { .. } | Error::Broken { .. });
            if self.outage.is_none() && self.seen_up && broken && !std::mem::replace(&mut self.forgiven, true) {
                // One truncated answer may be a proxy's fault; if the engine is down, the next attempt fails at once.
                tracing::debug!(%error, "asking again");
                continue;
            }
            self.down(&error);
            self.pause().await;
        }
    }

    /// Waits before the next attempt. Containers whose linger time is over are forgotten meanwhile.
    async fn pause(&mut self) {
        let wait = self.backoff.next();
        tracing::debug!(?wait, "waiting before the next attempt");
        let mut over = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = &mut over => return,
                _ = self.tick.tick() => self.tracker.tidy(),
            }
        }
    }

    /// Runs until the engine stops answering.
    async fn session(&mut self) -> Result<Infallible, Error> {
        let session = self.engine.connect().await?;
        // Subscribes first, so that events during the list are not lost.
        let mut live = LiveSession::new(session, self.last_event);
        if self.engine.host().is_missing() {
            live.ask_info();
            // The first values should have their final path, if the engine reports its driver in reasonable time.
            if let Ok(answer) = timeout(self.timing.info, pending(&mut live.info)).await {
                self.on_info(answer);
            }
        }
        live.next_list = Instant::now() + self.timing.subscribe;
        loop {
            self.ask(&mut live);
            let doubts = self.engine.doubts().due(self.timing.doubt.0, live.list_asked + self.gap);
            tokio::select! {
                event = next_session_event(&mut live.events, &live.session) => self.on_session_event(&mut live, event)?,
                Some((id, asked, answer)) = live.inspections.next() => self.on_inspected(&mut live, id, asked, answer),
                list = pending(&mut live.list) => self.on_list(&mut live, list?),
                newest = pending(&mut live.heartbeat) => self.on_newest(newest)?,
                answer = pending(&mut live.info) => self.on_info(answer),
                () = sleep_until(live.next_list), if live.list.is_none() => self.start_list(&mut live),
                () = doubts, if live.list.is_none() => {
                    if self.engine.doubts().are_left(&self.tracker.names()) {
                        tracing::debug!("a scrape saw a container that the engine has not reported");
                        self.start_list(&mut live);
                        live.list_of_doubt = true;
                    }
                }
                _ = self.tick.tick() => self.on_tick(&mut live),
            }
        }
    }

    /// Sends pending inspections.
    fn ask(&mut self, live: &mut LiveSession) {
        while live.inspections.len() < INSPECTIONS && live.inspect_again <= Instant::now() {
            let Some(id) = self.tracker.next_inspection() else { return };
            let (session, asked) = (Arc::clone(&live.session), self.tracker.now());
            live.inspections.push(Box::pin(async move { (id, asked, session.inspect(id).await) }));
        }
    }

    /// An error for a missing container says nothing about others; a refusal before any success does.
    fn on_inspected(&mut self, live: &mut LiveSession, id: ContainerId, asked: u64, answer: Result<Value, Error>) {
        match &answer {
            // Not a heartbeat: health is polled all the time, and a silent event stream has to be noticed.
            Ok(_) => live.inspected = true,
            Err(error) if live.inspected || error.status() == Some(404) => {}
            Err(error) => {
                if error.is_refusal() {
                    live.inspect_again = Instant::now() + self.resync;
                }
                if self.logged.first("inspect") {
                    tracing::warn!(%error, "cannot inspect containers: names and states come from the list; limits, restarts and times are missing");
                }
            }
        }
        self.tracker.on_inspected(id, asked, answer);
    }

    fn on_session_event(&mut self, live: &mut LiveSession, event: SessionEvent) -> Result<(), Error> {
        match event {
            SessionEvent::Due => live.subscribe(self.last_event),
            SessionEvent::Subscribed => {
                tracing::debug!("subscribed to events");
                live.heard = true;
                self.tracker.subscribed();
                // A list has to cover what happened before.
                live.next_list = Instant::now();
            }
            SessionEvent::Bytes(bytes) => return self.on_bytes(live, &bytes),
            SessionEvent::Ended => self.resubscribe(live, None),
            SessionEvent::Failed(error) if error.is_unconnected() => return Err(error),
            SessionEvent::Failed(error) => self.resubscribe(live, Some(error)),
        }
        Ok(())
    }

    /// Handles the end or the refusal of the event stream: a proxy may limit its time, or refuse it and still allow the
    /// list. The heartbeat shows whether the engine itself is down.
    fn resubscribe(&mut self, live: &mut LiveSession, error: Option<Error>) {
        let lived = live.subscribed().is_some_and(|since| since.elapsed() >= MIN_STREAM);
        let refused = error.as_ref().is_some_and(Error::is_refusal);
        if live.event_count > 0 || lived {
            self.fruitless = 0;
            self.resubscribe.reset();
        }
        let wait = match self.fruitless {
            _ if refused => self.resync,
            0 => Duration::ZERO,
            _ => self.resubscribe.next(),
        };
        self.fruitless = self.fruitless.saturating_add(1);
        tracing::debug!(
            error = error.as_ref().map(tracing::field::display),
            ?wait,
            "the event stream ended; subscribing again"
        );
        if (refused || self.fruitless >= MAX_FAILED_STREAMS) && self.logged.first("events") {
            let why = error.map_or_else(|| "each stream ends at once".to_owned(), |error| error.to_string());
            let every = self.resync.min(self.timing.poll);
            tracing::warn!(%why, ?every, "cannot subscribe to container events: names and states come from the list, which is polled");
        }
        let now = Instant::now();
        live.events = Events::Waiting(now + wait);
        live.next_list = live.next_list.min(now + self.timing.poll);
        live.ask_newest();
    }

    /// Applies events together with the rest of their burst, so that a burst costs one inspection per container.
    fn on_bytes(&mut self, live: &mut LiveSession, first: &Bytes) -> Result<(), Error> {
        self.apply(live, first);
        for _ in 0..MAX_BURST {
            match next_session_event(&mut live.events, &live.session).now_or_never() {
                Some(SessionEvent::Bytes(bytes)) => self.apply(live, &bytes),
                Some(event) => return self.on_session_event(live, event),
                None => break,
            }
        }
        Ok(())
    }

    fn apply(&mut self, live: &mut LiveSession, bytes: &Bytes) {
        let before = live.event_count;
        let soon = live.subscribed().is_some_and(|since| since.elapsed() < REPEAT_WINDOW);
        let repeated = live.since.filter(|_| soon);
        let (tracker, last, event_count) = (&mut self.tracker, &mut self.last_event, &mut live.event_count);
        live.objects.feed(bytes, |object| {
            let event = json::parse(object).and_then(|value| Event::parse(&value, tracker.naming()));
            let Some(event) = event else { return };
            *event_count += 1;
            let mark = Mark::new(event.time_ns, object);
            if repeated.is_some_and(|known| mark.time_ns < known.time_ns || mark == known) {
                return;
            }
            *last = Some(mark);
            tracing::debug!(container = %event.id, action = event.action.as_str(), "container event");
            tracker.on_event(&event);
        });
        live.heard |= live.event_count > before;
    }

    fn start_list(&self, live: &mut LiveSession) {
        let (session, naming, names) = (Arc::clone(&live.session), self.tracker.naming().clone(), self.tracker.names());
        let asked = self.tracker.now();
        live.list_asked = Instant::now();
        live.list_of_doubt = false;
        live.list = Some(Box::pin(async move {
            let mut list = Vec::new();
            let read = session.list(|value| list.extend(ListEntry::parse(&value, &naming, &names))).await?;
            Ok((list, read, asked))
        }));
    }

    fn on_list(&mut self, live: &mut LiveSession, (list, read, asked): List) {
        live.heard = true;
        live.lists += 1;
        self.forgiven = false;
        let containers = list.len();
        let surprise = self.tracker.on_list(list, asked, !read.cut && read.skipped == 0);
        if live.subscribed().is_none() {
            self.tracker.events_missed();
        }
        tracing::debug!(containers, surprise, "listed");
        if (read.cut || read.skipped > 0) && self.logged.first("list") {
            tracing::warn!(
                unreadable = read.skipped,
                more_than = read.cut.then_some(MAX_CONTAINERS),
                "the engine's list is too long, or has entries that are too large or invalid: these containers have no name"
            );
        }
        self.up(live);
        self.settle_doubts(live, surprise);
        if live.watched_list() {
            live.watched_lists += 1;
            if surprise && live.watched_lists > 1 {
                // The stream may be dead without an error.
                live.subscribe(self.last_event);
            }
        }
        let wait = match live.subscribed() {
            // The subscription is older than this list.
            Some(_) if !live.watched_list() => Duration::ZERO,
            // Without cgroups only a list reveals a dead stream.
            Some(_) if !self.engine.host().is_wanted() => self.resync,
            _ => self.timing.poll.min(self.resync),
        };
        live.next_list = Instant::now() + wait;
        if live.info.is_none() && live.info_again <= Instant::now() && self.engine.host().is_missing() {
            live.ask_info();
        }
    }

    /// Applies a list to the doubts. If it settles none, the next list for doubts waits longer.
    fn settle_doubts(&mut self, live: &LiveSession, surprise: bool) {
        self.engine.doubts().answered(live.list_asked, &self.tracker.names());
        let first = self.timing.doubt.1.max(live.list_asked.elapsed() * 10);
        let vain = live.list_of_doubt && !surprise;
        self.gap = if vain { (self.gap * 2).clamp(first, MAX_GAP.max(first)) } else { first };
    }

    /// Records that the engine answered, and asks for a new list if the newest container is unknown. A proxy that
    /// refuses the request answers, too.
    fn on_newest(&self, newest: Result<Option<ContainerId>, Error>) -> Result<(), Error> {
        let newest = newest.or_else(|error| if error.is_refusal() { Ok(None) } else { Err(error) })?;
        let names = self.tracker.names();
        let unknown = newest.filter(|id| !names.containers.contains_key(id));
        self.engine.doubts().raise(unknown.map(|id| (id, Seen::ListEntry)));
        Ok(())
    }

    /// Stores the answer to `/info`. Only paths depend on it: an engine that does not answer it may answer everything
    /// else.
    fn on_info(&mut self, answer: Result<SystemInfo, Error>) {
        match answer {
            Ok(info) => self.engine.host().learn(&info),
            Err(error) if !self.logged.first("info") => tracing::debug!(%error, "cannot read /info yet"),
            Err(error) => tracing::warn!(
                %error,
                "the engine does not report its cgroup driver: `id` assumes /docker/ID, without systemd; retrying"
            ),
        }
    }

    /// Performs periodic tasks; sends a heartbeat only after silence.
    fn on_tick(&mut self, live: &mut LiveSession) {
        self.tracker.tidy();
        self.tracker.refresh_health(std::time::Instant::now());
        if !std::mem::take(&mut live.heard) {
            live.ask_newest();
        }
    }

    /// Logs once per session that the engine answers.
    fn up(&mut self, live: &LiveSession) {
        if live.lists != 1 {
            return;
        }
        self.engine.set_up(true);
        let outage = self.outage.take();
        let about = self.engine.about();
        let engine = self.engine.address();
        let version = about.as_ref().map(|about| about.version.as_str());
        let api = about.as_ref().map(|about| about.api.as_str());
        if let Some(outage) = outage.filter(|_| self.seen_up) {
            tracing::info!(engine, version, api, after = ?outage.elapsed(), "reconnected to the Docker engine");
        } else if !self.seen_up {
            tracing::info!(engine, version, api, "following the Docker engine");
        }
        self.seen_up = true;
    }

    /// Logs each cause once per outage why the engine does not answer.
    fn down(&mut self, error: &Error) {
        self.engine.set_up(false);
        self.engine.disconnect();
        self.tracker.settle();
        let outage = self.outage.get_or_insert_with(Outage::new);
        let known = outage.is_known();
        match outage.is_first(error) {
            true if known => {
                tracing::warn!(%error, after = ?outage.elapsed(), "the Docker engine still does not answer, for another reason now; retrying");
            }
            true => {
                tracing::warn!(%error, "the Docker engine does not answer: known containers keep their names, new ones have none; retrying");
            }
            false => tracing::debug!(%error, "the Docker engine still does not answer"),
        }
    }
}

fn ticker(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

#[cfg(test)]
mod endpoint_tests;
#[cfg(test)]
mod tests;
