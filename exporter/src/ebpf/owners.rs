//! Which container a cgroup id belongs to: its own cgroup's, or one below it (nested engines, systemd in a container).
//!
//! Programs count by the id of the very cgroup. The ids of containers are looked up when they are found; others only when
//! a program has counted for one that nobody knows, and now and then to notice who is gone, by one walk of the tree.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::discover::{ContainerId, cgroup};

/// Shortest time between two walks that unknown ids cause.
const AT_MOST: Duration = Duration::from_secs(10);
/// Longest time for which entries of ended cgroups that were no containers stay.
const AT_LEAST: Duration = Duration::from_mins(5);

/// A container as an owner is told of.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Its id.
    pub id: ContainerId,
    /// Which of its lives: a container that is started again has its id, and another cgroup.
    pub life: u64,
    /// The path of its cgroup, with a leading slash.
    pub path: &'a str,
}

/// The ids of one tree.
#[derive(Debug)]
pub(super) struct Owners {
    root: PathBuf,
    /// Every id that a container holds, or that is known to be none's.
    known: HashMap<u64, Option<ContainerId>>,
    /// The ids of each container.
    held: HashMap<ContainerId, Held>,
    walked: Option<Instant>,
    /// The containers of the last [`Owners::update`] that found the cgroup of each, and their lives.
    last: Vec<(ContainerId, u64)>,
    /// The id that each of these holds; 0 where it holds several.
    alone: Vec<u64>,
}

/// What a container holds in its present life: its own cgroup first.
#[derive(Debug)]
struct Held {
    life: u64,
    ids: Vec<u64>,
}

impl Owners {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: HashMap::new(), held: HashMap::new(), walked: None, last: Vec::new(), alone: Vec::new() }
    }

    /// The ids whose counts are a container's. `place` is where it is among the containers of the last update: most often
    /// that tells without a look at the table.
    pub(super) fn ids(&self, place: usize, container: ContainerId) -> &[u64] {
        let is_it = self.last.get(place).is_some_and(|(id, _)| *id == container);
        match self.alone.get(place).filter(|id| is_it && **id != 0) {
            Some(id) => std::slice::from_ref(id),
            None => self.held.get(&container).map_or(&[], |held| held.ids.as_slice()),
        }
    }

    fn index(&mut self) {
        let ids = |id: &ContainerId| self.held.get(id).map_or(&[][..], |held| held.ids.as_slice());
        let alone = self.last.iter().map(|(id, _)| if let [alone] = ids(id) { *alone } else { 0 });
        self.alone = alone.collect();
    }

    /// Takes containers in that are new, and lets go of those that have ended. Gives the ids that ended with them.
    pub(super) fn update<'a>(&mut self, containers: impl Iterator<Item = Holder<'a>> + Clone) -> HashSet<u64> {
        let lives = containers.clone().map(|container| (container.id, container.life));
        // Most often nobody has come or gone: that is told without a look at the table for each.
        if self.last.len() == self.held.len() && lives.clone().eq(self.last.iter().copied()) {
            return HashSet::new();
        }
        let mut ended = HashSet::new();
        for container in containers.clone() {
            if self.held.get(&container.id).is_none_or(|held| held.life != container.life)
                && let Some(inode) = cgroup::id(&self.root, container.path)
            {
                let held = Held { life: container.life, ids: vec![inode] };
                ended.extend(self.held.insert(container.id, held).into_iter().flat_map(|before| before.ids));
                self.known.insert(inode, Some(container.id));
            }
        }
        self.last.clear();
        let found = |(id, life)| self.held.get(&id).is_some_and(|held| held.life == life);
        if lives.clone().all(found) {
            self.last.extend(lives);
        }
        self.index();
        if containers.clone().count() < self.held.len() {
            let alive: HashSet<ContainerId> = containers.map(|container| container.id).collect();
            self.held.retain(|container, held| {
                let lives = alive.contains(container);
                if !lives {
                    ended.extend(held.ids.drain(..));
                }
                lives
            });
        }
        if !ended.is_empty() {
            self.known.retain(|id, _| !ended.contains(id));
        }
        ended
    }

    /// Finds out about ids that programs have counted for. Gives those that are gone and were no container's.
    ///
    /// An ended cgroup below a container that lives keeps its entry: what it counted is the container's.
    pub(super) fn explain<'a>(
        &mut self,
        counted: impl Iterator<Item = u64> + Clone,
        containers: impl Iterator<Item = Holder<'a>>,
        now: Instant,
    ) -> HashSet<u64> {
        let since = self.walked.map(|walked| now.duration_since(walked));
        let unknown = || counted.clone().any(|id| !self.known.contains_key(&id));
        let due = since.is_none_or(|since| since >= AT_LEAST || (since >= AT_MOST && unknown()));
        if !due {
            return HashSet::new();
        }
        self.walked = Some(now);
        let holders: HashMap<PathBuf, ContainerId> =
            containers.map(|container| (cgroup::directory(&self.root, container.path), container.id)).collect();
        let mut found = HashMap::new();
        walk(&self.root, None, &holders, &mut found);
        for (id, holder) in &found {
            if let Some(held) = holder.and_then(|holder| self.held.get_mut(&holder))
                && !held.ids.contains(id)
            {
                held.ids.push(*id);
            }
        }
        self.index();
        self.known.retain(|id, holder| holder.is_some() || found.contains_key(id));
        self.known.extend(found);
        counted.filter(|id| !self.known.contains_key(id)).collect()
    }
}

