//! Requests to an engine under the negotiated version of its API: counted, with limits of size and time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as LibraryError;
use bollard::models::{SystemInfo, SystemVersion};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Cause, Error, address, without_query};
use super::http::{Answer, Transport};
use super::json::{self, Objects};
use super::outage::Timing;
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::name::MAX_CONTAINERS;

/// Maximum size of one JSON object, in bytes. A container with thousands of huge labels stays below.
const MAX_OBJECT: usize = 16 << 20;
/// Maximum size of an answer that the client library reads, in bytes: `/version` and `/info`.
const MAX_TYPED: u64 = 1 << 20;
/// Maximum size of one reading of statistics, in bytes. Hundreds of devices and CPUs fit.
const MAX_STATS: usize = 1 << 20;
/// Maximum size of a list, in bytes: 2 KiB for each of [`MAX_CONTAINERS`].
const MAX_LIST: usize = 128 << 20;
/// Maximum number of bytes that are read of the answer with the newest container.
const MAX_NEWEST: usize = 64 << 10;
/// Maximum length of the explanation of an error, in characters.
const MAX_EXPLANATION: usize = 200;
/// The time limit of the client library, in seconds. Those of [`Timing`] are shorter.
const LIBRARY_TIMEOUT: u64 = 300;
/// Maximum number of bytes that are read of the answer to a refused request.
const MAX_REFUSAL: usize = 4 << 10;
/// Time to read the answer to a refused request.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Returns what is limited of an engine's answers, and the limits, for SECURITY.md.
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

/// What was left out of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Number of entries that are too large or invalid.
    pub(super) skipped: u64,
    /// Whether there were more containers than can be stored; the rest was not read.
    pub(super) cut: bool,
}

/// The versions of an engine and of its API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Version of the engine, such as `28.5.1`; empty if unknown.
    pub version: String,
    /// Version of the API that is used with it, such as `1.44`; empty if the engine chooses.
    pub api: String,
}

