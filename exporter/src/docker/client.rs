//! One engine: its address and the session with it.

use std::sync::{Arc, PoisonError, RwLock};

use super::Error;
use super::doubts::Doubts;
use super::error::address;
use super::host::Host;
use super::session::{About, Session};
use super::timing::Timing;
use crate::config::DockerEndpoint;
use crate::metrics::{EngineUp, SelfMetrics};

/// A Docker engine. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: DockerEndpoint,
    self_metrics: SelfMetrics,
    /// 1 while the engine answers.
    up: EngineUp,
    timing: Timing,
    session: RwLock<Option<Arc<Session>>>,
    /// What it has said of itself last.
    about: RwLock<Option<About>>,
    host: Host,
    doubts: Doubts,
}

impl Engine {
    /// Returns an engine without a connection yet; every request is counted in `self_metrics`.
    #[must_use]
    pub fn new(endpoint: DockerEndpoint, self_metrics: SelfMetrics) -> Self {
        Self::with_timing(endpoint, self_metrics, Timing::default())
    }

    pub(super) fn with_timing(endpoint: DockerEndpoint, self_metrics: SelfMetrics, timing: Timing) -> Self {
        let (session, about) = (RwLock::default(), RwLock::default());
        let (host, doubts) = (Host::default(), Doubts::default());
        let up = self_metrics.engine_up(&address(&endpoint));
        Self { shared: Arc::new(Shared { endpoint, self_metrics, up, timing, session, about, host, doubts }) }
    }

    /// Connects to the engine and negotiates a version of the API.
    ///
    /// # Errors
    /// Why the engine cannot be used, with a hint.
    pub(super) async fn connect(&self) -> Result<Arc<Session>, Error> {
        let session =
            Arc::new(Session::open(&self.shared.endpoint, &self.shared.self_metrics, self.shared.timing).await?);
        *self.shared.about.write().unwrap_or_else(PoisonError::into_inner) = Some(session.about.clone());
        self.set_session(Some(Arc::clone(&session)));
        Ok(session)
    }

    /// Returns the versions that the engine has reported last, also while it is down; none before the first connection.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        self.shared.about.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the engine answers and has listed its containers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.up.get()
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.shared.up.set(is_up);
    }

    /// Returns the engine's address, for the log.
    pub(super) fn address(&self) -> String {
        address(&self.shared.endpoint)
    }

    /// Returns the doubts that scrapes have raised.
    #[must_use]
    pub fn doubts(&self) -> &Doubts {
        &self.shared.doubts
    }

    /// Returns the engine's report on its host.
    pub(super) fn host(&self) -> &Host {
        &self.shared.host
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.shared.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the session of an engine that stopped answering.
    pub(super) fn disconnect(&self) {
        self.set_session(None);
    }

    pub(super) fn self_metrics(&self) -> &SelfMetrics {
        &self.shared.self_metrics
    }

    pub(super) fn timing(&self) -> Timing {
        self.shared.timing
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.shared.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

#[cfg(test)]
mod tests;
