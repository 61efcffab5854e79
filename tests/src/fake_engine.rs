//! Canned Docker answers on a Unix socket: for captured hosts, and for data that no real engine would take (hostile
//! names, thousands of labels). For everything else there is a real engine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Writes an answer of its own.
type Handler = Arc<dyn Fn(&mut UnixStream) -> std::io::Result<()> + Send + Sync>;

/// What it answers.
#[derive(Default)]
struct Answers {
    /// Path without version prefix and query → JSON body.
    bodies: BTreeMap<String, Vec<u8>>,
    /// Ends of paths whose answers come late; the latest rule counts.
    delays: Vec<(String, Duration)>,
    /// Parts of targets whose answers are written by a handler; the latest rule counts.
    handlers: Vec<(String, Handler)>,
    /// Every request line so far.
    requests: Vec<String>,
}

impl Answers {
    fn handler(&self, target: &str) -> Option<Handler> {
        let rule = self.handlers.iter().rev().find(|(text, _)| target.contains(text));
        rule.map(|(_, handler)| Arc::clone(handler))
    }

    fn delay(&self, path: &str) -> Duration {
        let rule = self.delays.iter().rev().find(|(end, _)| path.ends_with(end));
        rule.map(|(_, delay)| *delay).unwrap_or_default()
    }
}

/// The fake. Its socket goes with it; threads that serve open connections end with the test process.
pub struct FakeEngine {
    answers: Arc<Mutex<Answers>>,
    socket: PathBuf,
    _directory: TempDir,
}

impl FakeEngine {
    /// Listens, and knows nothing but its version.
    ///
    /// # Errors
    /// No socket.
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket)?;
        let fake = Self { answers: Arc::default(), socket, _directory: directory };
        fake.answer("/version", r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux"}"#);
        fake.answer("/_ping", "OK");
        fake.answer("/containers/json", "[]");
        let answers = Arc::clone(&fake.answers);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                // A client that goes away in the middle is its own business.
                thread::spawn(move || serve(stream, &answers).unwrap_or_default());
            }
        });
        Ok(fake)
    }

    /// Listens, with the answers captured in a directory: `version.json`, `info.json`, `list.json`, `inspect-ID.json`, `stats-ID.json`.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn captured(directory: &Path) -> Result<Self> {
        let fake = Self::start()?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).context("file name")?;
            let target = match name.split_once('-') {
                None if name == "version" || name == "info" => format!("/{name}"),
                None => "/containers/json".to_owned(),
                Some(("inspect", id)) => format!("/containers/{id}/json"),
                Some((_, id)) => format!("/containers/{id}/stats"),
            };
            fake.answer(&target, fs::read(&path)?);
        }
        Ok(fake)
    }

    /// Sets the answer to a path.
    pub fn answer(&self, path: &str, body: impl Into<Vec<u8>>) {
        lock(&self.answers).bodies.insert(path.to_owned(), body.into());
    }

    /// Changes an answer that is JSON.
    ///
    /// # Errors
    /// There is no such answer.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let body = lock(&self.answers).bodies.get(path).cloned();
        let mut value = serde_json::from_slice(&body.with_context(|| format!("no answer to {path}"))?)?;
        change(&mut value);
        self.answer(path, serde_json::to_vec(&value)?);
        Ok(())
    }

    /// From now on, requests whose target contains `text` are answered by `handler`, after which the connection is closed.
    pub fn on(&self, text: &str, handler: impl Fn(&mut UnixStream) -> std::io::Result<()> + Send + Sync + 'static) {
        lock(&self.answers).handlers.push((text.to_owned(), Arc::new(handler)));
    }

    /// Forgets every handler.
    pub fn behave(&self) {
        lock(&self.answers).handlers.clear();
    }

    /// From now on, answers to paths that end so come late; those that wait already, too.
    pub fn delay(&self, path: &str, delay: Duration) {
        lock(&self.answers).delays.push((path.to_owned(), delay));
    }

    /// Lets every stopped container end in the far future, so that it lingers however old the capture is.
    ///
    /// # Errors
    /// An answer is no JSON.
    pub fn end_all_in_the_future(&self) -> Result<()> {
        let paths: Vec<String> = lock(&self.answers).bodies.keys().cloned().collect();
        for path in paths.iter().filter(|path| path.ends_with("/json")) {
            self.edit(path, |container| {
                if container.pointer("/State/Status").and_then(serde_json::Value::as_str) == Some("exited")
                    && let Some(finished) = container.pointer_mut("/State/FinishedAt")
                {
                    *finished = "2099-12-31T23:59:59.5Z".into();
                }
            })?;
        }
        Ok(())
    }

    /// The id of the container of this name among the `inspect` answers.
    ///
    /// # Errors
    /// There is none.
    pub fn inspected(&self, name: &str) -> Result<String> {
        let wanted = format!("/{name}");
        let answers = lock(&self.answers);
        let mut objects =
            answers.bodies.values().filter_map(|body| serde_json::from_slice::<serde_json::Value>(body).ok());
        let found = objects.find(|object| object.get("Name").and_then(serde_json::Value::as_str) == Some(&wanted));
        let id = found.as_ref().and_then(|object| object.get("Id")?.as_str()).map(str::to_owned);
        id.with_context(|| format!("no container {name} was captured"))
    }

    /// For `--docker.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Whether every container that has an `inspect` answer was inspected.
    #[must_use]
    pub fn is_inspected(&self) -> bool {
        let answers = lock(&self.answers);
        let mut inspections = answers.bodies.keys().filter(|path| path.ends_with("/json") && path.len() > 64);
        inspections.all(|path| answers.requests.iter().any(|request| plain_path(request) == path))
    }

    /// Every request line so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.answers).requests.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection.