/// An engine that has answered, and the prefix of its API. Each request has a connection of its own.
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
    /// Finds the prefix under which the engine, or the proxy before it, answers.
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
        match session.find_version().await {
            Ok(answer) => {
                let version = choose_version(answer.api_version.as_deref(), answer.min_api_version.as_deref());
                session.about.version = answer.version.unwrap_or_default();
                if let Some(version) = version {
                    session.about.api = version.to_string();
                    session.use_prefix(prefix(version)).await?;
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

    /// Requests `/version` under each prefix until one is answered, and keeps that prefix.
    async fn find_version(&mut self) -> Result<SystemVersion, Error> {
        let mut refusal = None;
        for prefix in prefixes() {
            self.prefix = prefix;
            match self.version().await {
                Err(error) if error.status().is_some() => refusal = refusal.or(Some(error)),
                outcome => return outcome,
            }
        }
        Err(refusal.unwrap_or_else(|| self.shape("/version", "an API version")))
    }

    /// Uses the prefix of the chosen version, unless a proxy before the engine refuses it.
    async fn use_prefix(&mut self, prefix: String) -> Result<(), Error> {
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

    /// Uses the first prefix under which containers are listed, because `/version` does not tell the version.
    async fn find_prefix(&mut self) -> Result<(), Error> {
        let mut refusal = None;
        for prefix in prefixes() {
            self.prefix = prefix;
            match self.newest().await {
                Err(error) if error.status().is_some() => refusal = refusal.or(Some(error)),
                outcome => return outcome.map(drop),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Requests the inspection of a container.
    pub(super) async fn inspect(&self, id: ContainerId) -> Result<Value, Error> {
        self.object("inspect", &format!("/containers/{id}/json"), MAX_OBJECT, "a JSON object of at most 16 MiB").await
    }

    /// Requests one reading of a container's statistics, as Docker's own JSON.
    pub(super) async fn stats(&self, id: ContainerId) -> Result<Value, Error> {
        let request = format!("/containers/{id}/stats?stream=false&one-shot=true");
        self.object("stats", &request, MAX_STATS, "a JSON object of at most 1 MiB").await
    }

    /// Requests the engine's report on its host.
    pub(super) async fn info(&self) -> Result<SystemInfo, Error> {
        self.counted("info", self.typed("/info", Box::pin(async { self.library("/info")?.info().await }))).await
    }

    /// Requests the versions of the engine.
    async fn version(&self) -> Result<SystemVersion, Error> {
        self.counted("version", self.typed("/version", Box::pin(async { self.library("/version")?.version().await })))
            .await
    }

    /// Returns a client of the library for a request to `path` under the prefix of this session. The library reads an
    /// answer as a whole and rejects unknown words, so it is not used for lists, events and containers.
    fn library(&self, path: &str) -> Result<Docker, LibraryError> {
        let (transport, target) = (Arc::clone(&self.transport), format!("{}{path}", self.prefix));
        let send = move |request: BollardRequest| {
            let (transport, target) = (Arc::clone(&transport), target.clone());
            async move { transport.send(request, &target, MAX_TYPED).await }
        };
        Docker::connect_with_custom_transport(send, Some("http://docker"), LIBRARY_TIMEOUT, API_DEFAULT_VERSION)
    }

    /// Waits for an answer that the library reads, and converts its errors.
    async fn typed<T>(&self, request: &str, call: impl Future<Output = Result<T, LibraryError>>) -> Result<T, Error> {
        let answer = timeout(self.timing.call, call).await;
        answer.map_err(|_elapsed| self.timed_out(request, self.timing.call))?.map_err(|error| match error {
            LibraryError::IOError { err } => Error::from_cause(&self.endpoint, request, &Cause::Connect(err)),
            LibraryError::HyperResponseError { err } => Error::from_cause(&self.endpoint, request, &Cause::Http(err)),
            LibraryError::DockerResponseServerError { status_code: code, message } => {
                let message = message.trim().chars().take(MAX_EXPLANATION).collect();
                Error::Status { engine: self.engine(), request: without_query(request), code, message }
            }
            _ => self.shape(request, "a JSON object of at most 1 MiB"),
        })
    }

    /// Requests the list of all containers, running or not. Passes each entry to `take`.
    pub(super) async fn list(&self, mut take: impl FnMut(Value)) -> Result<LeftOut, Error> {
        let request = "/containers/json?all=1";
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
        self.counted("list", self.read(request, self.timing.list, MAX_LIST, feed)).await?;
        let left_out = LeftOut { skipped: objects.too_large() + unreadable, cut: entries > MAX_CONTAINERS };
        if left_out.cut || objects.is_whole_array() {
            Ok(left_out)
        } else {
            Err(self.shape(request, "a list of containers"))
        }
    }

    /// Requests the id of the newest container, as a heartbeat. This is the cheapest request that a read-only proxy
    /// allows; `/version` makes Docker fork.
    pub(super) async fn newest(&self) -> Result<Option<ContainerId>, Error> {
        let request = "/containers/json?limit=1";
        let first = async {
            let mut answer = self.request(request, self.timing.call).await?;
            let mut objects = Objects::new(MAX_NEWEST);
            let (mut id, mut left) = (None, MAX_NEWEST);
            while id.is_none() && left > 0 {
                let Some(chunk) = self.next_chunk(&mut answer, request, self.timing.call).await? else { break };
                left = left.saturating_sub(chunk.len());
                objects.feed(&chunk, |object| {
                    let parsed = json::parse(object);
                    id = id.or_else(|| ContainerId::parse(json::text(&parsed?, "/Id").as_bytes()));
                });
            }
            // A container with huge labels is not read to its end. The engine has answered all the same.
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

    /// Subscribes to events by `request`. The subscription is active once the head of the answer has arrived. There is
    /// no time limit for that, because some proxies hold the head back until the first event.
    pub(super) async fn subscribe(&self, request: &str) -> Result<Answer, Error> {
        let answer = self.request(request, Duration::MAX);
        self.counted("events", answer).await
    }

    /// Returns the next chunk of an event stream; none at its end.
    pub(super) async fn next_event(&self, answer: &mut Answer) -> Result<Option<bytes::Bytes>, Error> {
        self.next_chunk(answer, "/events", Duration::MAX).await
    }

    /// Counts a request to `endpoint` that its caller has given up.
    pub(super) fn count_timeout(&self, endpoint: &str) {
        self.self_metrics.docker_requests.with_label_values(&[endpoint, "timeout"]).inc();
    }

    /// Waits for a request to `endpoint`, and counts it by its outcome.
    async fn counted<T>(&self, endpoint: &str, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let outcome = call.await;
        let code = outcome.as_ref().err().map_or_else(|| "200".to_owned(), Error::code);
        self.self_metrics.docker_requests.with_label_values(&[endpoint, &code]).inc();
        outcome
    }

    /// Requests one JSON object of at most `limit` bytes.
    async fn object(
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

    /// Reads an answer to its end, or until `take` returns false. `first` is the time for the first byte.
    async fn read(
        &self,
        request: &str,
        first: Duration,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut answer = self.request(request, first).await?;
        let (began, mut size) = (Instant::now(), 0);
        while let Some(chunk) = self.next_chunk(&mut answer, request, self.timing.call).await? {
            size += chunk.len();
            if size > limit {
                return Err(Error::TooLarge {
                    engine: self.engine(),
                    request: without_query(request),
                    limit: limit >> 20,
                });
            }
            if !take(&chunk) {
                return Ok(());
            }
            if began.elapsed() > self.timing.whole {
                return Err(self.timed_out(request, self.timing.whole));
            }
        }
        Ok(())
    }

    /// Sends a request, and waits for the head of a successful answer.
    async fn request(&self, request: &str, within: Duration) -> Result<Answer, Error> {
        let target = format!("{}{request}", self.prefix);
        let answer = timeout(within, Box::pin(self.transport.get(&target))).await;
        let answer = answer.map_err(|_elapsed| self.timed_out(request, within))?;
        let answer = answer.map_err(|cause| Error::from_cause(&self.endpoint, request, &cause))?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refusal(request, answer).await) }
    }

    /// Returns the next chunk of a body; none at its end.
    async fn next_chunk(
        &self,
        answer: &mut Answer,
        request: &str,
        within: Duration,
    ) -> Result<Option<bytes::Bytes>, Error> {
        let next = timeout(within, answer.next()).await.map_err(|_elapsed| self.timed_out(request, within))?;
        next.transpose().map_err(|cause| Error::from_cause(&self.endpoint, request, &cause))
    }

    /// Returns the error for an answer with an unsuccessful status, with the beginning of its explanation.
    async fn refusal(&self, request: &str, mut answer: Answer) -> Error {
        let mut body = Vec::new();
        let deadline = Instant::now() + REFUSAL_TIME;
        while body.len() < MAX_REFUSAL
            && let Ok(Some(Ok(chunk))) = timeout_at(deadline, answer.next()).await
        {
            let room = MAX_REFUSAL - body.len();
            body.extend(chunk.iter().take(room));
        }
        let said = json::parse(&body).map(|value| json::text(&value, "/message").to_owned());
        let said = said.filter(|said| !said.is_empty()).unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        let message = said.trim().chars().take(MAX_EXPLANATION).collect();
        Error::Status { engine: self.engine(), request: without_query(request), code: answer.status, message }
    }

    fn engine(&self) -> String {
        address(&self.endpoint)
    }

    fn timed_out(&self, request: &str, after: Duration) -> Error {
        Error::Timeout { engine: self.engine(), request: without_query(request), after }
    }

    fn shape(&self, request: &str, expected: &'static str) -> Error {
        Error::Shape { engine: self.engine(), request: without_query(request), expected }
    }
}

/// A version of the Docker API.
///
/// The client library requests `/v<its newest>/version`, which an older engine refuses. So the first request is
/// `/version` without a prefix, which every engine answers, and the version is chosen by the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion {
    major: u32,
    minor: u32,
}

/// The version that this exporter is written against: the oldest that Docker 29 accepts.
const OURS: ApiVersion = ApiVersion { major: 1, minor: 44 };
/// The oldest version that has everything the exporter reads.
const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 40 };

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Returns the prefixes under which to request `/version`, in this order. A socket proxy may allow only some of them.
fn prefixes() -> [String; 3] {
    [String::new(), prefix(OURS), prefix(OLDEST)]
}

/// Returns the prefix of a version, such as `/v1.44`.
fn prefix(version: ApiVersion) -> String {
    format!("/v{version}")
}

/// Returns [`OURS`], or the nearest version that the engine speaks. Returns none if the engine reports no version.
fn choose_version(newest: Option<&str>, oldest: Option<&str>) -> Option<ApiVersion> {
    let newest = ApiVersion::parse(newest?)?;
    let oldest = oldest.and_then(ApiVersion::parse).unwrap_or(newest).min(newest);
    Some(OURS.min(newest).max(oldest))
}

#[cfg(test)]
mod tests {
    use super::{choose_version, prefixes};

    #[test]
    fn both_sides_understand_the_chosen_version() {
        for (newest, oldest, expected) in [
            ("1.40", "1.12", "1.40"),
            ("1.41", "1.12", "1.41"),
            ("1.44", "1.24", "1.44"),
            ("1.52", "1.44", "1.44"),
            ("1.60", "1.50", "1.50"),
            ("2.1", "2.0", "2.0"),
            ("1.41", "1.99", "1.41"),
        ] {
            assert_eq!(choose_version(Some(newest), Some(oldest)).unwrap().to_string(), expected, "{newest} {oldest}");
        }
        assert_eq!(choose_version(Some("1.41"), None).unwrap().to_string(), "1.41");
        assert_eq!((choose_version(None, Some("1.40")), choose_version(Some("new"), None)), (None, None));
    }

    #[test]
    fn the_plain_path_is_tried_first() {
        assert_eq!(prefixes(), ["", "/v1.44", "/v1.40"]);
    }
}
