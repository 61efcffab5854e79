//! The engines of this host, and a merged view of their reports: a container belongs to the engine that lists its id.
//!
//! Each engine has its own store, which only its follower writes, so that no name crosses from one engine to another,
//! and an engine that is down keeps its names without an effect on others. Scrapes read the view.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{About, Engine, Seen};
use crate::config::DockerEndpoint;
use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::name::{ContainerStore, MAX_CONTAINERS, Names};

/// An engine and its reports on its containers. Cloning shares both.
#[derive(Clone, Debug)]
pub struct Member {
    /// The engine.
    pub engine: Engine,
    /// Its containers.
    pub store: Arc<ContainerStore>,
}

/// All engines, in the order of the flags. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Engines {
    members: Arc<[Member]>,
    view: Arc<Mutex<View>>,
}

/// The merged reports of several engines, and the versions of the views they were made from.
#[derive(Debug, Default)]
struct View {
    made_of: Vec<u64>,
    names: Arc<Names>,
}

impl Engines {
    /// Returns engines without a connection yet; a container that is gone is forgotten after `linger`.
    #[must_use]
    pub fn new(endpoints: &[DockerEndpoint], linger: Duration, self_metrics: &SelfMetrics) -> Self {
        let member = |endpoint: &DockerEndpoint| Member {
            engine: Engine::new(endpoint.clone(), self_metrics.clone()),
            store: Arc::new(ContainerStore::new(linger)),
        };
        Self { members: endpoints.iter().map(member).collect(), view: Arc::default() }
    }

    /// Returns the engines, each with its own store.
    #[must_use]
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.iter()
    }

    /// Returns the merged reports of all engines. Merged again only if one of them has changed.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        if let [only] = &*self.members {
            return only.store.names();
        }
        let all: Vec<Arc<Names>> = self.members.iter().map(|member| member.store.names()).collect();
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = view.made_of.len() == all.len()
            && view.made_of.iter().zip(&all).all(|(generation, names)| *generation == names.generation);
        if !is_same {
            view.made_of = all.iter().map(|names| names.generation).collect();
            view.names = Arc::new(merge(&all, view.names.generation + 1));
        }
        Arc::clone(&view.names)
    }

    /// Returns the version of the first engine that was ever connected: an outage does not change it.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        self.members.iter().find_map(|member| member.engine.about())
    }

    /// Returns which engines answer and fit into their stores, one bit for each, the first engine's lowest.
    #[must_use]
    pub fn answering(&self) -> u64 {
        let answers = |member: &Member| member.engine.is_up() && member.store.names().containers.len() < MAX_CONTAINERS;
        self.members.iter().rev().fold(0, |bits, member| bits << 1 | u64::from(answers(member)))
    }

    /// Returns whether each engine has listed its containers or could not be reached.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.members.iter().all(|member| member.store.is_settled())
    }

    /// Records a scrape.
    pub fn scraped(&self, now: Instant) {
        self.members.iter().for_each(|member| member.store.scraped(now));
    }

    /// Returns the containers whose limits were changed since the last call.
    #[must_use]
    pub fn take_updated(&self) -> Vec<ContainerId> {
        self.members.iter().flat_map(|member| member.store.take_updated()).collect()
    }

    /// Raises doubts with the engine that knows a container; with all engines for an unknown one.
    pub fn raise_doubts(&self, seen: &[(ContainerId, Seen)], names: &Names) {
        for (index, member) in self.members.iter().enumerate() {
            let is_its = |id: &ContainerId| names.engine_of(*id).is_none_or(|engine| engine == index);
            member.engine.doubts().raise(seen.iter().copied().filter(|(id, _)| is_its(id)));
        }
    }
}

/// Merges the reports. If two engines report one id, it belongs to the one for which the container exists, and of these
/// to the first in the order of the flags: an engine of another user cannot take over a container by listing its id.
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
mod tests {
    use super::{ContainerId, DockerEndpoint, Duration, Engines, Instant, Seen, SelfMetrics};
    use crate::docker::fake::id;
    use crate::name::{ContainerInfo, Moment};

    fn engines(count: usize) -> Engines {
        let endpoints: Vec<_> = (0..count).map(|number| DockerEndpoint::Unix(format!("/e{number}").into())).collect();
        Engines::new(&endpoints, Duration::from_mins(5), &SelfMetrics::of_engines(count).unwrap())
    }

    fn tell(engines: &Engines, engine: usize, id: ContainerId, name: &str) {
        let info = ContainerInfo { name: name.to_owned(), ..ContainerInfo::unknown(id) };
        engines.members[engine].store.upsert(info);
    }

    fn name(engines: &Engines, id: ContainerId) -> String {
        engines.names().containers[&id].name.clone()
    }

    #[test]
    fn a_container_belongs_to_the_first_engine_for_which_it_exists() {
        let engines = engines(3);
        tell(&engines, 2, id('a'), "claimed");
        assert_eq!((name(&engines, id('a')).as_str(), engines.names().engine_of(id('a'))), ("claimed", Some(2)));
        tell(&engines, 1, id('a'), "its own");
        tell(&engines, 1, id('b'), "other");
        assert_eq!((name(&engines, id('a')).as_str(), engines.names().engine_of(id('a'))), ("its own", Some(1)));
        engines.members[1].store.remove(id('a'), Moment::now());
        assert_eq!(name(&engines, id('a')), "claimed");
        assert_eq!(engines.names().engine_of(id('b')), Some(1));
        assert_eq!(engines.names().engine_of(id('c')), None);
    }

    #[test]
    fn the_view_changes_only_where_an_engine_says_something_else() {
        let engines = engines(2);
        tell(&engines, 0, id('a'), "web");
        let before = engines.names();
        tell(&engines, 0, id('a'), "web");
        assert!(std::sync::Arc::ptr_eq(&before, &engines.names()));
        tell(&engines, 1, id('b'), "db");
        assert!(engines.names().generation > before.generation);
    }

    #[test]
    fn a_doubt_is_for_the_engine_that_told_of_the_container() {
        let engines = engines(2);
        tell(&engines, 0, id('a'), "web");
        engines.raise_doubts(&[(id('a'), Seen::Running)], &engines.names());
        let open =
            |engine: usize| engines.members[engine].engine.doubts().are_left(&engines.members[engine].store.names());
        assert!(open(0) && !open(1));
        engines.raise_doubts(&[(id('b'), Seen::Running)], &engines.names());
        assert!(open(1), "no engine has reported it");
        engines.scraped(Instant::now());
        assert!(engines.members().all(|member| member.store.is_scraped(Instant::now())));
    }

    #[test]
    fn one_engine_is_its_own_view_and_each_has_its_own_gauge() {
        let one = engines(1);
        tell(&one, 0, id('a'), "web");
        assert!(std::sync::Arc::ptr_eq(&one.names(), &one.members[0].store.names()));
        assert_eq!(one.names().engine_of(id('a')), Some(0));
        let three = engines(3);
        three.members[1].engine.set_up(true);
        assert_eq!(three.answering(), 0b010);
    }
}
