//! The task that keeps the directory true: subscribe to events, list, inspect what is new or has changed, apply
//! events, list again from time to time; and start anew when the engine was away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::backoff::Backoff;
use super::events::Event;
use super::list::Listed;
use super::live::{List, Live, next_bytes, pending};
use super::timing::Timing;
use super::tracker::Tracker;
use super::{Engine, Error, json};
use crate::name::{Directory, Rules};

/// Inspections on the way at a time.
const INSPECTIONS: usize = 8;
/// A session that lived shorter than this was no good one: wait before the next.
const STABLE: Duration = Duration::from_secs(5);

/// Keeps `directory` true to what `engine` says, until `stop` is ready. Never ends by itself: an engine that is down
/// is asked again with growing waits, and what was known of its containers stays.
///
/// `resync` is the time between two full lists, which heal whatever the events did not tell.
pub async fn follow(
    engine: Engine,
    directory: Arc<Directory>,
    rules: Rules,
    resync: Duration,
    stop: impl Future<Output = ()>,
) {
    let timing = engine.timing();
    let mut follower = Follower {
        tracker: Tracker::new(directory, rules, engine.own().clone()),
        backoff: Backoff::new(timing.backoff.0, timing.backoff.1),
        tick: ticker(timing.heartbeat),
        engine,
        timing,
        resync,
        outage: None,
        seen_up: false,
        refusal_told: false,
        info_told: false,
    };
    tokio::select! {
        () = stop => {}
        () = follower.run() => {}
    }
    // Whatever was on the way is dropped with the follower, its connections included.
    follower.engine.disconnect();
}

struct Follower {
    engine: Engine,
    tracker: Tracker,
    timing: Timing,
    resync: Duration,
    backoff: Backoff,
    tick: Interval,
    outage: Option<Instant>,
    seen_up: bool,
    refusal_told: bool,
    info_told: bool,
}

impl Follower {
    async fn run(&mut self) {
        loop {
            let began = Instant::now();
            match self.session().await {
                Ok(()) => tracing::debug!("the engine ended its event stream; subscribing again"),
                Err(error) => self.down(&error),
            }
            self.tracker.disconnected();
            if began.elapsed() >= STABLE {
                self.backoff.reset();
                if self.outage.is_none() {
                    continue;
                }
            }
            self.pause().await;
        }
    }

    /// Waits before the next attempt; what has lingered long enough is forgotten meanwhile.
    async fn pause(&mut self) {
        let wait = self.backoff.next();
        tracing::debug!(?wait, "waiting before the engine is asked again");
        let mut over = std::pin::pin!(sleep(wait));
        loop {
            tokio::select! {
                () = &mut over => return,
                _ = self.tick.tick() => self.tracker.tidy(),
            }
        }
    }

    /// Until the event stream ends, or anything shows that the engine does not answer any more.
    async fn session(&mut self) -> Result<(), Error> {
        self.engine.connect().await?;
        let Some(session) = self.engine.session() else { return Ok(()) };
        let mut live = Live::new(session);
        if self.engine.host().is_missing() {
            live.ask_info();
            // So that the first values are under their final path, where the engine says it in reasonable time.
            if let Ok(answer) = timeout(self.timing.info, pending(&mut live.info)).await {
                self.on_info(answer);
            }
        }
        // Subscribe first: what happens during the list is then not lost.
        if let Ok(early) = timeout(self.timing.subscribe, next_bytes(&mut live.events)).await {
            self.on_bytes(&mut live, early)?;
        }
        loop {
            self.ask(&mut live);
            tokio::select! {
                bytes = next_bytes(&mut live.events) => {
                    let more = self.on_bytes(&mut live, bytes)?;
                    if !more { return Ok(()) }
                }
                Some((id, asked, answer)) = live.inspections.next() => {
                    live.heard |= answer.is_ok();
                    self.tracker.on_inspected(id, asked, answer);
                }
                list = pending(&mut live.list) => self.on_list(&mut live, list?),
                sign = pending(&mut live.heartbeat) => sign?,
                answer = pending(&mut live.info) => self.on_info(answer),
                () = tokio::time::sleep_until(live.next_list), if live.list.is_none() => self.start_list(&mut live),
                _ = self.tick.tick() => self.on_tick(&mut live),
            }
        }
    }

    /// Sends off the inspections that are wanted.
    fn ask(&mut self, live: &mut Live) {
        while live.inspections.len() < INSPECTIONS {
            let Some(id) = self.tracker.next_inspection() else { return };
            let (session, asked) = (Arc::clone(&live.session), self.tracker.now());
            live.inspections.push(Box::pin(async move { (id, asked, session.inspect(id).await) }));
        }
    }

