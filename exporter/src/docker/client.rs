//! One engine: where it is, the session with it, and counted, bounded, timed requests.
//!
//! The client library brings connections (Unix, TCP, TLS) and HTTP. Its typed calls are not used: see `json.rs`.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bollard::errors::Error as Cause;
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tokio::time::timeout;

use super::host::Host;
use super::split::Objects;
use super::timing::Timing;
use super::{Error, json, version};
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::Own;

/// Greatest size of one JSON object of an answer: a container with thousands of huge labels is still below it.
const MAX_OBJECT: usize = 16 << 20;
/// The library's own time limit, in seconds: ours are shorter and tell connecting from answering.
const LIBRARY_TIMEOUT: u64 = 300;

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Version of the engine, such as `28.5.1`; empty where it does not say.
    pub version: String,
    /// Version of the API that we speak with it, such as `1.44`.
    pub api: String,
}

/// A Docker engine. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: DockerEndpoint,
    own: Own,
    timing: Timing,
    session: RwLock<Option<Arc<Session>>>,
    host: Host,
}

impl Engine {
    /// An engine that nobody has connected to yet; every request is counted in `own`.
    #[must_use]
    pub fn new(endpoint: DockerEndpoint, own: Own) -> Self {
        Self::with_timing(endpoint, own, Timing::default())
    }

    pub(super) fn with_timing(endpoint: DockerEndpoint, own: Own, timing: Timing) -> Self {
        Self { shared: Arc::new(Shared { endpoint, own, timing, session: RwLock::default(), host: Host::default() }) }
    }

    /// Asks the engine who it is, and agrees on a version of the API.
    ///
    /// # Errors
    /// Why the engine cannot be used, with what cures it.
    pub async fn connect(&self) -> Result<About, Error> {
        let session = Session::open(&self.shared.endpoint, &self.shared.own, self.shared.timing).await?;
        let about = session.about.clone();
        self.set_session(Some(Arc::new(session)));
        Ok(about)
    }

