//! The server over real TCP on loopback, with a fake behind it.

mod answers;
mod client;
mod crowds;
mod descriptors;
mod ending;
mod negotiation;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::limits::Limits;
use super::{Listener, Server, Settings, bind};
use crate::config::ListenAddress;
use crate::metrics::{Collector, CollectorSet, FamilySet};
use crate::scrape::{Error, Families, Request, Scrape};
use client::Client;

/// Longer than anything here takes on a busy machine, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the fake does when it is asked for a scrape.
#[derive(Debug, Default)]
enum Act {
    #[default]
    Answer,
    Fail(Error),
    Panic,
}

/// A scraping side that remembers what it was asked.
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

    /// Scrapes wait until `gate` gets permits.
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

    /// One request on a connection of its own.
    async fn get(&self, path: &str) -> client::Answer {
        self.get_with(path, "").await
    }

    async fn get_with(&self, path: &str, headers: &str) -> client::Answer {
        let mut client = self.connect().await;
        client.get_with(path, headers).await;
        client.answer().await
    }

    /// Ends the server and waits until it has ended.
    async fn end(self) {
        self.end.send(()).expect("the server runs");
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic");
    }
}
