//! A scripted engine on a Unix socket, for tests of behaviour that a real engine does not show on demand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::outage::Timing;
use super::{Engine, json as lenient};
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;

/// The contents and the behaviour of the engine.
pub(super) struct World {
    /// Oldest and newest API version; a request outside is answered with 400, as Docker does.
    pub(super) api: (u32, u32),
    /// Answers of `inspect` by id; the list is made from them.
    pub(super) containers: BTreeMap<String, Value>,
    /// The list, if it is not to be made from the containers.
    pub(super) list: Option<String>,
    /// The requests that a proxy before the engine allows. It answers others with 403.
    pub(super) allows: fn(&str) -> bool,
    /// Requests that contain the text get this answer, whatever else is set.
    pub(super) odd: Vec<(String, Odd)>,
    /// Whether event streams end in the middle of a chunk.
    pub(super) rude: bool,
    /// Requests that contain this text are never answered.
    pub(super) hangs_at: Option<String>,
    /// Requests that contain this text are answered after this time.
    pub(super) slow_at: Option<(String, Duration)>,
    /// Requests so far, without prefix.
    pub(super) requests: Vec<String>,
    events: broadcast::Sender<String>,
}

/// An answer that a working engine does not give.
#[derive(Clone, Debug)]
pub(super) enum Odd {
    /// A status and some HTML.
    Status(u16),
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// A valid head, and then one byte of white space after the other.
    Trickle,
    /// No answer.
    Never,
}

