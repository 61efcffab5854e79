//! Finds the container that a cgroup belongs to: the cgroup is the container's own, or below it (nested engines,
//! systemd in a container).
//!
//! Programs count by the id of the innermost cgroup. The id of a container's own cgroup is looked up when the container
//! is found. Other cgroups are found by a walk over the tree, after a program has counted for an unknown id, and at
//! intervals to notice ended cgroups.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exporter_ebpf::owners::PARENT;

use crate::discover::{ContainerId, cgroup};

/// Minimum time between two walks caused by unknown ids.
const MIN_WALK_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time between two walks, and so the maximum time for which entries of ended cgroups without a container stay.
const MAX_WALK_INTERVAL: Duration = Duration::from_mins(5);

/// Maximum number of nested containers in one container that have their own entries. The others count for the outer
/// one.
const MAX_NESTED: usize = 1000;
/// Maximum number of cgroups below containers that a walk visits. Containers can create any number of them.
const MAX_BELOW: usize = 10_000;

/// A container, and where its cgroup is.
#[derive(Clone, Copy, Debug)]
pub struct ContainerRef<'a> {
    /// Its id.
    pub id: ContainerId,
    /// Its generation. A restarted container has the same id, another cgroup, and another generation.
    pub generation: u64,
    /// The path of its cgroup from the root of the tree, with a leading slash.
    pub path: &'a str,
}

/// The cgroups of one tree, and the containers that own them.
#[derive(Debug)]
pub(super) struct CgroupOwners {
    root: PathBuf,
    /// Known cgroups, with the container that owns each; none for a cgroup outside of containers.
    known: HashMap<u64, Option<ContainerId>>,
    /// The cgroups of each container.
    held: HashMap<ContainerId, ContainerCgroups>,
    /// When the last walk was made.
    walked: Option<Instant>,
    /// The containers of the last [`CgroupOwners::update`] with their generations; empty if the cgroup of any was not
    /// found.
    last: Vec<(ContainerId, u64)>,
    /// The single cgroup of each container of `last`; 0 if it has several.
    single_id: Vec<u64>,
    /// The map of owners for the programs: the cgroup of each container with that of its outermost container, and the
    /// parents of containers with [`PARENT`].
    published: HashMap<u64, u64>,
    /// Whether containers have changed since the map was last published.
    is_changed: bool,
}

/// The cgroups of a container in its present generation, its own first.
#[derive(Debug)]
struct ContainerCgroups {
    generation: u64,
    ids: Vec<u64>,
}