fn serve(mut stream: UnixStream, answers: &Mutex<Answers>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((target, closes)) = request(&mut reader)? {
        let path = plain_path(&target);
        lock(answers).requests.push(target.clone());
        let handler = lock(answers).handler(&target);
        if let Some(handler) = handler {
            return Ok(handler(&mut stream)?);
        }
        if path == "/events" {
            return hold(&mut stream);
        }
        let asked = Instant::now();
        while asked.elapsed() < lock(answers).delay(path) {
            thread::sleep(Duration::from_millis(10));
        }
        let body = lock(answers).bodies.get(path).cloned();
        let (status, body) = match body {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", br#"{"message":"no such thing here"}"#.to_vec()),
        };
        let kind = if path == "/_ping" { "text/plain" } else { "application/json" };
        let head = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        if closes {
            break;
        }
    }
    Ok(())
}

/// The target of the next request, and whether the connection ends with it (HTTP/1.0); none at the end of the connection.
fn request(reader: &mut BufReader<UnixStream>) -> Result<Option<(String, bool)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let closes = first.trim_end().ends_with("HTTP/1.0");
    Ok(first.split(' ').nth(1).map(|target| (target.to_owned(), closes)))
}

/// Without `/v1.41` and without the query.
fn plain_path(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    let version = path.strip_prefix("/v").and_then(|rest| rest.find('/').map(|at| (rest, at)));
    match version {
        Some((rest, at)) if rest.starts_with(|first: char| first.is_ascii_digit()) => rest.get(at..).unwrap_or(path),
        _ => path,
    }
}

/// An event stream on which nothing happens.
fn hold(stream: &mut UnixStream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}

#[cfg(test)]
mod tests {
    use super::plain_path;

    #[test]
    fn version_and_query_do_not_matter() {
        assert_eq!(plain_path("/v1.41/containers/json?all=1"), "/containers/json");
        assert_eq!(plain_path("/version"), "/version");
        assert_eq!(plain_path("/_ping"), "/_ping");
    }
}