/// Every directory at and below `folder`. What vanishes meanwhile is not there.
fn walk(
    folder: &Path,
    holder: Option<ContainerId>,
    holders: &HashMap<PathBuf, ContainerId>,
    found: &mut HashMap<u64, Option<ContainerId>>,
) {
    if let (None, Ok(metadata)) = (holder, fs::metadata(folder)) {
        found.entry(metadata.ino()).or_insert(None);
    }
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            let holder = holders.get(&path).copied().or(holder);
            found.insert(entry.ino(), holder);
            if !fs::metadata(&path).is_ok_and(|metadata| cgroup::is_leaf(&metadata)) {
                walk(&path, holder, holders, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, create_dir_all, metadata, remove_dir_all};
    use std::os::unix::fs::MetadataExt as _;
    use std::time::{Duration, Instant};

    use super::{Holder, Owners};
    use crate::discover::ContainerId;

    fn container(digit: u8) -> ContainerId {
        ContainerId::parse(format!("{digit:x}").repeat(64).as_bytes()).unwrap()
    }

    #[test]
    fn what_is_below_a_container_is_its_own_and_what_ends_elsewhere_is_let_go() {
        let tree = tempfile::tempdir().unwrap();
        create_dir_all(tree.path().join("docker/one/init")).unwrap();
        create_dir_all(tree.path().join("service")).unwrap();
        let id = |path: &str| metadata(tree.path().join(path)).unwrap().ino();
        let (one, nested, service) = (id("docker/one"), id("docker/one/init"), id("service"));
        let holders = [Holder { id: container(1), life: 1, path: "/docker/one" }];
        let mut owners = Owners::new(tree.path().to_owned());
        let start = Instant::now();

        assert!(owners.update(holders.into_iter()).is_empty());
        assert_eq!(owners.ids(0, container(1)), [one]);
        let counted = [one, nested, service];
        assert!(owners.explain(counted.into_iter(), holders.into_iter(), start).is_empty());
        assert_eq!(owners.ids(0, container(1)), [one, nested]);

        // A cgroup below the container ends, and so does a service: only the service's entry is given back.
        remove_dir_all(tree.path().join("docker/one/init")).unwrap();
        remove_dir_all(tree.path().join("service")).unwrap();
        let later = start + Duration::from_mins(6);
        let gone = owners.explain(counted.into_iter(), holders.into_iter(), later);
        assert_eq!(gone.into_iter().collect::<Vec<_>>(), [service]);
        assert_eq!(owners.ids(0, container(1)), [one, nested]);

        // With the container all of it ends.
        let mut ended: Vec<u64> = owners.update(std::iter::empty()).into_iter().collect();
        ended.sort_unstable();
        let mut expected = vec![one, nested];
        expected.sort_unstable();
        assert_eq!(ended, expected);
        assert!(owners.ids(0, container(1)).is_empty());
    }

    #[test]
    fn a_container_that_is_started_again_begins_anew() {
        let tree = tempfile::tempdir().unwrap();
        create_dir(tree.path().join("one")).unwrap();
        let before = metadata(tree.path().join("one")).unwrap().ino();
        let mut owners = Owners::new(tree.path().to_owned());
        let life = |life| [Holder { id: container(1), life, path: "/one" }].into_iter();
        owners.update(life(1));
        // Kept until the other has taken its place, so that the numbers differ as the kernel's do.
        std::fs::rename(tree.path().join("one"), tree.path().join("gone")).unwrap();
        create_dir(tree.path().join("one")).unwrap();
        assert_eq!(owners.update(life(2)).into_iter().collect::<Vec<_>>(), [before]);
        assert_eq!(owners.ids(0, container(1)), [metadata(tree.path().join("one")).unwrap().ino()]);
    }

    #[test]
    fn a_container_whose_cgroup_is_not_there_yet_is_looked_for_again() {
        let tree = tempfile::tempdir().unwrap();
        create_dir(tree.path().join("one")).unwrap();
        let holders =
            [(1, "/one"), (2, "/two")].map(|(life, path)| Holder { id: container(life), life: life.into(), path });
        let mut owners = Owners::new(tree.path().to_owned());
        owners.update(holders.into_iter());
        assert_eq!([1, 2].map(|id| owners.ids(0, container(id)).len()), [1, 0]);
        create_dir(tree.path().join("two")).unwrap();
        owners.update(holders.into_iter());
        owners.update(holders.into_iter());
        assert_eq!([1, 2].map(|id| owners.ids(0, container(id)).len()), [1, 1]);
        // Another one in the place of the second.
        let holders = [holders[0], Holder { id: container(3), life: 3, path: "/two" }];
        assert_eq!(owners.update(holders.into_iter()).len(), 1);
        assert_eq!([1, 2, 3].map(|id| owners.ids(0, container(id)).len()), [1, 0, 1]);
        assert_eq!(owners.update(std::iter::empty()).len(), 2);
    }

    #[test]
    fn unknown_ids_cause_a_walk_but_not_at_every_scrape() {
        let tree = tempfile::tempdir().unwrap();
        let mut owners = Owners::new(tree.path().to_owned());
        let start = Instant::now();
        owners.explain(std::iter::empty(), std::iter::empty(), start);
        create_dir(tree.path().join("late")).unwrap();
        let late = metadata(tree.path().join("late")).unwrap().ino();
        let at = |owners: &mut Owners, seconds| {
            owners.explain([late].into_iter(), std::iter::empty(), start + Duration::from_secs(seconds));
            owners.known.contains_key(&late)
        };
        assert!(!at(&mut owners, 5));
        assert!(at(&mut owners, 11));
    }
}
