//! The HTTP server: accepts connections, negotiates formats, routes requests, and limits hostile or slow clients.
//!
//! A scrape is one call of [`Scrape`]. [`crate::app`] calls [`bind()`] before it starts anything else, then [`Server::run`].
//!
//! | file | what it does |
//! |---|---|
//! | `bind` | opens the listening sockets, or takes them from systemd |
//! | `socket` | listening and accepted sockets, TCP or Unix, and the stream under hyper |
//! | `accept` | accepts connections, and recovers from errors of `accept` |
//! | `connections` | all open connections; closes one when there are too many |
//! | `activity` | what a connection is doing, since when, and until when it may |
//! | `connection` | drives one connection: TLS, hyper, timeouts |
//! | `route` | answers a request: access control, then the route |
//! | `request`, `accept_header` | what a request for the metrics asks for |
//! | `page` | the live page |
//! | `limits` | every limit, with the table of them in SECURITY.md |

mod accept;
mod accept_header;
mod activity;
mod bind;
mod connection;
mod connections;
mod limits;
mod page;
mod request;
mod route;
mod socket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use bind::{AddressError, BindError, SystemdError, SystemdSockets, bind};
pub use limits::bounds;
#[cfg(any(test, fuzzing))]
pub(crate) use request::fuzz;
pub use socket::Listener;

use crate::metrics::CollectorSet;
use crate::scrape::{Families, Scrape};
use crate::web_config::WebConfig;
use accept::Acceptor;
use connections::Connections;
use limits::Limits;
use route::Routes;

/// The part of the configuration that the server needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path of the metrics. It starts with `/`.
    pub telemetry_path: String,
    /// Maximum number of scrapes at a time. Above it the answer is 503. 0 means no limit but that of connections.
    pub max_requests: usize,
    /// Collectors that are switched on. `collect[]` and `exclude[]` select among them.
    pub enabled: CollectorSet,
    /// Families that are exposed. `name[]` selects among them.
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
    /// Returns a server that does nothing before [`Server::run`].
    #[must_use]
    pub fn new(scrape: Arc<S>, settings: Settings) -> Self {
        let limits = Limits::for_requests(settings.max_requests);
        Self { routes: Arc::new(Routes::new(scrape, settings)), limits }
    }

    /// Serves until `shutdown` is done. Then stops listening, closes idle connections, and gives pending answers five seconds
    /// to be sent.
    pub async fn run(self, listeners: Vec<Listener>, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Connections::new(self.limits));
        let (stop, stopping) = watch::channel(false);
        let acceptor = Acceptor { connections: Arc::clone(&connections), routes: self.routes, stopping };
        let acceptor = Arc::new(acceptor);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&acceptor).run(listener));
        }
        shutdown.await;
        accepting.shutdown().await;
        stop.send_replace(true);
        finish(&connections, self.limits.drain).await;
    }
}

/// Waits at most `patience` for open connections to end, then cuts those that are left.
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