impl CgroupOwners {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            known: HashMap::new(),
            held: HashMap::new(),
            walked: None,
            last: Vec::new(),
            single_id: Vec::new(),
            published: HashMap::new(),
            is_changed: false,
        }
    }

    /// Returns the cgroups whose counts belong to a container. `index` is its index among the containers of the last
    /// update, which usually saves a lookup by id.
    pub(super) fn ids(&self, index: usize, container: ContainerId) -> &[u64] {
        let is_same = self.last.get(index).is_some_and(|(id, _)| *id == container);
        match self.single_id.get(index).filter(|id| is_same && **id != 0) {
            Some(id) => std::slice::from_ref(id),
            None => self.held.get(&container).map_or(&[], |held| held.ids.as_slice()),
        }
    }

    /// Returns the id of a container's own cgroup.
    pub(super) fn own_cgroup(&self, container: ContainerId) -> Option<u64> {
        self.held.get(&container).and_then(|held| held.ids.first().copied())
    }

    /// Returns the map of owners to publish.
    pub(super) fn published(&self) -> &HashMap<u64, u64> {
        &self.published
    }

    /// Returns whether the map of owners has changed since the last call of this function.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Returns whether the cgroup belongs to a container.
    pub(super) fn belongs_to_container(&self, id: u64) -> bool {
        self.known.get(&id).is_some_and(Option::is_some)
    }

    /// Updates the map of owners.
    fn update_published<'a>(&mut self, containers: impl Iterator<Item = ContainerRef<'a>>) {
        let own =
            |container: &ContainerRef<'_>| self.held.get(&container.id).and_then(|held| held.ids.first().copied());
        let by_path: HashMap<&str, u64> =
            containers.filter_map(|container| Some((container.path, own(&container)?))).collect();
        let mut nested: HashMap<u64, usize> = HashMap::new();
        let mut parents: HashMap<&str, Option<u64>> = HashMap::new();
        let mut published = HashMap::new();
        for (path, id) in &by_path {
            let above = path.match_indices('/').skip(1).map(|(end, _)| path.get(..end).unwrap_or_default());
            let outermost = above.into_iter().find_map(|above| by_path.get(above)).copied();
            if let Some(outermost) = outermost {
                let count = nested.entry(outermost).or_default();
                *count += 1;
                if *count <= MAX_NESTED {
                    published.insert(*id, outermost);
                }
                continue;
            }
            published.insert(*id, *id);
            let parent = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
            let id_of = |parent| *parents.entry(parent).or_insert_with(|| cgroup::id(&self.root, parent));
            published.extend(parent.and_then(id_of).map(|parent| (parent, PARENT)));
        }
        self.is_changed |= published != self.published;
        self.published = published;
    }

    /// Adds unknown cgroups with counts to the containers that own them by the records of the programs, which `owner`
    /// returns. Returns whether any cgroup remains unknown.
    pub(super) fn attribute(&mut self, counted: impl Iterator<Item = u64>, owner: impl Fn(u64) -> Option<u64>) -> bool {
        let (mut is_any_unknown, mut has_changed) = (false, false);
        for id in counted {
            if self.known.contains_key(&id) {
                continue;
            }
            match owner(id).and_then(|owner| self.known.get(&owner).copied().flatten()) {
                Some(container) => {
                    self.add(id, container);
                    has_changed = true;
                }
                None => is_any_unknown = true,
            }
        }
        if has_changed {
            self.update_single_ids();
        }
        is_any_unknown
    }

    /// Adds a cgroup to a container.
    fn add(&mut self, id: u64, container: ContainerId) {
        if let Some(held) = self.held.get_mut(&container) {
            held.ids.push(id);
            self.known.insert(id, Some(container));
        }
    }

    /// Updates `single_id`.
    fn update_single_ids(&mut self) {
        let ids = |id: &ContainerId| self.held.get(id).map_or(&[][..], |held| held.ids.as_slice());
        let single_id = self.last.iter().map(|(id, _)| if let [single_id] = ids(id) { *single_id } else { 0 });
        self.single_id = single_id.collect();
    }

    /// Adds new containers and removes ended ones. Returns the cgroups that have ended with them.
    pub(super) fn update<'a>(&mut self, containers: impl Iterator<Item = ContainerRef<'a>> + Clone) -> HashSet<u64> {
        let generations = containers.clone().map(|container| (container.id, container.generation));
        // Usually no container has changed, which this comparison shows without a lookup for each.
        if self.last.len() == self.held.len() && generations.clone().eq(self.last.iter().copied()) {
            return HashSet::new();
        }
        let mut ended = HashSet::new();
        let mut has_changed = false;
        for container in containers.clone() {
            if self.held.get(&container.id).is_some_and(|held| held.generation == container.generation) {
                continue;
            }
            // Counts of the previous run do not belong to this one, even if the cgroup of this one does not exist yet.
            ended.extend(self.held.remove(&container.id).into_iter().flat_map(|before| before.ids));
            if let Some(inode) = cgroup::id(&self.root, container.path) {
                let held = ContainerCgroups { generation: container.generation, ids: vec![inode] };
                self.held.insert(container.id, held);
                self.known.insert(inode, Some(container.id));
                // The same cgroup in another generation keeps its counts.
                ended.remove(&inode);
                has_changed = true;
            }
        }
        self.last.clear();
        let found = |(id, generation)| self.held.get(&id).is_some_and(|held| held.generation == generation);
        if generations.clone().all(found) {
            self.last.extend(generations);
        }
        self.update_single_ids();
        if containers.clone().count() < self.held.len() {
            let alive: HashSet<ContainerId> = containers.clone().map(|container| container.id).collect();
            self.held.retain(|container, held| {
                let is_alive = alive.contains(container);
                if !is_alive {
                    ended.extend(held.ids.drain(..));
                }
                is_alive
            });
        }
        if !ended.is_empty() {
            self.known.retain(|id, _| !ended.contains(id));
        }
        if has_changed || !ended.is_empty() {
            self.update_published(containers);
        }
        ended
    }

    /// Looks for unknown cgroups with counts by a walk, if one is due. Returns the cgroups that have ended and belong
    /// to no container.
    ///
    /// An ended cgroup below a live container keeps its entry, because its counts belong to the container.
    pub(super) fn resolve_unknown<'a>(
        &mut self,
        counted: impl Iterator<Item = u64>,
        is_any_unknown: bool,
        containers: impl Iterator<Item = ContainerRef<'a>>,
        now: Instant,
    ) -> HashSet<u64> {
        let since = self.walked.map(|walked| now.duration_since(walked));
        let is_due =
            since.is_none_or(|since| since >= MAX_WALK_INTERVAL || (since >= MIN_WALK_INTERVAL && is_any_unknown));
        if !is_due {
            return HashSet::new();
        }
        self.walked = Some(now);
        let holders: HashMap<PathBuf, ContainerId> =
            containers.map(|container| (cgroup::directory(&self.root, container.path), container.id)).collect();
        let found = walk(&self.root, &holders);
        self.known.retain(|id, holder| holder.is_some() || found.contains_key(id));
        let mut gone = HashSet::new();
        for id in counted {
            match (self.known.contains_key(&id), found.get(&id)) {
                (true, _) => {}
                (false, Some(Some(container))) => self.add(id, *container),
                (false, Some(None)) => {
                    self.known.insert(id, None);
                }
                (false, None) => {
                    gone.insert(id);
                }
            }
        }
        self.update_single_ids();
        gone
    }
}

