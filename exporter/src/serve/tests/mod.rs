//! The server over real TCP on loopback, with a fake scraping side and a client that sends any bytes.

mod answers;
mod connections;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::limits::Limits;
use super::{Listener, Server, Settings, bind};
use crate::config::ListenAddress;
use crate::metrics::{Collector, CollectorSet, FamilySet};
use crate::scrape::{Error, Families, Request, Scrape};

/// Timeout of each step, longer than any takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the fake does when it is asked for a scrape.
#[derive(Debug, Default)]
enum Act {
    #[default]
    Answer,
    Fail(Error),
    Panic,
}

/// A scraping side that records its requests.
#[derive(Debug)]
struct Fake {
    body: Bytes,
    asked: Mutex<Vec<Request>>,
    act: Mutex<Act>,
    ready: Mutex<Result<(), String>>,
    /// Each scrape takes one permit and waits while there is none.
    gate: Semaphore,
}

impl Fake {
    fn new() -> Self {
        Self::with_body(Bytes::from_static(b"up 1\n"))
    }

    fn with_body(body: Bytes) -> Self {
        Self {
            body,
            asked: Mutex::default(),
            act: Mutex::default(),
            ready: Mutex::new(Ok(())),
            gate: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        }
    }

    /// Returns a fake whose scrapes wait until `gate` gets permits.
    fn closed() -> Self {
        Self { gate: Semaphore::new(0), ..Self::new() }
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    async fn was_asked(&self, times: usize) {
        while self.asked().len() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Scrape for Fake {
    async fn scrape(&self, request: Request) -> Result<Bytes, Error> {
        self.asked.lock().expect("unpoisoned").push(request);
        self.gate.acquire().await.expect("never closed").forget();
        let act = std::mem::take(&mut *self.act.lock().expect("unpoisoned"));
        match act {
            Act::Answer => Ok(self.body.clone()),
            Act::Fail(error) => Err(error),
            Act::Panic => panic!("as asked by the test"),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.lock().expect("unpoisoned").clone()
    }

    fn findings(&self) -> Vec<(String, String)> {
        vec![("cgroup".to_owned(), "version <1> & hybrid".to_owned())]
    }
}

fn settings() -> Settings {
    Settings {
        telemetry_path: "/metrics".to_owned(),
        max_requests: 40,
        enabled: [Collector::Cpu, Collector::Memory].into_iter().collect::<CollectorSet>(),
        families: Families { exposed: FamilySet::ALL, named: FamilySet::ALL },
        version: "1.2.3".to_owned(),
        web: None,
    }
}

/// A server that runs until [`Running::end`] or the end of the test.
struct Running {
    address: SocketAddr,
    fake: Arc<Fake>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(fake: Fake) -> Self {
        Self::start_with(fake, settings(), |_| ())
    }

    fn start_with(fake: Fake, settings: Settings, change: impl FnOnce(&mut Limits)) -> Self {
        let listeners = bind(&[ListenAddress::Host("127.0.0.1".to_owned(), 0)]).expect("a free port");
        let address = listeners[0].local_addr().expect("bound");
        let watched = listeners.into_iter().map(tokio::net::TcpListener::from_std);
        let listeners =
            watched.map(|listener| listener.map(Listener::Tcp)).collect::<Result<_, _>>().expect("a runtime");
        let fake = Arc::new(fake);
        let mut server = Server::new(Arc::clone(&fake), settings);
        change(&mut server.limits);
        let (end, ended) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(listeners, async { drop(ended.await) }));
        Self { address, fake, end, task }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends a request over a connection of its own.
    async fn get(&self, path: &str) -> Answer {
        self.get_with(path, "").await
    }

    async fn get_with(&self, path: &str, headers: &str) -> Answer {
        let mut client = self.connect().await;
        client.get_with(path, headers).await;
        client.answer().await
    }

    /// Ends the server and waits until it has ended.
    async fn end(self) {
        self.end.send(()).expect("the server runs");
        timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic");
    }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A client that sends exactly the bytes that a test wants.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::over(soon(TcpStream::connect(address)).await.expect("a connection"))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.expect("the server listens");
    }

    async fn get(&mut self, path: &str) {
        self.get_with(path, "").await;
    }

    /// Sends a request. `headers` are whole lines.
    async fn get_with(&mut self, path: &str, headers: &str) {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")).await;
    }

    async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let length = headers.get("content-length").expect("a length").parse().expect("a number");
        while self.buffer.len() < length {
            assert!(self.read().await > 0, "the connection ended inside the body");
        }
        let rest = self.buffer.split_off(length);
        Answer { status, headers, body: std::mem::replace(&mut self.buffer, rest) }
    }

    /// Reads the answer to a HEAD request.
    async fn answer_without_body(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        Answer { status, headers, body: Vec::new() }
    }

    async fn head(&mut self) -> (u16, HashMap<String, String>) {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read().await > 0, "the connection ended inside the header: {:?}", self.buffer);
        };
        let rest = self.buffer.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).expect("text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines.map(|line| line.split_once(": ").expect("a field"));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        (status.parse().expect("a number"), headers)
    }

    async fn read(&mut self) -> usize {
        soon(self.stream.read_buf(&mut self.buffer)).await.expect("bytes or an end")
    }

    /// Returns whether the server closes or resets the connection without a further byte.
    async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(soon(self.stream.read_buf(&mut self.buffer)).await, Ok(0) | Err(_))
    }

    /// Returns whether the connection is open and silent.
    async fn is_open(&mut self) -> bool {
        let a_moment = Duration::from_millis(50);
        timeout(a_moment, self.stream.read_buf(&mut self.buffer)).await.is_err()
    }
}

/// Waits for a future, and fails the test after a timeout.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("done in time")
}
