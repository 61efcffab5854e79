//! An engine: its address, its session, and what it has said of itself. All engines of this host, and one view of their
//! reports.
//!
//! Each engine has its own store, which only its follower writes. So no name passes from one engine to another, and an
//! engine that is down keeps its names without an effect on the others. In the view, a container belongs to the engine
//! that lists its id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};

use super::doubts::{Doubts, Seen};
use super::error::{Error, address};
use super::outage::Timing;
use super::session::{About, Session};
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::{EngineUp, SelfMetrics};
use crate::name::{ContainerStore, MAX_CONTAINERS, Names};

/// A Docker engine. A clone is the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: DockerEndpoint,
    self_metrics: SelfMetrics,
    /// The gauge that is 1 while the engine answers.
    up: EngineUp,
    timing: Timing,
    session: RwLock<Option<Arc<Session>>>,
    /// The versions that the engine has reported last.
    about: RwLock<Option<About>>,
    host: Host,
    doubts: Doubts,
}

impl Engine {
    /// Returns an engine that is not connected yet. Its requests are counted in `self_metrics`.
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
    /// The reason for which the engine cannot be used, with a hint.
    pub(super) async fn connect(&self) -> Result<Arc<Session>, Error> {
        let session =
            Arc::new(Session::open(&self.shared.endpoint, &self.shared.self_metrics, self.shared.timing).await?);
        *self.shared.about.write().unwrap_or_else(PoisonError::into_inner) = Some(session.about.clone());
        self.set_session(Some(Arc::clone(&session)));
        Ok(session)
    }

    /// Returns the versions that the engine has reported last, even if it is down now; none before the first
    /// connection.
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

    /// Returns the doubts about reports of this engine.
    #[must_use]
    pub fn doubts(&self) -> &Doubts {
        &self.shared.doubts
    }

    /// Returns what the engine has reported on its host.
    pub(super) fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Returns the session; none while the engine does not answer.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.shared.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the session, because the engine does not answer any more.
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

/// An engine's report on its host (`/info`): how it creates cgroups.
///
/// The report is requested only if it is needed. The engine collects it from all its plugins, which may take long or
/// never end. The follower requests it in the background and stores it here, so that nothing waits for it.
#[derive(Debug, Default)]
pub(super) struct Host {
    is_wanted: AtomicBool,
    /// Whether the engine creates cgroups as systemd units.
    systemd: OnceLock<bool>,
}

impl Host {
    /// Has the follower request the report from now on, because values come from this engine.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Returns whether values come from this engine. Then only its list shows which containers exist.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Returns whether the report is wanted and still missing.
    pub(super) fn is_missing(&self) -> bool {
        self.is_wanted() && self.systemd.get().is_none()
    }

    /// Stores the first report. An engine does not change its cgroup driver while containers run.
    pub(super) fn store(&self, info: &SystemInfo) {
        self.systemd.get_or_init(|| info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD));
    }

    /// Returns whether the engine creates cgroups as systemd units; false if unknown.
    pub(super) fn uses_systemd(&self) -> bool {
        self.systemd.get().copied().unwrap_or_default()
    }
}

/// An engine and its store of containers. A clone shares both.
#[derive(Clone, Debug)]
pub struct Member {
    /// The engine.
    pub engine: Engine,
    /// Its containers.
    pub store: Arc<ContainerStore>,
}

/// All engines, in the order of the flags. A clone shares them.
#[derive(Clone, Debug)]
pub struct Engines {
    members: Arc<[Member]>,
    view: Arc<Mutex<View>>,
}

/// The merged reports of several engines.
#[derive(Debug, Default)]
struct View {
    /// The generation of the reports of each engine when they were merged.
    generations: Vec<u64>,
    names: Arc<Names>,
}

impl Engines {
    /// Returns engines that are not connected yet. A removed container is kept for `linger`.
    #[must_use]
    pub fn new(endpoints: &[DockerEndpoint], linger: Duration, self_metrics: &SelfMetrics) -> Self {
        let member = |endpoint: &DockerEndpoint| Member {
            engine: Engine::new(endpoint.clone(), self_metrics.clone()),
            store: Arc::new(ContainerStore::new(linger)),
        };
        Self { members: endpoints.iter().map(member).collect(), view: Arc::default() }
    }

    /// Returns the engines with their stores.
    #[must_use]
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.iter()
    }

    /// Returns the merged reports of all engines. They are merged again only if the reports of an engine have changed.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        if let [only] = &*self.members {
            return only.store.names();
        }
        let all: Vec<Arc<Names>> = self.members.iter().map(|member| member.store.names()).collect();
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = view.generations.len() == all.len()
            && view.generations.iter().zip(&all).all(|(generation, names)| *generation == names.generation);
        if !is_same {
            view.generations = all.iter().map(|names| names.generation).collect();
            view.names = Arc::new(merge(&all, view.names.generation + 1));
        }
        Arc::clone(&view.names)
    }

    /// Returns the versions of the first engine that has been connected so far, even if it is down now.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        self.members.iter().find_map(|member| member.engine.about())
    }

    /// Returns the engines that answer and whose containers fit into their stores, one bit for each, the first engine
    /// in the lowest.
    #[must_use]
    pub fn answering(&self) -> u64 {
        let answers = |member: &Member| member.engine.is_up() && member.store.names().containers.len() < MAX_CONTAINERS;
        self.members.iter().rev().fold(0, |bits, member| bits << 1 | u64::from(answers(member)))
    }

    /// Returns whether each engine has listed its containers or has turned out not to answer.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.members.iter().all(|member| member.store.is_settled())
    }

    /// Tells all stores that there was a scrape.
    pub fn scraped(&self, now: Instant) {
        self.members.iter().for_each(|member| member.store.scraped(now));
    }

    /// Returns the containers whose limits have changed since the last call.
    #[must_use]
    pub fn take_updated(&self) -> Vec<ContainerId> {
        self.members.iter().flat_map(|member| member.store.take_updated()).collect()
    }

    /// Raises doubts about containers with the engine that each belongs to; about an unknown container with all
    /// engines.
    pub fn raise_doubts(&self, seen: &[(ContainerId, Seen)], names: &Names) {
        for (index, member) in self.members.iter().enumerate() {
            let is_its = |id: &ContainerId| names.engine_of(*id).is_none_or(|engine| engine == index);
            member.engine.doubts().raise(seen.iter().copied().filter(|(id, _)| is_its(id)));
        }
    }
}

/// Merges the reports of all engines. If several engines report one id, the container belongs to the first of those for
/// which it exists, in the order of the flags. So an engine of another user cannot take over a container by listing its
/// id.
fn merge(all: &[Arc<Names>], generation: u64) -> Names {
    let count = all.iter().map(|names| names.containers.len()).sum();
    let mut merged = Names { containers: HashMap::with_capacity(count), generation, ..Names::default() };
    for (names, engine) in all.iter().zip(0..) {
        for (id, info) in &names.containers {
            match merged.containers.entry(*id) {
                Entry::Vacant(entry) => _ = entry.insert(Arc::clone(info)),
                Entry::Occupied(mut known) if known.get().removed.is_some() && info.removed.is_none() => {
                    known.insert(Arc::clone(info));
                }
                Entry::Occupied(_) => continue,
            }
            merged.engines.insert(*id, engine);
        }
    }
    merged
}

#[cfg(test)]
mod tests;
