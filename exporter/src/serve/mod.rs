//! The HTTP server: accepts, negotiates, routes, and protects others from hostile or slow clients.
//!
//! It knows nothing of containers: a scrape is one call of [`Scrape`]. [`crate::app`] calls [`bind()`] before it starts
//! anything else, then [`Server::run`].
//!
//! | file | what it does |
//! |---|---|
//! | `bind` | listen addresses → listening sockets, with errors that say what helps |
//! | `systemd` | the sockets that systemd passes |
//! | `listener` | a listening socket, TCP or Unix, and what it accepts |
//! | `accept` | takes connections from a listening socket, whatever `accept` says |
//! | `activity` | what a connection is doing, since when, and until when it may |
//! | `connections` | all open connections, and which one has to go when there are too many |
//! | `connection` | one connection: hyper, its deadlines, its end |
//! | `tls` | the handshake, and which protocol is spoken |
//! | `access` | rate limit, passwords and headers of the web configuration |
//! | `answer` | the body of an answer, which knows when it has left |
//! | `stream` | the socket under hyper; sees when bytes come and when an answer has left |
//! | `route` | request → answer |
//! | `accept_header`, `query`, `deadline` | what a request asks for |
//! | `page` | the live page |
//! | `limits` | every number that bounds something, and the table of them in SECURITY.md |

mod accept;
mod accept_header;
mod access;
mod activity;
mod answer;
mod bind;
mod connection;
mod connections;
mod deadline;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod limits;
mod listener;
mod page;
mod query;
mod route;
mod stream;
mod systemd;
#[cfg(test)]
mod tests;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use bind::{AddressError, BindError, bind};
pub use limits::bounds;
pub use listener::Listener;
pub use systemd::{SystemdError, SystemdSockets};

use crate::metrics::CollectorSet;
use crate::scrape::{Families, Scrape};
use crate::web_config::WebConfig;
use accept::Acceptor;
use connections::Connections;
use limits::Limits;
use route::Routes;

/// What the HTTP side needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path of the exposition; starts with `/`.
    pub telemetry_path: String,
    /// Scrapes at a time, above which the answer is 503; 0 means no limit but that on connections.
    pub max_requests: usize,
    /// Collectors that are switched on; `collect[]` and `exclude[]` narrow them.
    pub enabled: CollectorSet,
    /// Families that are exposed; `name[]` narrows them.
    pub families: Families,
    /// Version of this program, for the live page.
    pub version: String,
    /// TLS, passwords and headers.
    pub web: Option<Arc<WebConfig>>,
}

/// The HTTP server.
#[derive(Debug)]
pub struct Server<S> {
    routes: Arc<Routes<S>>,
    limits: Limits,
}

impl<S: Scrape> Server<S> {
    /// Returns a server of these scrapes; it does nothing before [`Server::run`].
    #[must_use]
    pub fn new(scrape: Arc<S>, settings: Settings) -> Self {
        let limits = Limits::for_requests(settings.max_requests);
        Self { routes: Arc::new(Routes::new(scrape, settings)), limits }
    }

    /// Serves until `shutdown` is done; then stops listening and closes idle connections at once, and gives scrapes in
    /// flight five seconds to be finished and taken.
    pub async fn run(self, listeners: Vec<Listener>, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Connections::new(self.limits));
        let (stop, stopping) = watch::channel(false);
        let acceptor = Acceptor { connections: Arc::clone(&connections), routes: self.routes, stopping };
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(acceptor.clone().run(listener));
        }
        shutdown.await;
        accepting.shutdown().await;
        stop.send_replace(true);
        finish(&connections, self.limits.drain).await;
    }
}

/// Waits for open connections to end by themselves, then cuts what is left.
async fn finish(connections: &Connections, patience: Duration) {
    if timeout(patience, connections.all_closed()).await.is_ok() {
        return;
    }
    let cut = connections.cut_all();
    tracing::warn!(
        connections = cut,
        seconds = patience.as_secs_f64(),
        "closed connections whose scrapes took too long"
    );
    if timeout(Duration::from_secs(1), connections.all_closed()).await.is_err() {
        tracing::warn!("some closed connections have not ended");
    }
}
