//! The task that keeps the container store up to date with one engine. It subscribes to events, lists the containers,
//! inspects new and changed ones, applies events, lists again at intervals, and starts over after an outage.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemInfo;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::container::ListEntry;
use super::doubts::Seen;
use super::engines::Engine;
use super::error::Error;
use super::events::Event;
use super::json;
use super::live::{Events, List, LiveSession, Mark, SessionEvent, next_session_event, pending};
use super::outage::{Backoff, Logged, Outage, Timing};
use super::tracker::Tracker;
use crate::discover::ContainerId;
use crate::name::{ContainerStore, MAX_CONTAINERS, NamingPolicy};

/// Maximum number of pending inspections.
const MAX_INSPECTIONS: usize = 8;
/// Minimum duration of a session after which the waits between attempts start from the shortest again.
const MIN_SESSION: Duration = Duration::from_secs(5);
/// Minimum duration of an event stream. A shorter one without an event has failed.
const MIN_STREAM: Duration = Duration::from_secs(1);
/// Number of consecutive failed event streams after which the failure is logged.
const MAX_FAILED_STREAMS: u32 = 4;
/// Maximum number of chunks of the event stream that are read at once, so that a flood of events does not delay
/// requests.
const MAX_BURST: usize = 64;
/// How long after a subscription the engine may repeat earlier events.
const REPEAT_WINDOW: Duration = Duration::from_secs(2);
/// Maximum time between two lists that doubts cause.
const MAX_DOUBT_GAP: Duration = Duration::from_mins(1);

/// Keeps `store` up to date with `engine` until `stop` completes. While the engine does not answer, attempts to reach
/// it are repeated with growing waits, and its known containers stay.
///
/// `resync` is the time between two lists, which show changes of which no event has come.
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
        failed_streams: 0,
        last_event: None,
        doubt_gap: timing.doubt.1,
        tick: ticker(timing.heartbeat),
        engine,
        timing,
        resync,
        outage: None,
        has_tolerated: false,
        was_up: false,
        logged: Logged::default(),
    };
    tokio::select! {
        () = stop => {}
        () = follower.run() => {}
    }
    // Pending requests and their connections end with the follower.
    follower.engine.disconnect();
}

/// State of the task.
struct Follower {
    engine: Engine,
    tracker: Tracker,
    timing: Timing,
    resync: Duration,
    backoff: Backoff,
    /// Waits before the next subscription.
    resubscribe: Backoff,
    /// Number of consecutive failed event streams.
    failed_streams: u32,
    last_event: Option<Mark>,
    /// Minimum time between two lists that doubts cause. It grows while lists settle no doubt.
    doubt_gap: Duration,
    tick: Interval,
    /// The current outage; none while the engine answers.
    outage: Option<Outage>,
    /// Whether a broken answer has been tolerated since the last list.
    has_tolerated: bool,
    /// Whether the engine has ever answered.
    was_up: bool,
    logged: Logged,
}