    /// Applies events, and the rest of their burst, so that it costs one inspection per container. False at the end
    /// of the stream.
    fn on_bytes(&mut self, live: &mut Live, first: Option<Result<Bytes, Error>>) -> Result<bool, Error> {
        let mut next = first;
        loop {
            match next {
                Some(Ok(bytes)) => self.apply(live, &bytes),
                Some(Err(error)) => {
                    live.session.count("events", Err(&error));
                    return self.refused(live, error).map(|()| true);
                }
                None => {
                    live.count_events();
                    return Ok(false);
                }
            }
            match next_bytes(&mut live.events).now_or_never() {
                Some(more) => next = more,
                None => return Ok(true),
            }
        }
    }

    fn apply(&mut self, live: &mut Live, bytes: &Bytes) {
        live.heard = true;
        live.count_events();
        let tracker = &mut self.tracker;
        live.objects.feed(bytes, |object| {
            let event = json::parse(object).and_then(|value| Event::parse(&value, tracker.rules()));
            if let Some(event) = event {
                tracing::debug!(container = %event.id, action = event.action.as_str(), "container event");
                tracker.on_event(&event);
            }
        });
    }

    /// A proxy may refuse events and still allow the list: then the list has to do.
    fn refused(&mut self, live: &mut Live, error: Error) -> Result<(), Error> {
        if error.status().is_none() {
            return Err(error);
        }
        live.events = None;
        live.subscribe_again = tokio::time::Instant::now() + self.resync;
        if !std::mem::replace(&mut self.refusal_told, true) {
            let every = self.resync.min(self.timing.poll);
            tracing::warn!(%error, ?every, "no container events: names and states are only as fresh as the list, which is asked for regularly instead");
        }
        Ok(())
    }

    fn start_list(&self, live: &mut Live) {
        let (session, rules, names) = (Arc::clone(&live.session), self.tracker.rules().clone(), self.tracker.names());
        let asked = self.tracker.now();
        live.list = Some(Box::pin(async move {
            let mut list = Vec::new();
            let skipped = session.list(|value| list.extend(Listed::parse(&value, &rules, &names))).await?;
            if skipped > 0 {
                tracing::warn!(
                    skipped,
                    "entries of the engine's list are too large or no JSON; these containers have no name"
                );
            }
            Ok((list, asked))
        }));
    }

    fn on_list(&mut self, live: &mut Live, (list, asked): List) {
        live.heard = true;
        live.lists += 1;
        let containers = list.len();
        let surprise = self.tracker.on_list(list, asked);
        if live.events.is_none() {
            self.tracker.events_missed();
        }
        tracing::debug!(containers, surprise, "listed");
        self.up(live);
        let subscribed = live.renew(surprise);
        let wait = match &live.events {
            _ if subscribed || live.lists == 1 => self.timing.settle,
            None => self.timing.poll,
            Some(_) => self.resync,
        };
        live.next_list = tokio::time::Instant::now() + wait.min(self.resync);
        if live.info.is_none() && live.info_again <= tokio::time::Instant::now() && self.engine.host().is_missing() {
            live.ask_info();
        }
        if live.lists == 2 && live.events.is_some() {
            // No refusal so far: the subscription was accepted, even if nothing has happened yet.
            live.count_events();
        }
    }

    /// Only paths depend on it: an engine that does not answer this may answer everything else.
    fn on_info(&mut self, answer: Result<Value, Error>) {
        match answer {
            Ok(info) => self.engine.host().learn(&info),
            Err(error) if std::mem::replace(&mut self.info_told, true) => tracing::debug!(%error, "still no /info"),
            Err(error) => tracing::warn!(
                %error,
                "the engine does not say how it makes cgroups: the paths in `id` are taken to be /docker/ID, without systemd; asking again"
            ),
        }
    }

    /// Regular duties; a sign of life is asked for only after silence.
    fn on_tick(&mut self, live: &mut Live) {
        self.tracker.tidy();
        if !std::mem::take(&mut live.heard) && live.heartbeat.is_none() {
            let session = Arc::clone(&live.session);
            live.heartbeat = Some(Box::pin(async move { session.heartbeat().await }));
        }
    }

    /// The engine answers: once per session.
    fn up(&mut self, live: &Live) {
        if live.lists != 1 {
            return;
        }
        self.engine.own().docker_up.set(1);
        let outage = self.outage.take();
        let about = self.engine.about();
        let (version, api) = about.map(|about| (about.version, about.api)).unwrap_or_default();
        if let Some(began) = outage.filter(|_| self.seen_up) {
            tracing::info!(version, api, after = ?began.elapsed(), "the Docker engine answers again");
        } else if !self.seen_up {
            tracing::info!(version, api, "following the Docker engine");
        }
        self.seen_up = true;
    }

    /// The engine does not answer: told once per outage.
    fn down(&mut self, error: &Error) {
        self.engine.own().docker_up.set(0);
        self.engine.disconnect();
        self.tracker.settle();
        if self.outage.is_none() {
            self.outage = Some(Instant::now());
            tracing::warn!(%error, "the Docker engine does not answer: known names are kept, new containers have none until it does; asking again");
        } else {
            tracing::debug!(%error, "the Docker engine still does not answer");
        }
    }
}

fn ticker(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

#[cfg(test)]
mod tests;