/// The running engine. It stops when this is dropped.
pub(super) struct Fake {
    directory: TempDir,
    world: Arc<Mutex<World>>,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

pub(super) fn id(letter: char) -> ContainerId {
    ContainerId::parse(letter.to_string().repeat(64).as_bytes()).unwrap()
}

/// Returns short times, so that a test takes a fraction of a second.
pub(super) fn quick() -> Timing {
    Timing {
        call: Duration::from_millis(800),
        list: Duration::from_secs(1),
        whole: Duration::from_millis(1500),
        heartbeat: Duration::from_millis(100),
        info: Duration::from_millis(50),
        subscribe: Duration::from_millis(30),
        poll: Duration::from_millis(80),
        doubt: (Duration::from_millis(20), Duration::from_millis(40)),
        backoff: (Duration::from_millis(40), Duration::from_millis(100)),
    }
}

/// Returns an answer of `inspect`.
pub(super) fn container(letter: char, name: &str, status: &str) -> (String, Value) {
    let running = status == "running";
    let finished = if status == "exited" { "2026-11-23T02:07:00Z" } else { "0001-01-01T00:00:00Z" };
    let id = letter.to_string().repeat(64);
    let value = json!({"Id": id, "Name": format!("/{name}"), "Image": "sha256:1d93", "RestartCount": 0,
        "Created": "2026-11-23T02:06:00.5Z",
        "State": {"Status": status, "Running": running, "Pid": if running { 7 } else { 0 }, "ExitCode": 0,
            "StartedAt": "2026-11-23T02:06:01.25Z", "FinishedAt": finished},
        "HostConfig": {"NetworkMode": "default", "Memory": 1024},
        "Config": {"Image": "bb", "Labels": {"com.docker.compose.project": "shop"}}});
    (id, value)
}

impl Fake {
    pub(super) fn start(containers: impl IntoIterator<Item = (String, Value)>) -> Self {
        let world = World {
            api: (12, 41),
            containers: containers.into_iter().collect(),
            list: None,
            allows: |_| true,
            odd: Vec::new(),
            rude: false,
            hangs_at: None,
            slow_at: None,
            requests: Vec::new(),
            events: broadcast::channel(1024).0,
        };
        let (directory, world) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(world)));
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let server = tokio::spawn(serve(listener, Arc::clone(&world), Arc::clone(&connections)));
        Self { directory, world, connections, server }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    pub(super) fn engine(&self, self_metrics: &SelfMetrics) -> Engine {
        Engine::with_timing(DockerEndpoint::Unix(self.socket()), self_metrics.clone(), quick())
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Returns the number of requests so far whose path contains `text`.
    pub(super) fn requests(&self, text: &str) -> usize {
        self.world().requests.iter().filter(|request| request.contains(text)).count()
    }

    /// Returns the number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Sends an event to all subscribers.
    pub(super) fn emit(&self, letter: char, action: &str, attributes: Value) {
        let mut all = json!({"image": "bb", "name": "unnamed"});
        if let Value::Object(more) = attributes {
            all.as_object_mut().unwrap().extend(more);
        }
        let event = json!({"Type": "container", "Action": action, "timeNano": 1_795_399_700_000_000_000_i64,
            "Actor": {"ID": letter.to_string().repeat(64), "Attributes": all}});
        drop(self.world().events.send(format!("{event}\n")));
    }

    /// Ends the event streams, as an engine does when it stops.
    pub(super) fn end_events(&self) {
        self.world().events = broadcast::channel(1024).0;
    }

    pub(super) fn subscribers(&self) -> usize {
        self.world().events.receiver_count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

enum Reply {
    Json(u16, String),
    Bytes(Vec<u8>),
    Trickle,
    /// The events, and whether the stream ends in the middle of a chunk.
    Events(broadcast::Receiver<String>, bool),
    Never,
}

impl World {
    fn reply(&mut self, target: &str) -> Reply {
        let (version, path) = split_version(target);
        self.requests.push(path.to_owned());
        match self.odd.iter().find(|(text, _)| path.contains(text)) {
            Some((_, Odd::Status(code))) => return Reply::Json(*code, "<html>No.</html>".to_owned()),
            Some((_, Odd::Bytes(bytes))) => return Reply::Bytes(bytes.clone()),
            Some((_, Odd::Trickle)) => return Reply::Trickle,
            Some((_, Odd::Never)) => return Reply::Never,
            None => {}
        }
        if self.hangs_at.as_ref().is_some_and(|text| path.contains(text)) {
            return Reply::Never;
        }
        if !(self.allows)(target) {
            return Reply::Json(403, "<html>Forbidden".to_owned());
        }
        if let Some(version) = version.filter(|version| !(self.api.0..=self.api.1).contains(version)) {
            return Reply::Json(
                400,
                json!({"message": format!("client version 1.{version} is too new or old")}).to_string(),
            );
        }
        let missing = || Reply::Json(404, json!({"message": "no such container"}).to_string());
        let id = path.split('/').nth(2).unwrap_or_default();
        match path {
            "/version" => Reply::Json(200, self.version()),
            "/info" => Reply::Json(200, json!({"CgroupDriver": "systemd"}).to_string()),
            "/containers/json?all=1" | "/containers/json?limit=1" | "/containers/json?size=1" => {
                Reply::Json(200, self.list())
            }
            _ if path.starts_with("/events?") => Reply::Events(self.events.subscribe(), self.rude),
            _ if path.ends_with("/json") => {
                self.containers.get(id).map_or_else(missing, |value| Reply::Json(200, value.to_string()))
            }
            _ if path.ends_with("/stats?stream=false&one-shot=true") => {
                let reading = json!({"cpu_stats": {"cpu_usage": {"total_usage": u64::MAX}}}).to_string();
                self.containers.get(id).map_or_else(missing, |_| Reply::Json(200, reading))
            }
            _ => missing(),
        }
    }

    fn version(&self) -> String {
        let (oldest, newest) = self.api;
        json!({"Version": "20.10.24", "ApiVersion": format!("1.{newest}"), "MinAPIVersion": format!("1.{oldest}")})
            .to_string()
    }

    fn list(&self) -> String {
        if let Some(list) = &self.list {
            return list.clone();
        }
        let entry = |value: &Value| {
            let status = lenient::text(value, "/State/Status");
            json!({"Id": value["Id"], "Names": [value["Name"]], "Image": value["Config"]["Image"],
                "ImageID": value["Image"], "Labels": value["Config"]["Labels"], "Created": 1_795_399_560,
                "State": status, "Status": if status == "running" { "Up 5 minutes" } else { "Exited (0) 2 hours ago" },
                "HostConfig": {"NetworkMode": "default"}})
        };
        Value::Array(self.containers.values().map(entry).collect()).to_string()
    }
}

/// Splits `/v1.41/version` into 41 and `/version`.
fn split_version(target: &str) -> (Option<u32>, &str) {
    let versioned = target.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    versioned.map_or((None, target), |(minor, path)| {
        let at = target.len() - path.len() - 1;
        (minor.parse().ok(), &target[at..])
    })
}

async fn serve(listener: UnixListener, world: Arc<Mutex<World>>, connections: Arc<AtomicUsize>) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (world, connections) = (Arc::clone(&world), Arc::clone(&connections));
        tasks.spawn(async move {
            connections.fetch_add(1, Ordering::SeqCst);
            answer(stream, &world).await;
            connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn answer(mut stream: UnixStream, world: &Mutex<World>) {
    let Some(target) = target(&mut stream).await else { return };
    let (reply, slow) = {
        let mut world = world.lock().unwrap();
        let reply = world.reply(&target);
        (reply, world.slow_at.clone().filter(|(text, _)| target.contains(text)))
    };
    if let Some((_, wait)) = slow {
        tokio::time::sleep(wait).await;
    }
    match reply {
        Reply::Never => until_closed(&mut stream).await,
        Reply::Json(code, body) => {
            let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()).await);
        }
        Reply::Trickle => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Reply::Events(events, rude) => send_events(stream, events, rude).await,
    }
}

async fn target(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()?.split(' ').nth(1).map(str::to_owned)
}

async fn until_closed(stream: &mut UnixStream) {
    while stream.read_u8().await.is_ok() {}
}

async fn send_events(mut stream: UnixStream, mut events: broadcast::Receiver<String>, rude: bool) {
    let (mut reader, mut writer) = stream.split();
    drop(writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await);
    loop {
        tokio::select! {
            event = events.recv() => {
                let end = if rude { "40\r\n{\"Ty" } else { "0\r\n\r\n" };
                let chunk = event.as_ref().map_or_else(|_| end.to_owned(), |event| format!("{:x}\r\n{event}\r\n", event.len()));
                if writer.write_all(chunk.as_bytes()).await.is_err() || event.is_err() {
                    return;
                }
            }
            _ = reader.read_u8() => return,
        }
    }
}