/// Returns the ids of cgroups, each with the innermost container that it is in: all cgroups outside of containers, and
/// then those below containers up to [`MAX_BELOW`].
fn walk(root: &Path, holders: &HashMap<PathBuf, ContainerId>) -> HashMap<u64, Option<ContainerId>> {
    let mut found = HashMap::new();
    found.extend(fs::metadata(root).ok().map(|metadata| (metadata.ino(), None)));
    let (mut outside, mut below) = (vec![root.to_owned()], Vec::new());
    let mut visited = 0;
    loop {
        let (folder, holder) = match (outside.pop(), below.pop()) {
            (Some(folder), left) => {
                below.extend(left);
                (folder, None)
            }
            (None, Some((folder, holder))) => (folder, Some(holder)),
            (None, None) => return found,
        };
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let holder = holders.get(&path).copied().or(holder);
            visited += usize::from(holder.is_some());
            if visited > MAX_BELOW + holders.len() {
                return found;
            }
            found.insert(entry.ino(), holder);
            if !fs::metadata(&path).is_ok_and(|metadata| cgroup::is_leaf(&metadata)) {
                match holder {
                    Some(holder) => below.push((path, holder)),
                    None => outside.push(path),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, create_dir_all, metadata, remove_dir_all};
    use std::os::unix::fs::MetadataExt as _;
    use std::time::{Duration, Instant};

    use super::{CgroupOwners, ContainerRef};
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
        let holders = [ContainerRef { id: container(1), generation: 1, path: "/docker/one" }];
        let mut owners = CgroupOwners::new(tree.path().to_owned());
        let start = Instant::now();

        assert!(owners.update(holders.into_iter()).is_empty());
        assert_eq!(owners.ids(0, container(1)), [one]);
        let counted = [one, nested, service];
        assert!(owners.resolve_unknown(counted.into_iter(), true, holders.into_iter(), start).is_empty());
        assert_eq!(owners.ids(0, container(1)), [one, nested]);

        // A cgroup below the container ends, and so does a service: only the service's entry is given back.
        remove_dir_all(tree.path().join("docker/one/init")).unwrap();
        remove_dir_all(tree.path().join("service")).unwrap();
        let later = start + Duration::from_mins(6);
        let gone = owners.resolve_unknown(counted.into_iter(), true, holders.into_iter(), later);
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
        let mut owners = CgroupOwners::new(tree.path().to_owned());
        let generation = |generation| [ContainerRef { id: container(1), generation, path: "/one" }].into_iter();
        owners.update(generation(1));
        // Kept until the other has taken its place, so that the numbers differ as the kernel's do.
        std::fs::rename(tree.path().join("one"), tree.path().join("gone")).unwrap();
        create_dir(tree.path().join("one")).unwrap();
        assert_eq!(owners.update(generation(2)).into_iter().collect::<Vec<_>>(), [before]);
        assert_eq!(owners.ids(0, container(1)), [metadata(tree.path().join("one")).unwrap().ino()]);
    }

    #[test]
    fn a_run_has_no_counts_of_the_one_before_while_its_own_cgroup_is_not_there() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("one");
        create_dir(&path).unwrap();
        let before = metadata(&path).unwrap().ino();
        let mut owners = CgroupOwners::new(tree.path().to_owned());
        let generation = |generation| [ContainerRef { id: container(1), generation, path: "/one" }].into_iter();
        owners.update(generation(1));
        std::fs::rename(&path, tree.path().join("gone")).unwrap();
        assert_eq!(owners.update(generation(2)).into_iter().collect::<Vec<_>>(), [before]);
        assert!(owners.ids(0, container(1)).is_empty() && owners.own_cgroup(container(1)).is_none());
        create_dir(&path).unwrap();
        assert!(owners.update(generation(2)).is_empty());
        let own = metadata(&path).unwrap().ino();
        assert_eq!(owners.own_cgroup(container(1)), Some(own));
        assert!(owners.update(generation(3)).is_empty(), "it counts on under another generation");
        assert!(owners.belongs_to_container(own));
    }

    #[test]
    fn a_container_whose_cgroup_is_not_there_yet_is_looked_for_again() {
        let tree = tempfile::tempdir().unwrap();
        create_dir(tree.path().join("one")).unwrap();
        let holders = [(1, "/one"), (2, "/two")].map(|(generation, path)| ContainerRef {
            id: container(generation),
            generation: generation.into(),
            path,
        });
        let mut owners = CgroupOwners::new(tree.path().to_owned());
        owners.update(holders.into_iter());
        assert_eq!([1, 2].map(|id| owners.ids(0, container(id)).len()), [1, 0]);
        create_dir(tree.path().join("two")).unwrap();
        owners.update(holders.into_iter());
        owners.update(holders.into_iter());
        assert_eq!([1, 2].map(|id| owners.ids(0, container(id)).len()), [1, 1]);
        // Another one in the place of the second.
        let holders = [holders[0], ContainerRef { id: container(3), generation: 3, path: "/two" }];
        assert_eq!(owners.update(holders.into_iter()).len(), 1);
        assert_eq!([1, 2, 3].map(|id| owners.ids(0, container(id)).len()), [1, 0, 1]);
        assert_eq!(owners.update(std::iter::empty()).len(), 2);
    }

    #[test]
    fn unknown_ids_cause_a_walk_but_not_at_every_scrape() {
        let tree = tempfile::tempdir().unwrap();
        let mut owners = CgroupOwners::new(tree.path().to_owned());
        let start = Instant::now();
        owners.resolve_unknown(std::iter::empty(), false, std::iter::empty(), start);
        create_dir(tree.path().join("late")).unwrap();
        let late = metadata(tree.path().join("late")).unwrap().ino();
        let at = |owners: &mut CgroupOwners, seconds| {
            owners.resolve_unknown([late].into_iter(), true, std::iter::empty(), start + Duration::from_secs(seconds));
            owners.known.contains_key(&late)
        };
        assert!(!at(&mut owners, 5));
        assert!(at(&mut owners, 11));
    }
}
