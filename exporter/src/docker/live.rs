//! The event stream and the pending requests of one session with an engine. `follow` decides what to request and
//! handles the answers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemInfo;
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::container::ListEntry;
use super::error::Error;
use super::events::subscription;
use super::http;
use super::json::Objects;
use super::session::{LeftOut, Session};
use crate::discover::ContainerId;

/// Maximum size of one event, in bytes. An event has all labels of its container.
const MAX_EVENT: usize = 4 << 20;
/// Time between two requests of `/info` while the engine does not answer it.
const INFO_INTERVAL: Duration = Duration::from_mins(2);

/// A pending request.
pub(super) type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The entries of a list, what was left out of it, and the number of the last event at the request.
pub(super) type List = (Vec<ListEntry>, LeftOut, u64);
/// The container, the number of the last event at the request, and the answer.
pub(super) type Inspection = Pending<(ContainerId, u64, Result<Value, Error>)>;

/// Identity of an event: its time by the clock of the engine, and a hash that distinguishes it from others of that
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time_ns: u64,
    hash: u64,
}

impl Mark {
    /// Returns the identity of the event with this time and JSON text.
    pub(super) fn new(time_ns: u64, text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { time_ns, hash: hasher.finish() }
    }
}

/// State of the event stream.
pub(super) enum Events {
    /// The engine has not accepted the subscription yet.
    Opening(Pending<Result<http::Answer, Error>>),
    /// The subscription is active since `since`.
    Open { answer: Box<http::Answer>, since: Instant },
    /// There is none until this time, because the last one has ended or was refused.
    Waiting(Instant),
}

/// An event of the stream: a change of its state, or bytes.
pub(super) enum SessionEvent {
    /// The time to subscribe again has come.
    Due,
    /// The subscription is active.
    Subscribed,
    Bytes(Bytes),
    Ended,
    Failed(Error),
}

/// A session with an engine that has answered.
pub(super) struct LiveSession {
    pub(super) session: Arc<Session>,
    pub(super) events: Events,
    /// The last event before the subscription, which the engine may repeat.
    pub(super) since: Option<Mark>,
    /// Cuts the event stream into events.
    pub(super) objects: Objects,
    /// Number of events since the subscription became active.
    pub(super) event_count: u64,
    /// Number of lists that were requested while the subscription was active.
    pub(super) lists_with_events: u64,
    pub(super) inspections: FuturesUnordered<Inspection>,
    /// Earliest time of the next inspection. It is in the future if the engine refuses inspections.
    pub(super) inspect_from: Instant,
    /// Whether an inspection has succeeded.
    pub(super) has_inspected: bool,
    /// The pending list.
    pub(super) list: Option<Pending<Result<List, Error>>>,
    /// When the pending or the last list was requested.
    pub(super) list_asked: Instant,
    /// Whether a doubt has caused the pending or the last list.
    pub(super) is_list_for_doubt: bool,
    pub(super) next_list: Instant,
    /// Number of lists that were applied.
    pub(super) lists: u64,
    /// The pending heartbeat.
    pub(super) heartbeat: Option<Pending<Result<Option<ContainerId>, Error>>>,
    /// Whether the engine has sent a list or an event since the last tick.
    pub(super) is_heard: bool,
    /// The pending request of the report on the host.
    pub(super) info: Option<Pending<Result<SystemInfo, Error>>>,
    /// Earliest time of the next such request.
    pub(super) info_from: Instant,
}

impl LiveSession {
    /// Subscribes to events from the event `since` on.
    pub(super) fn new(session: Arc<Session>, since: Option<Mark>) -> Self {
        let now = Instant::now();
        Self {
            events: opening(&session, since),
            session,
            since,
            objects: Objects::new(MAX_EVENT),
            event_count: 0,
            lists_with_events: 0,
            inspections: FuturesUnordered::new(),
            inspect_from: now,
            has_inspected: false,
            list: None,
            list_asked: now,
            is_list_for_doubt: false,
            next_list: now,
            lists: 0,
            heartbeat: None,
            is_heard: true,
            info: None,
            info_from: now,
        }
    }

    /// Requests the engine's report on its host.
    pub(super) fn request_info(&mut self) {
        let session = Arc::clone(&self.session);
        self.info_from = Instant::now() + INFO_INTERVAL;
        self.info = Some(Box::pin(async move { session.info().await }));
    }

    /// Subscribes to events again, from the event `since` on.
    pub(super) fn subscribe(&mut self, since: Option<Mark>) {
        self.events = opening(&self.session, since);
        self.since = since;
        self.objects = Objects::new(MAX_EVENT);
        self.event_count = 0;
        self.lists_with_events = 0;
    }

    /// Returns the time from which the subscription is active; none if it is not active.
    pub(super) fn subscribed(&self) -> Option<Instant> {
        if let Events::Open { since, .. } = &self.events { Some(*since) } else { None }
    }

    /// Sends a heartbeat, unless one is pending.
    pub(super) fn send_heartbeat(&mut self) {
        if self.heartbeat.is_none() {
            let session = Arc::clone(&self.session);
            self.heartbeat = Some(Box::pin(async move { session.newest().await }));
        }
    }

    /// Returns whether the subscription was active before the last list was requested, so that no event since is
    /// missing.
    pub(super) fn has_events_since_list(&self) -> bool {
        self.subscribed().is_some_and(|since| since <= self.list_asked)
    }
}

/// Waits until something happens to the event stream.
pub(super) async fn next_session_event(events: &mut Events, session: &Session) -> SessionEvent {
    match events {
        Events::Waiting(until) => {
            sleep_until(*until).await;
            SessionEvent::Due
        }
        Events::Opening(opening) => match opening.await {
            Ok(answer) => {
                *events = Events::Open { answer: Box::new(answer), since: Instant::now() };
                SessionEvent::Subscribed
            }
            Err(error) => SessionEvent::Failed(error),
        },
        Events::Open { answer, .. } => match session.next_event(answer).await {
            Ok(Some(bytes)) => SessionEvent::Bytes(bytes),
            Ok(None) => SessionEvent::Ended,
            Err(error) => SessionEvent::Failed(error),
        },
    }
}

/// Sends a subscription to events from the event `since` on.
fn opening(session: &Arc<Session>, since: Option<Mark>) -> Events {
    let (session, request) = (Arc::clone(session), subscription(since.map(|mark| mark.time_ns)));
    Events::Opening(Box::pin(async move { session.subscribe(&request).await }))
}

/// Completes with the outcome of a pending request, and clears it; never completes if there is none.
pub(super) async fn pending<T>(request: &mut Option<Pending<T>>) -> T {
    let outcome = match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    };
    *request = None;
    outcome
}
