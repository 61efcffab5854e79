//! One session with an engine that answered: its event stream, and the questions that are on the way.
//!
//! Holds and renews them; `follow` decides what to ask and what an answer means.

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

/// Greatest size of one event: it carries all labels of its container.
const MAX_EVENT: usize = 4 << 20;
/// Time between two questions for `/info` while the engine does not answer it.
const INFO_INTERVAL: Duration = Duration::from_mins(2);

pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The containers, what else the list brought, and the tracker's time when it was asked for.
pub(super) type List = (Vec<ListEntry>, Read, u64);
pub(super) type Inspection = Answer<(ContainerId, u64, Result<Value, Error>)>;

/// One event: the engine's time of it, and what tells it from others of that time.
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
    /// None until then, as the last one ended or was refused.
    Waiting(Instant),
}

/// What came of the event stream.
pub(super) enum SessionEvent {
    /// It is time to subscribe again.
    Due,
    /// The subscription stands.
    Subscribed,
    Bytes(Bytes),
    Ended,
    Failed(Error),
}

/// One session with an engine that answered.
pub(super) struct LiveSession {
    pub(super) session: Arc<Session>,
    pub(super) events: Events,
    /// The last event of the session before; the engine may repeat it.
    pub(super) since: Option<Mark>,
    pub(super) objects: Objects,
    /// Events since the subscription stands.
    pub(super) event_count: u64,
    /// Lists that were asked for while it stood.
    pub(super) watched_lists: u64,
    pub(super) inspections: FuturesUnordered<Inspection>,
    /// No inspection is asked for before: the engine refuses them.
    pub(super) inspect_again: Instant,
    pub(super) inspected: bool,
    pub(super) list: Option<Answer<Result<List, Error>>>,
    pub(super) list_asked: Instant,
    /// Whether the list on the way, or the last one, was asked for because of a doubt.
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

    /// Asks what the engine says of its host.
    pub(super) fn ask_info(&mut self) {
        let session = Arc::clone(&self.session);
        self.info_again = Instant::now() + INFO_INTERVAL;
        self.info = Some(Box::pin(async move { session.info().await }));
    }

    /// Subscribes to what happens, and to what has happened since the last event.
    pub(super) fn subscribe(&mut self, since: Option<Mark>) {
        self.events = opening(&self.session, since);
        self.since = since;
        self.objects = Objects::new(MAX_EVENT);
        self.event_count = 0;
        self.watched_lists = 0;
    }

    /// Since when the subscription stands.
    pub(super) fn subscribed(&self) -> Option<Instant> {
        if let Events::Open { since, .. } = &self.events { Some(*since) } else { None }
    }

    /// Asks for a sign of life.
    pub(super) fn ask_newest(&mut self) {
        if self.heartbeat.is_none() {
            let session = Arc::clone(&self.session);
            self.heartbeat = Some(Box::pin(async move { session.newest().await }));
        }
    }

    /// Returns whether what happened while the last list was made has been, or will be, reported.
    pub(super) fn watched_list(&self) -> bool {
        self.subscribed().is_some_and(|since| since <= self.list_asked)
    }
}

/// Returns what comes next of the event stream.
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

/// Returns the outcome of a question, which is then asked no more; never ready where there is none.
pub(super) async fn pending<T>(question: &mut Option<Answer<T>>) -> T {
    let outcome = match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    };
    *question = None;
    outcome
}
