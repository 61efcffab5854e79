//! One session with an engine: its event stream and its pending requests.
//!
//! Holds and renews them; `follow` decides what to request and handles the answers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::SystemInfo;
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::Error;
use super::events::subscription;
use super::http;
use super::list::ListEntry;
use super::session::{Read, Session};
use super::split::Objects;
use crate::discover::ContainerId;

/// Maximum size of one event: it carries all labels of its container.
const MAX_EVENT: usize = 4 << 20;
/// Time between two requests of `/info` while the engine does not answer it.
const INFO_INTERVAL: Duration = Duration::from_mins(2);

pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The containers, the rest of the list's result, and the tracker's clock at the request.
pub(super) type List = (Vec<ListEntry>, Read, u64);
pub(super) type Inspection = Answer<(ContainerId, u64, Result<Value, Error>)>;

/// Identity of an event: its time by the engine's clock, and a digest that distinguishes it from others of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time_ns: u64,
    hash: u64,
}

impl Mark {
    pub(super) fn new(time_ns: u64, text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { time_ns, hash: hasher.finish() }
    }
}

/// The event stream.
pub(super) enum Events {
    /// The engine has not accepted the subscription yet.
    Opening(Answer<Result<http::Answer, Error>>),
    /// Events are sent from `since` on.
    Open { answer: Box<http::Answer>, since: Instant },
    /// None until then, because the last one ended or was refused.
    Waiting(Instant),
}

/// An outcome of the event stream.
pub(super) enum SessionEvent {
    /// It is time to subscribe again.
    Due,
    /// The subscription is active.
    Subscribed,
    Bytes(Bytes),
    Ended,
    Failed(Error),
}

/// One session with an engine that answered.
pub(super) struct LiveSession {
    pub(super) session: Arc<Session>,
    pub(super) events: Events,
    /// The last event of the previous session; the engine may repeat it.
    pub(super) since: Option<Mark>,
    pub(super) objects: Objects,
    /// Number of events since the subscription became active.
    pub(super) event_count: u64,
    /// Number of lists requested while it was active.
    pub(super) watched_lists: u64,
    pub(super) inspections: FuturesUnordered<Inspection>,
    /// Earliest time of the next inspection, if the engine refuses them.
    pub(super) inspect_again: Instant,
    pub(super) inspected: bool,
    pub(super) list: Option<Answer<Result<List, Error>>>,
    pub(super) list_asked: Instant,
    /// Whether a doubt caused the pending or the last list.
    pub(super) list_of_doubt: bool,
    pub(super) next_list: Instant,
    pub(super) lists: u64,
    pub(super) heartbeat: Option<Answer<Result<Option<ContainerId>, Error>>>,
    pub(super) heard: bool,
    pub(super) info: Option<Answer<Result<SystemInfo, Error>>>,
    pub(super) info_again: Instant,
}

impl LiveSession {
    pub(super) fn new(session: Arc<Session>, since: Option<Mark>) -> Self {
        let now = Instant::now();
        Self {
            events: opening(&session, since),
            session,
            since,
            objects: Objects::new(MAX_EVENT),
            event_count: 0,
            watched_lists: 0,
            inspections: FuturesUnordered::new(),
            inspect_again: now,
            inspected: false,
            list: None,
            list_asked: now,
            list_of_doubt: false,
            next_list: now,
            lists: 0,
            heartbeat: None,
            heard: true,
            info: None,
            info_again: now,
        }
    }

    /// Requests the engine's report on its host.
    pub(super) fn ask_info(&mut self) {
        let session = Arc::clone(&self.session);
        self.info_again = Instant::now() + INFO_INTERVAL;
        self.info = Some(Box::pin(async move { session.info().await }));
    }

    /// Subscribes to events, from the last known event on.
    pub(super) fn subscribe(&mut self, since: Option<Mark>) {
        self.events = opening(&self.session, since);
        self.since = since;
        self.objects = Objects::new(MAX_EVENT);
        self.event_count = 0;
        self.watched_lists = 0;
    }

    /// Returns since when the subscription is active.
    pub(super) fn subscribed(&self) -> Option<Instant> {
        if let Events::Open { since, .. } = &self.events { Some(*since) } else { None }
    }

    /// Sends a heartbeat.
    pub(super) fn ask_newest(&mut self) {
        if self.heartbeat.is_none() {
            let session = Arc::clone(&self.session);
            self.heartbeat = Some(Box::pin(async move { session.newest().await }));
        }
    }

    /// Returns whether events cover the time while the last list was made.
    pub(super) fn watched_list(&self) -> bool {
        self.subscribed().is_some_and(|since| since <= self.list_asked)
    }
}

/// Returns the next outcome of the event stream.
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

fn opening(session: &Arc<Session>, since: Option<Mark>) -> Events {
    let (session, request) = (Arc::clone(session), subscription(since.map(|mark| mark.time_ns)));
    Events::Opening(Box::pin(async move { session.subscribe(&request).await }))
}

/// Completes with the outcome of a pending request, and clears it; never completes if there is none.
pub(super) async fn pending<T>(question: &mut Option<Answer<T>>) -> T {
    let outcome = match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    };
    *question = None;
    outcome
}
