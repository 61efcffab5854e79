//! One session with an engine that answered: its event stream, and the questions that are on the way.
//!
//! Holds and renews them; `follow` decides what to ask and what an answer means.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

use super::Error;
use super::client::Session;
use super::events::subscription;
use super::list::Listed;
use super::split::Objects;
use crate::discover::ContainerId;

/// Greatest size of one event: it carries all labels of its container.
const MAX_EVENT: usize = 16 << 20;

/// Time between two questions for `/info` while the engine does not answer it.
const INFO_INTERVAL: Duration = Duration::from_mins(2);

pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
/// The containers, and when they were asked for.
pub(super) type List = (Vec<Listed>, u64);
pub(super) type Inspection = Answer<(ContainerId, u64, Result<Value, Error>)>;

/// One session with an engine that answered.
pub(super) struct Live {
    pub(super) session: Arc<Session>,
    /// None while the engine refuses to tell its events.
    pub(super) events: Option<Events>,
    pub(super) subscribe_again: tokio::time::Instant,
    pub(super) objects: Objects,
    pub(super) events_counted: bool,
    pub(super) inspections: FuturesUnordered<Inspection>,
    pub(super) list: Option<Answer<Result<List, Error>>>,
    pub(super) heartbeat: Option<Answer<Result<(), Error>>>,
    pub(super) info: Option<Answer<Result<Value, Error>>>,
    pub(super) info_again: tokio::time::Instant,
    pub(super) next_list: tokio::time::Instant,
    pub(super) lists: u64,
    pub(super) heard: bool,
}

impl Live {
    pub(super) fn new(session: Arc<Session>) -> Self {
        let now = tokio::time::Instant::now();
        let mut live = Self {
            events: None,
            subscribe_again: now,
            session,
            objects: Objects::new(MAX_EVENT),
            events_counted: false,
            inspections: FuturesUnordered::new(),
            list: None,
            heartbeat: None,
            info: None,
            info_again: now,
            next_list: now,
            lists: 0,
            heard: true,
        };
        live.subscribe();
        live
    }

    /// Asks what the engine says of its host.
    pub(super) fn ask_info(&mut self) {
        let session = Arc::clone(&self.session);
        self.info_again = tokio::time::Instant::now() + INFO_INTERVAL;
        self.info = Some(Box::pin(async move { session.info().await }));
    }

    pub(super) fn subscribe(&mut self) {
        self.events = Some(Box::pin(self.session.stream(&subscription())));
        self.objects = Objects::new(MAX_EVENT);
        self.events_counted = false;
    }

    /// Subscribes again where the list knew more than the events have told (the stream may be dead without a sign),
    /// and now and then where events were refused. Tells whether it did.
    pub(super) fn renew(&mut self, surprise: bool) -> bool {
        let due = match &self.events {
            Some(_) => surprise && self.lists > 2,
            None => tokio::time::Instant::now() >= self.subscribe_again,
        };
        if due {
            self.subscribe();
        }
        due
    }

    pub(super) fn count_events(&mut self) {
        if !std::mem::replace(&mut self.events_counted, true) {
            self.session.count("events", Ok(()));
        }
    }
}

/// The next bytes of a stream; never ready where there is none.
pub(super) async fn next_bytes(events: &mut Option<Events>) -> Option<Result<Bytes, Error>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// The outcome of a question, which is then asked no more; never ready where there is none.
pub(super) async fn pending<T>(question: &mut Option<Answer<T>>) -> T {
    let outcome = match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    };
    *question = None;
    outcome
}