    /// The engine that is connected; none while it is down.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        self.session().map(|session| session.about.clone())
    }

    /// What the engine says of its host.
    pub(super) fn host(&self) -> &Host {
        &self.shared.host
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.shared.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine does not answer any more.
    pub(super) fn disconnect(&self) {
        self.set_session(None);
    }

    pub(super) fn own(&self) -> &Own {
        &self.shared.own
    }

    pub(super) fn timing(&self) -> Timing {
        self.shared.timing
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.shared.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

/// A version agreed on with an engine, and the means to ask it. Holds no connection: each request has its own.
#[derive(Debug)]
pub(super) struct Session {
    docker: Docker,
    engine: String,
    own: Own,
    timing: Timing,
    prefix: String,
    about: About,
}

impl Session {
    async fn open(endpoint: &DockerEndpoint, own: &Own, timing: Timing) -> Result<Self, Error> {
        let engine = address(endpoint);
        let docker = library(endpoint, &engine)?;
        let about = About { version: String::new(), api: String::new() };
        let mut session = Self { docker, engine, own: own.clone(), timing, prefix: String::new(), about };
        let answer = session.introduce().await?;
        let version = version::choose(&answer).ok_or_else(|| session.shape("/version", "an API version"))?;
        session.about = About { version: json::text(&answer, "/Version").to_owned(), api: version.to_string() };
        session.settle_on(version::prefix(version)).await?;
        Ok(session)
    }

    /// The first `/version` that is answered; the prefix stays the one that did it.
    async fn introduce(&mut self) -> Result<Value, Error> {
        let mut refusal = None;
        for prefix in version::prefixes() {
            self.prefix = prefix;
            match self.object("version", "/version").await {
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
        match self.object("version", "/version").await {
            Err(error) if error.status().is_some() => self.prefix = answered,
            outcome => drop(outcome?),
        }
        Ok(())
    }

    /// One container in full.
    pub(super) async fn inspect(&self, id: ContainerId) -> Result<Value, Error> {
        self.object("inspect", &format!("/containers/{id}/json")).await
    }

    /// One reading of a container's statistics, in Docker's own shape.
    pub(super) async fn stats(&self, id: ContainerId) -> Result<Value, Error> {
        self.object("stats", &format!("/containers/{id}/stats?stream=false&one-shot=true")).await
    }

    /// What the engine says of its host; among it, how it makes cgroups.
    pub(super) async fn info(&self) -> Result<Value, Error> {
        self.object("info", "/info").await
    }

    /// Every container, running or not; `take` gets each entry. Tells how many were too large to be read.
    pub(super) async fn list(&self, take: impl FnMut(Value)) -> Result<u64, Error> {
        self.array("list", "/containers/json?all=1", self.timing.list, take).await
    }

    /// Every running container with the size of its writable layer. The engine walks their files for it before it answers.
    pub(super) async fn sizes(&self, take: impl FnMut(Value)) -> Result<u64, Error> {
        self.array("sizes", "/containers/json?size=1", self.timing.sizes, take).await
    }

    /// Asks for a JSON array; `first` is the time for its first byte.
    async fn array(
        &self,
        endpoint: &str,
        request: &str,
        first: Duration,
        mut take: impl FnMut(Value),
    ) -> Result<u64, Error> {
        let mut objects = Objects::new(MAX_OBJECT);
        let mut unreadable = 0;
        let feed = |bytes: &[u8]| {
            objects.feed(bytes, |object| match json::parse(object) {
                Some(value) => take(value),
                None => unreadable += 1,
            });
        };
        self.counted(endpoint, self.read(request, first, feed)).await?;
        if objects.is_whole_array() {
            Ok(objects.too_large() + unreadable)
        } else {
            Err(self.shape(request, "a list of containers"))
        }
    }

    /// A sign of life: the cheapest request that a read-only proxy allows (`/version` makes Docker fork).
    pub(super) async fn heartbeat(&self) -> Result<(), Error> {
        let request = "/containers/json?limit=1";
        let mut body = self.open_stream(request);
        // The first bytes are sign enough: a container with huge labels need not be read for it.
        let first = async {
            match timeout(self.timing.call, body.next()).await {
                Ok(Some(Err(cause))) => Err(Error::from_cause(&self.engine, request, &cause)),
                Ok(_) => Ok(()),
                Err(_) => Err(self.timed_out(request, self.timing.call)),
            }
        };
        self.counted("list", first).await
    }

    /// The bytes of an answer that does not end, as they come. Not counted: the caller knows when it counts.
    pub(super) fn stream(&self, request: &str) -> impl Stream<Item = Result<Bytes, Error>> + Unpin + use<> {
        let (engine, asked) = (self.engine.clone(), request.to_owned());
        self.open_stream(request).map(move |item| item.map_err(|cause| Error::from_cause(&engine, &asked, &cause)))
    }

    /// Counts a request to `endpoint` that its caller gave up.
    pub(super) fn count_timeout(&self, endpoint: &str) {
        self.own.docker_requests.with_label_values(&[endpoint, "timeout"]).inc();
    }

    /// Counts one request to `endpoint`. The library keeps the status of a success to itself; all of ours answer 200.
    pub(super) fn count(&self, endpoint: &str, outcome: Result<(), &Error>) {
        let code = outcome.map_or_else(Error::code, |()| "200".to_owned());
        self.own.docker_requests.with_label_values(&[endpoint, &code]).inc();
    }

    async fn counted<T>(&self, endpoint: &str, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let outcome = call.await;
        self.count(endpoint, outcome.as_ref().map(drop));
        outcome
    }

    /// Asks for one JSON object.
    async fn object(&self, endpoint: &str, request: &str) -> Result<Value, Error> {
        let mut body = Vec::new();
        let keep = |bytes: &[u8]| {
            // One byte more than allowed is not JSON any more, and refused below.
            let room = (MAX_OBJECT + 1).saturating_sub(body.len()).min(bytes.len());
            body.extend(bytes.iter().take(room));
        };
        self.counted(endpoint, self.read(request, self.timing.call, keep)).await?;
        let value = if body.len() > MAX_OBJECT { None } else { json::parse(&body) };
        value.filter(Value::is_object).ok_or_else(|| self.shape(request, "a JSON object of at most 16 MiB"))
    }

    /// Reads an answer to its end; `first` is the time for its first byte.
    async fn read(&self, request: &str, first: Duration, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut body = self.open_stream(request);
        let mut after = first;
        loop {
            match timeout(after, body.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(bytes))) => take(&bytes),
                Ok(Some(Err(cause))) => return Err(Error::from_cause(&self.engine, request, &cause)),
                Err(_) => return Err(self.timed_out(request, after)),
            }
            after = self.timing.call;
        }
    }

    /// The library offers the raw bytes of an answer for one call only, the export of a container; the target of
    /// that request is replaced by ours, prefix included.
    fn open_stream(&self, request: &str) -> impl Stream<Item = Result<Bytes, Cause>> + Unpin + use<> {
        let target = format!("{}{request}", self.prefix);
        let docker = self.docker.clone().with_request_modifier(move |mut request| {
            let uri = request.uri();
            let scheme = uri.scheme_str().unwrap_or_default();
            let host = uri.authority().map_or("", |authority| authority.as_str());
            if let Ok(uri) = format!("{scheme}://{host}{target}").parse() {
                *request.uri_mut() = uri;
            }
            request
        });
        docker.export_container("")
    }

    fn timed_out(&self, request: &str, after: Duration) -> Error {
        Error::Timeout { engine: self.engine.clone(), request: request.to_owned(), after }
    }

    fn shape(&self, request: &str, expected: &'static str) -> Error {
        Error::Shape { engine: self.engine.clone(), request: request.to_owned(), expected }
    }
}

/// The engine's address as a user would give it.
fn address(endpoint: &DockerEndpoint) -> String {
    match endpoint {
        DockerEndpoint::Unix(path) => format!("unix://{}", path.display()),
        DockerEndpoint::Tcp(address) => format!("tcp://{address}"),
        DockerEndpoint::Tls { address, .. } => format!("https://{address}"),
    }
}

fn library(endpoint: &DockerEndpoint, engine: &str) -> Result<Docker, Error> {
    let docker = match endpoint {
        DockerEndpoint::Unix(_) => Docker::connect_with_unix(engine, LIBRARY_TIMEOUT, API_DEFAULT_VERSION),
        DockerEndpoint::Tcp(_) => Docker::connect_with_http(engine, LIBRARY_TIMEOUT, API_DEFAULT_VERSION),
        DockerEndpoint::Tls { certificates, .. } => {
            let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|file| certificates.join(file));
            // The library would go on without a client certificate that it cannot read.
            [&key, &cert, &ca].into_iter().try_for_each(|file| readable(file))?;
            Docker::connect_with_ssl(engine, &key, &cert, &ca, LIBRARY_TIMEOUT, API_DEFAULT_VERSION)
        }
    };
    docker.map_err(|cause| match (endpoint, &cause) {
        (DockerEndpoint::Tls { certificates, .. }, _) => {
            Error::Certificate { file: certificates.display().to_string(), reason: cause.to_string() }
        }
        _ => Error::from_cause(engine, "/version", &cause),
    })
}

fn readable(file: &Path) -> Result<(), Error> {
    let opened = std::fs::File::open(file);
    opened.map(drop).map_err(|error| Error::Certificate { file: file.display().to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
