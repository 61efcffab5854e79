//! The negotiated version of an engine, and counted, bounded, timed requests to it.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as LibraryError;
use bollard::models::{SystemInfo, SystemVersion};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Cause, Error, address};
use super::http::{Answer, Transport};
use super::split::Objects;
use super::timing::Timing;
use super::{json, version};
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::name::MAX_CONTAINERS;

/// Maximum size of one JSON object of an answer: a container with thousands of huge labels is still below it.
const MAX_OBJECT: usize = 16 << 20;
/// Maximum size of an answer that the client library reads: what the engine says of itself and of its host.
const MAX_TYPED: u64 = 1 << 20;
/// Maximum size of one reading of statistics, with room for hundreds of devices and CPUs.
const MAX_STATS: usize = 1 << 20;
/// Maximum size of a list, with room for 2 KiB for each of as many containers as can be known.
const MAX_LIST: usize = 128 << 20;
/// Maximum size of the answer with the newest container.
const MAX_NEWEST: usize = 64 << 10;
/// Maximum length of an error's explanation in characters.
const MAX_SHOWN: usize = 200;
/// The library's own time limit, in seconds; ours are shorter.
const LIBRARY_TIMEOUT: u64 = 300;
/// Maximum size of an error's explanation, and time to read it.
const MAX_MESSAGE: (usize, Duration) = (4 << 10, Duration::from_secs(1));

/// Returns the limits for an engine with their numbers, for SECURITY.md.
#[must_use]
pub fn bounds() -> Vec<(&'static str, String)> {
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    vec![
        ("containers whose names are known", MAX_CONTAINERS.to_string()),
        ("bytes of one object of the engine's JSON", mib(MAX_OBJECT)),
        ("bytes of the engine's list of containers", mib(MAX_LIST)),
        ("bytes of one reading of the stats API", mib(MAX_STATS)),
    ]
}

/// Result of a list besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Number of entries that are too large or invalid.
    pub(super) skipped: u64,
    /// Whether there were more containers than can be stored; the rest was not read.
    pub(super) cut: bool,
}

/// Version of an engine and of its API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Version of the engine, such as `28.5.1`; empty if unknown.
    pub version: String,
    /// Version of the API that we speak with it, such as `1.44`; empty if the engine chooses.
    pub api: String,
}

/// A negotiated version and the means to send requests. Holds no connection: each request has its own.
#[derive(Debug)]
pub(super) struct Session {
    endpoint: DockerEndpoint,
    transport: Arc<Transport>,
    self_metrics: SelfMetrics,
    timing: Timing,
    prefix: String,
    pub(super) about: About,
}

impl Session {
    /// Finds the prefix under which the engine, or the proxy in between, answers.
    pub(super) async fn open(
        endpoint: &DockerEndpoint,
        self_metrics: &SelfMetrics,
        timing: Timing,
    ) -> Result<Self, Error> {
        let mut session = Self {
            endpoint: endpoint.clone(),
            transport: Arc::new(Transport::new(endpoint)?),
            self_metrics: self_metrics.clone(),
            timing,
            prefix: String::new(),
            about: About::default(),
        };
        match session.introduce().await {
            Ok(answer) => {
                let version = version::choose(answer.api_version.as_deref(), answer.min_api_version.as_deref());
                session.about.version = answer.version.unwrap_or_default();
                if let Some(version) = version {
                    session.about.api = version.to_string();
                    session.settle_on(version::prefix(version)).await?;
                    return Ok(session);
                }
                session.find_prefix().await?;
            }
            Err(error) if error.is_unreachable() => return Err(error),
            // The version is only informative: an engine that lists its containers without it can be used.
            Err(error) => {
                session.find_prefix().await?;
                tracing::debug!(%error, "cannot read the engine's version");
            }
        }
        Ok(session)
    }

    /// Asks for `/version` under each prefix until one answers, and keeps that prefix.
    async fn introduce(&mut self) -> Result<SystemVersion, Error> {
        let mut refusal = None;
        for prefix in version::prefixes() {
            self.prefix = prefix;
            match self.version().await {
                Err(error) if error.status().is_some() => refusal = refusal.or(Some(error)),
                outcome => return outcome,
            }
        }
        Err(refusal.unwrap_or_else(|| self.shape("/version", "an API version")))
    }

    /// Takes the prefix of the chosen version, unless a proxy in between refuses it.
    async fn settle_on(&mut self, prefix: String) -> Result<(), Error> {
        let answered = std::mem::replace(&mut self.prefix, prefix);
        if self.prefix == answered {
            return Ok(());
        }
        match self.version().await {
            Err(error) if error.status().is_some() => self.prefix = answered,
            outcome => drop(outcome?),
        }
        Ok(())
    }