impl Follower {
    /// Runs one session after the other.
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
            if self.outage.is_none() && self.was_up && broken && !std::mem::replace(&mut self.has_tolerated, true) {
                // A proxy may have truncated this answer. If the engine is down, the next attempt fails at once.
                tracing::debug!(%error, "asking again");
                continue;
            }
            self.on_down(&error);
            self.wait().await;
        }
    }

    /// Waits before the next attempt. Meanwhile, containers whose time to linger is over are forgotten.
    async fn wait(&mut self) {
        let wait = self.backoff.next();
        tracing::debug!(?wait, "waiting before the next attempt");
        let mut elapsed = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = &mut elapsed => return,
                _ = self.tick.tick() => self.tracker.tidy(),
            }
        }
    }

    /// Runs a session until the engine does not answer any more.
    async fn session(&mut self) -> Result<Infallible, Error> {
        let session = self.engine.connect().await?;
        // The subscription comes first, so that no event is lost while the list is made.
        let mut live = LiveSession::new(session, self.last_event);
        if self.engine.host().is_missing() {
            live.request_info();
            // The paths of containers depend on the cgroup driver, so the first list waits some time for it.
            if let Ok(answer) = timeout(self.timing.info, pending(&mut live.info)).await {
                self.on_info(answer);
            }
        }
        live.next_list = Instant::now() + self.timing.subscribe;
        loop {
            self.request_inspections(&mut live);
            let doubts = self.engine.doubts().due(self.timing.doubt.0, live.list_asked + self.doubt_gap);
            tokio::select! {
                event = next_session_event(&mut live.events, &live.session) => self.on_session_event(&mut live, event)?,
                Some((id, asked, answer)) = live.inspections.next() => self.on_inspected(&mut live, id, asked, answer),
                list = pending(&mut live.list) => self.on_list(&mut live, list?),
                newest = pending(&mut live.heartbeat) => self.on_newest(newest)?,
                answer = pending(&mut live.info) => self.on_info(answer),
                () = sleep_until(live.next_list), if live.list.is_none() => self.request_list(&mut live),
                () = doubts, if live.list.is_none() => {
                    if self.engine.doubts().are_left(&self.tracker.names()) {
                        tracing::debug!("a scrape saw a container that the engine has not reported");
                        self.request_list(&mut live);
                        live.is_list_for_doubt = true;
                    }
                }
                _ = self.tick.tick() => self.on_tick(&mut live),
            }
        }
    }

    /// Requests queued inspections.
    fn request_inspections(&mut self, live: &mut LiveSession) {
        while live.inspections.len() < MAX_INSPECTIONS && live.inspect_from <= Instant::now() {
            let Some(id) = self.tracker.next_inspection() else { return };
            let (session, asked) = (Arc::clone(&live.session), self.tracker.last_event());
            live.inspections.push(Box::pin(async move { (id, asked, session.inspect(id).await) }));
        }
    }

    /// Handles the answer to an inspection. An engine that refuses one before any has succeeded is not asked again for
    /// some time.
    fn on_inspected(&mut self, live: &mut LiveSession, id: ContainerId, asked: u64, answer: Result<Value, Error>) {
        match &answer {
            // Does not count as a heartbeat: unhealthy containers are inspected all the time, which would hide a silent
            // event stream.
            Ok(_) => live.has_inspected = true,
            Err(error) if live.has_inspected || error.status() == Some(404) => {}
            Err(error) => {
                if error.is_refusal() {
                    live.inspect_from = Instant::now() + self.resync;
                }
                if self.logged.first("inspect") {
                    tracing::warn!(%error, "cannot inspect containers: names and states come from the list; limits, restarts and times are missing");
                }
            }
        }
        self.tracker.on_inspected(id, asked, answer);
    }

    /// Handles what has happened to the event stream. Returns the error if the engine cannot be reached.
    fn on_session_event(&mut self, live: &mut LiveSession, event: SessionEvent) -> Result<(), Error> {
        match event {
            SessionEvent::Due => live.subscribe(self.last_event),
            SessionEvent::Subscribed => {
                tracing::debug!("subscribed to events");
                live.is_heard = true;
                self.tracker.subscribed();
                // A list shows the changes before the subscription.
                live.next_list = Instant::now();
            }
            SessionEvent::Bytes(bytes) => return self.on_bytes(live, &bytes),
            SessionEvent::Ended => self.resubscribe(live, None),
            SessionEvent::Failed(error) if error.is_unconnected() => return Err(error),
            SessionEvent::Failed(error) => self.resubscribe(live, Some(error)),
        }
        Ok(())
    }

    /// Handles the end or the refusal of the event stream, and sends a heartbeat to see whether the engine itself is
    /// down. A proxy may limit the time of the stream, or refuse it and allow the list.
    fn resubscribe(&mut self, live: &mut LiveSession, error: Option<Error>) {
        let lived = live.subscribed().is_some_and(|since| since.elapsed() >= MIN_STREAM);
        let refused = error.as_ref().is_some_and(Error::is_refusal);
        if live.event_count > 0 || lived {
            self.failed_streams = 0;
            self.resubscribe.reset();
        }
        let wait = match self.failed_streams {
            _ if refused => self.resync,
            0 => Duration::ZERO,
            _ => self.resubscribe.next(),
        };
        self.failed_streams = self.failed_streams.saturating_add(1);
        tracing::debug!(
            error = error.as_ref().map(tracing::field::display),
            ?wait,
            "the event stream ended; subscribing again"
        );
        if (refused || self.failed_streams >= MAX_FAILED_STREAMS) && self.logged.first("events") {
            let why = error.map_or_else(|| "each stream ends at once".to_owned(), |error| error.to_string());
            let every = self.resync.min(self.timing.poll);
            tracing::warn!(%why, ?every, "cannot subscribe to container events: names and states come from the list, which is polled");
        }
        let now = Instant::now();
        live.events = Events::Waiting(now + wait);
        live.next_list = live.next_list.min(now + self.timing.poll);
        live.send_heartbeat();
    }

    /// Applies a chunk of events and those that follow at once, so that a burst causes one inspection per container.
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

    /// Applies the events that a chunk completes, without those that the engine repeats.
    fn apply(&mut self, live: &mut LiveSession, bytes: &Bytes) {
        let before = live.event_count;
        let is_new = live.subscribed().is_some_and(|since| since.elapsed() < REPEAT_WINDOW);
        let repeated = live.since.filter(|_| is_new);
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
        live.is_heard |= live.event_count > before;
    }

    /// Requests the list of all containers.
    fn request_list(&self, live: &mut LiveSession) {
        let (session, naming, names) = (Arc::clone(&live.session), self.tracker.naming().clone(), self.tracker.names());
        let asked = self.tracker.last_event();
        live.list_asked = Instant::now();
        live.is_list_for_doubt = false;
        live.list = Some(Box::pin(async move {
            let mut list = Vec::new();
            let left_out = session.list(|value| list.extend(ListEntry::parse(&value, &naming, &names))).await?;
            Ok((list, left_out, asked))
        }));
    }

    /// Applies a list, and schedules the next one.
    fn on_list(&mut self, live: &mut LiveSession, (list, left_out, asked): List) {
        live.is_heard = true;
        live.lists += 1;
        self.has_tolerated = false;
        let containers = list.len();
        let has_news = self.tracker.on_list(list, asked, !left_out.cut && left_out.skipped == 0);
        if live.subscribed().is_none() {
            self.tracker.events_missed();
        }
        tracing::debug!(containers, has_news, "listed");
        if (left_out.cut || left_out.skipped > 0) && self.logged.first("list") {
            tracing::warn!(
                unreadable = left_out.skipped,
                more_than = left_out.cut.then_some(MAX_CONTAINERS),
                "the engine's list is too long, or has entries that are too large or invalid: these containers have no name"
            );
        }
        self.on_up(live);
        self.settle_doubts(live, has_news);
        if live.has_events_since_list() {
            live.lists_with_events += 1;
            if has_news && live.lists_with_events > 1 {
                // The stream has not shown the change, and may be dead without an error.
                live.subscribe(self.last_event);
            }
        }
        let wait = match live.subscribed() {
            // The subscription has become active since this list was requested.
            Some(_) if !live.has_events_since_list() => Duration::ZERO,
            // Without cgroups, only a list shows that the stream is dead.
            Some(_) if !self.engine.host().is_wanted() => self.resync,
            _ => self.timing.poll.min(self.resync),
        };
        live.next_list = Instant::now() + wait;
        if live.info.is_none() && live.info_from <= Instant::now() && self.engine.host().is_missing() {
            live.request_info();
        }
    }

    /// Tells the doubts that a list was applied. If a doubt has caused the list and the list has shown no change, the
    /// next list for doubts has to wait longer.
    fn settle_doubts(&mut self, live: &LiveSession, has_news: bool) {
        self.engine.doubts().answered(live.list_asked, &self.tracker.names());
        let shortest = self.timing.doubt.1.max(live.list_asked.elapsed() * 10);
        let is_vain = live.is_list_for_doubt && !has_news;
        self.doubt_gap =
            if is_vain { (self.doubt_gap * 2).clamp(shortest, MAX_DOUBT_GAP.max(shortest)) } else { shortest };
    }

    /// Handles the answer to a heartbeat: raises a doubt if the newest container is unknown. A proxy that refuses the
    /// request has answered, too.
    fn on_newest(&self, newest: Result<Option<ContainerId>, Error>) -> Result<(), Error> {
        let newest = newest.or_else(|error| if error.is_refusal() { Ok(None) } else { Err(error) })?;
        let names = self.tracker.names();
        let unknown = newest.filter(|id| !names.containers.contains_key(id));
        self.engine.doubts().raise(unknown.map(|id| (id, Seen::ListEntry)));
        Ok(())
    }

    /// Stores the report on the host. A failure is no outage: the engine may answer everything else, and only paths
    /// depend on the report.
    fn on_info(&mut self, answer: Result<SystemInfo, Error>) {
        match answer {
            Ok(info) => self.engine.host().store(&info),
            Err(error) if !self.logged.first("info") => tracing::debug!(%error, "cannot read /info yet"),
            Err(error) => tracing::warn!(
                %error,
                "the engine does not report its cgroup driver: `id` assumes /docker/ID, without systemd; retrying"
            ),
        }
    }

    /// Does periodic work, and sends a heartbeat if the engine has sent nothing since the last tick.
    fn on_tick(&mut self, live: &mut LiveSession) {
        self.tracker.tidy();
        self.tracker.refresh_health(std::time::Instant::now());
        if !std::mem::take(&mut live.is_heard) {
            live.send_heartbeat();
        }
    }

    /// Records at the first list of a session that the engine answers, and logs it.
    fn on_up(&mut self, live: &LiveSession) {
        if live.lists != 1 {
            return;
        }
        self.engine.set_up(true);
        let outage = self.outage.take();
        let about = self.engine.about();
        let engine = self.engine.address();
        let version = about.as_ref().map(|about| about.version.as_str());
        let api = about.as_ref().map(|about| about.api.as_str());
        if let Some(outage) = outage.filter(|_| self.was_up) {
            tracing::info!(engine, version, api, after = ?outage.elapsed(), "reconnected to the Docker engine");
        } else if !self.was_up {
            tracing::info!(engine, version, api, "following the Docker engine");
        }
        self.was_up = true;
    }

    /// Records that the engine does not answer, and logs each cause once per outage.
    fn on_down(&mut self, error: &Error) {
        self.engine.set_up(false);
        self.engine.disconnect();
        self.tracker.settle();
        let outage = self.outage.get_or_insert_with(Outage::new);
        let is_logged = outage.is_logged();
        match outage.should_log(error) {
            true if is_logged => {
                tracing::warn!(%error, after = ?outage.elapsed(), "the Docker engine still does not answer, for another reason now; retrying");
            }
            true => {
                tracing::warn!(%error, "the Docker engine does not answer: known containers keep their names, new ones have none; retrying");
            }
            false => tracing::debug!(%error, "the Docker engine still does not answer"),
        }
    }
}

/// Returns an interval that does not catch up on missed ticks.
fn ticker(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

#[cfg(test)]
mod tests;