    /// Takes the first prefix under which containers are listed, where `/version` does not tell which to take.
    async fn find_prefix(&mut self) -> Result<(), Error> {
        let mut refusal = None;
        for prefix in version::prefixes() {
            self.prefix = prefix;
            match self.newest().await {
                Err(error) if error.status().is_some() => refusal = refusal.or(Some(error)),
                outcome => return outcome.map(drop),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// One container in full.
    pub(super) async fn inspect(&self, id: ContainerId) -> Result<Value, Error> {
        self.object("inspect", &format!("/containers/{id}/json")).await
    }

    /// One reading of a container's statistics, in Docker's own shape.
    pub(super) async fn stats(&self, id: ContainerId) -> Result<Value, Error> {
        let request = format!("/containers/{id}/stats?stream=false&one-shot=true");
        self.bounded_object("stats", &request, MAX_STATS, "a JSON object of at most 1 MiB").await
    }

    /// Returns the engine's report on its host.
    pub(super) async fn info(&self) -> Result<SystemInfo, Error> {
        self.counted("info", self.typed("/info", Box::pin(async { self.library("/info")?.info().await }))).await
    }

    async fn version(&self) -> Result<SystemVersion, Error> {
        self.counted("version", self.typed("/version", Box::pin(async { self.library("/version")?.version().await })))
            .await
    }

    /// Returns the client library over our transport, for a request to `path` under the prefix of this session. The library
    /// reads answers as a whole and refuses unknown words, so that lists, events and containers are not read by it.
    fn library(&self, path: &str) -> Result<Docker, LibraryError> {
        let (transport, target) = (Arc::clone(&self.transport), format!("{}{path}", self.prefix));
        let send = move |request: BollardRequest| {
            let (transport, target) = (Arc::clone(&transport), target.clone());
            async move { transport.send(request, &target, MAX_TYPED).await }
        };
        Docker::connect_with_custom_transport(send, Some("http://docker"), LIBRARY_TIMEOUT, API_DEFAULT_VERSION)
    }

    async fn typed<T>(&self, request: &str, call: impl Future<Output = Result<T, LibraryError>>) -> Result<T, Error> {
        let answer = timeout(self.timing.call, call).await;
        answer.map_err(|_elapsed| self.timed_out(request, self.timing.call))?.map_err(|error| match error {
            LibraryError::IOError { err } => Error::from_cause(&self.endpoint, request, &Cause::Connect(err)),
            LibraryError::HyperResponseError { err } => Error::from_cause(&self.endpoint, request, &Cause::Http(err)),
            LibraryError::DockerResponseServerError { status_code: code, message } => {
                let message = message.trim().chars().take(MAX_SHOWN).collect();
                Error::Status { engine: self.engine(), request: plain(request), code, message }
            }
            _ => self.shape(request, "a JSON object of at most 1 MiB"),
        })
    }

    /// Returns every container, running or not; `take` gets each entry.
    pub(super) async fn list(&self, take: impl FnMut(Value)) -> Result<Read, Error> {
        self.array("list", "/containers/json?all=1", self.timing.list, take).await
    }

    /// Returns the newest container, as a heartbeat: the cheapest request that a read-only proxy allows (`/version`
    /// makes Docker fork).
    pub(super) async fn newest(&self) -> Result<Option<ContainerId>, Error> {
        let request = "/containers/json?limit=1";
        let first = async {
            let mut answer = self.ask(request, self.timing.call).await?;
            let mut objects = Objects::new(MAX_NEWEST);
            let (mut id, mut left) = (None, MAX_NEWEST);
            while id.is_none() && left > 0 {
                let Some(piece) = self.piece(&mut answer, request, self.timing.call).await? else { break };
                left = left.saturating_sub(piece.len());
                objects.feed(&piece, |object| {
                    let parsed = json::parse(object);
                    id = id.or_else(|| ContainerId::parse(json::text(&parsed?, "/Id").as_bytes()));
                });
            }
            // A container with huge labels is not read to its end: that the engine lists it is sign enough.
            if id.is_some() || left == 0 || objects.is_whole_array() {
                Ok(id)
            } else {
                Err(self.shape(request, "a list of containers"))
            }
        };
        let bounded = async {
            let whole = self.timing.call + self.timing.call;
            timeout(whole, first).await.unwrap_or_else(|_elapsed| Err(self.timed_out(request, whole)))
        };
        self.counted("newest", bounded).await
    }

    /// Subscribes to `request`. The subscription stands once the head of the answer has come, for which there is no
    /// time limit: some proxies hold it back until the first event.
    pub(super) async fn subscribe(&self, request: &str) -> Result<Answer, Error> {
        let answer = self.ask(request, Duration::MAX);
        self.counted("events", answer).await
    }

    /// Returns the next piece of an answer without end.
    pub(super) async fn next_event(&self, answer: &mut Answer) -> Result<Option<bytes::Bytes>, Error> {
        self.piece(answer, "/events", Duration::MAX).await
    }

    /// Counts a request to `endpoint` that its caller gave up.
    pub(super) fn count_timeout(&self, endpoint: &str) {
        self.self_metrics.docker_requests.with_label_values(&[endpoint, "timeout"]).inc();
    }

    async fn counted<T>(&self, endpoint: &str, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let outcome = call.await;
        let code = outcome.as_ref().err().map_or_else(|| "200".to_owned(), Error::code);
        self.self_metrics.docker_requests.with_label_values(&[endpoint, &code]).inc();
        outcome
    }

    /// Asks for a JSON array; `first` is the time for its first byte.
    async fn array(
        &self,
        endpoint: &str,
        request: &str,
        first: Duration,
        mut take: impl FnMut(Value),
    ) -> Result<Read, Error> {
        let mut objects = Objects::new(MAX_OBJECT);
        let (mut entries, mut unreadable) = (0, 0);
        let feed = |bytes: &[u8]| {
            objects.feed(bytes, |object| {
                entries += 1;
                match json::parse(object) {
                    _ if entries > MAX_CONTAINERS => {}
                    Some(value) => take(value),
                    None => unreadable += 1,
                }
            });
            entries <= MAX_CONTAINERS
        };
        self.counted(endpoint, self.read(request, first, MAX_LIST, feed)).await?;
        let read = Read { skipped: objects.too_large() + unreadable, cut: entries > MAX_CONTAINERS };
        if read.cut || objects.is_whole_array() { Ok(read) } else { Err(self.shape(request, "a list of containers")) }
    }

    /// Asks for one JSON object.
    async fn object(&self, endpoint: &str, request: &str) -> Result<Value, Error> {
        self.bounded_object(endpoint, request, MAX_OBJECT, "a JSON object of at most 16 MiB").await
    }

    async fn bounded_object(
        &self,
        endpoint: &str,
        request: &str,
        limit: usize,
        expected: &'static str,
    ) -> Result<Value, Error> {
        let mut body = Vec::new();
        let keep = |bytes: &[u8]| {
            body.extend_from_slice(bytes);
            true
        };
        self.counted(endpoint, self.read(request, self.timing.call, limit, keep)).await?;
        json::parse(&body).filter(Value::is_object).ok_or_else(|| self.shape(request, expected))
    }

    /// Reads an answer to its end, or until `take` wants no more; `first` is the time for its first byte.
    async fn read(
        &self,
        request: &str,
        first: Duration,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut answer = self.ask(request, first).await?;
        let (began, mut size) = (Instant::now(), 0);
        while let Some(piece) = self.piece(&mut answer, request, self.timing.call).await? {
            size += piece.len();
            if size > limit {
                return Err(Error::TooLarge { engine: self.engine(), request: plain(request), limit: limit >> 20 });
            }
            if !take(&piece) {
                return Ok(());
            }
            if began.elapsed() > self.timing.whole {
                return Err(self.timed_out(request, self.timing.whole));
            }
        }
        Ok(())
    }

    /// Asks, and waits for the head of a good answer.
    async fn ask(&self, request: &str, within: Duration) -> Result<Answer, Error> {
        let target = format!("{}{request}", self.prefix);
        let answer = timeout(within, Box::pin(self.transport.get(&target))).await;
        let answer = answer.map_err(|_elapsed| self.timed_out(request, within))?;
        let answer = answer.map_err(|cause| Error::from_cause(&self.endpoint, request, &cause))?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refusal(request, answer).await) }
    }

    /// Returns the next piece of a body; none at its end.
    async fn piece(&self, answer: &mut Answer, request: &str, within: Duration) -> Result<Option<bytes::Bytes>, Error> {
        let next = timeout(within, answer.next()).await.map_err(|_elapsed| self.timed_out(request, within))?;
        next.transpose().map_err(|cause| Error::from_cause(&self.endpoint, request, &cause))
    }

    /// Returns the error of an unsuccessful status, with the beginning of the explanation.
    async fn refusal(&self, request: &str, mut answer: Answer) -> Error {
        let mut body = Vec::new();
        let deadline = Instant::now() + MAX_MESSAGE.1;
        while body.len() < MAX_MESSAGE.0
            && let Ok(Some(Ok(piece))) = timeout_at(deadline, answer.next()).await
        {
            let room = MAX_MESSAGE.0 - body.len();
            body.extend(piece.iter().take(room));
        }
        let said = json::parse(&body).map(|value| json::text(&value, "/message").to_owned());
        let said = said.filter(|said| !said.is_empty()).unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        let message = said.trim().chars().take(MAX_SHOWN).collect();
        Error::Status { engine: self.engine(), request: plain(request), code: answer.status, message }
    }

    fn engine(&self) -> String {
        address(&self.endpoint)
    }

    fn timed_out(&self, request: &str, after: Duration) -> Error {
        Error::Timeout { engine: self.engine(), request: plain(request), after }
    }

    fn shape(&self, request: &str, expected: &'static str) -> Error {
        Error::Shape { engine: self.engine(), request: plain(request), expected }
    }
}

/// Returns a request without its query, which is long for `/events` and says nothing to a reader.
fn plain(request: &str) -> String {
    request.split('?').next().unwrap_or(request).to_owned()
}
