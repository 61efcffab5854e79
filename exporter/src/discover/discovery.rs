//! Follows the containers of all cgroup trees by inotify events, and by walks that find what events have missed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::cgroup::{self, Tree};
use super::claims::{Added, CHILD, Changes, Claims, ProcessLists, Seen};
use super::id::ContainerId;
use super::identity::{self, Engine, NoEngine};
use super::others::{CgroupFilter, OtherChanges, Others};
use super::walk::{BELOW_CONTAINER, HOST, MissedLog, Next, Visited, walk};
use super::watch::{Event, Watch};

/// Time between two walks over all trees.
pub const WALK_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of directories below containers that one refresh reads beside a full walk.
const BELOW_PER_REFRESH: usize = 4096;

/// Follows the containers of all cgroup trees of a host. A container that is in several trees is one container.
///
/// Paths of cgroups begin at the root of the tree, with a leading slash.
#[derive(Debug)]
pub struct Discovery {
    roots: Vec<PathBuf>,
    /// None if inotify is not available, or if the trees are captures. Then every refresh walks over all trees.
    watch: Option<Watch>,
    claims: Claims,
    others: Others,
    /// Containers below each outermost container that has any.
    below: HashMap<Arc<str>, Below>,
    /// Outermost containers to read in this refresh or the next, because of an event or because they are not watched.
    to_read: HashSet<Arc<str>>,
    /// When the last full walk was made.
    walked: Option<Instant>,
    /// Number of full walks so far.
    walks: u64,
    /// Whether all watches on containers are lost, until the next full walk.
    watches_lost: bool,
    missed: MissedLog,
}

/// Containers below a container.
#[derive(Debug, Default)]
struct Below {
    nested: Vec<(ContainerId, String)>,
    /// Whether there are more cgroups than a walk visits.
    truncated: bool,
}

impl Discovery {
    /// Returns a discovery that follows the containers of `trees`: by events if the trees are `live` (cgroup file
    /// systems), by walks if they are captures. `lists_all` says whether v1 trees list the processes of all pid
    /// namespaces.
    #[must_use]
    pub fn new(trees: &[Tree], procfs: &Path, live: bool, lists_all: bool) -> Self {
        Self {
            roots: trees.iter().map(|tree| tree.path.clone()).collect(),
            watch: if live { start_watch() } else { None },
            claims: Claims::new(ProcessLists::new(trees, lists_all), procfs),
            others: Others::default(),
            below: HashMap::new(),
            to_read: HashSet::new(),
            walked: None,
            walks: 0,
            watches_lost: false,
            missed: MissedLog::default(),
        }
    }

    /// Follows the cgroups that this filter selects and that are not containers, too.
    #[must_use]
    pub fn with_others(mut self, filter: CgroupFilter) -> Self {
        self.others.set_filter(filter);
        self
    }

    /// Returns the changes since the last call among the selected cgroups that are not containers.
    #[must_use]
    pub fn take_other_changes(&mut self) -> OtherChanges {
        self.others.take_changes()
    }

    /// Removes a cgroup that is not a container, after a reader has found its files missing.
    pub fn forget_other(&mut self, path: &str) {
        self.others.remove(path);
    }

    /// Returns the number of known containers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.accepted()
    }

    /// Returns every container of the trees, sorted by path.
    fn find_all(&mut self) -> Vec<Added> {
        let mut added = self.refresh(Instant::now(), &NoEngine).added;
        added.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        added
    }

    /// Returns the number of containers that have no process now.
    #[must_use]
    pub fn count_empty(&self) -> usize {
        self.claims.count_empty()
    }

    /// Returns whether no container is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of cgroups that are named like containers but are none, and how many of these an engine has
    /// left behind.
    #[must_use]
    pub fn refused(&self) -> (usize, usize) {
        self.claims.refused()
    }

    /// Updates the list of containers, and returns the changes.
    pub fn refresh(&mut self, now: Instant, engine: &dyn Engine) -> Changes {
        let mut changes = Changes::default();
        let is_due =
            self.missed.was_transient || self.walked.is_none_or(|walked| now.duration_since(walked) >= WALK_INTERVAL);
        let walks = !self.apply_events() || is_due;
        if walks {
            self.walk_all(now);
        }
        self.read_containers();
        changes.missed = self.missed.report(|| {
            let truncated = self.below.iter().filter(|(_, below)| below.truncated).map(|(container, _)| &**container);
            truncated.min().unwrap_or_default().to_owned()
        });
        self.claims.decide(engine, walks, &mut changes);
        changes
    }

    /// Removes a container, after a reader has found its files missing.
    pub fn forget(&mut self, id: ContainerId) {
        let Some(path) = self.claims.withdraw(id) else { return };
        if self.first_tree(&path).is_none() {
            self.claims.remove(id, &path);
        }
        // The container may have been created again.
        self.to_read.insert(Arc::from(identity::outermost(&path)));
    }

    /// Records that a reader has found no process in the container.
    pub fn suspect(&mut self, id: ContainerId) {
        self.claims.suspect(id);
    }

    /// Applies the events since the last refresh. Returns false if a walk is needed to find what has changed.
    fn apply_events(&mut self) -> bool {
        let Some(watch) = self.watch.as_mut() else { return false };
        let happened = match watch.drain() {
            Ok(happened) => happened,
            Err(error) => {
                warn!(%error, "inotify failed; every scrape walks the cgroup trees from now on");
                self.watch = None;
                return false;
            }
        };
        if happened.moved {
            // Paths of watched directories are out of date.
            self.watch = start_watch();
            self.watches_lost = true;
            return false;
        }
        for event in happened.events {
            let (Event::Created(path) | Event::Removed(path)) = &event;
            let tree = self.roots.iter().position(|root| path.starts_with(root));
            if let Some((_, path)) = tree.and_then(|tree| self.id_and_path(tree, path)) {
                self.to_read.insert(Arc::from(path));
            } else if let (Some(tree), Event::Created(path)) = (tree, &event) {
                self.walk_from(tree, path);
            } else if let Some(path) = tree.and_then(|tree| self.path_in(tree, path)) {
                self.remove_other(&path);
            }
        }
        self.to_read.extend(happened.touched);
        !happened.overflow
    }

    /// Walks over all trees, and removes the cgroups that are gone.
    fn walk_all(&mut self, now: Instant) {
        self.walks += 1;
        self.missed.was_transient = false;
        for tree in 0..self.roots.len() {
            if let Some(root) = self.roots.get(tree).cloned() {
                self.walk_from(tree, &root);
            }
        }
        for (id, path) in self.claims.unseen(self.walks) {
            if self.first_tree(&path).is_none() {
                self.claims.remove(id, &path);
                self.below.remove(path.as_str());
            }
        }
        for path in self.others.unseen(self.walks) {
            self.remove_other(&path);
        }
        self.walked = Some(now);
        self.watches_lost = false;
    }

    /// Walks over the part of a tree at and below `start`, which is not below a container.
    fn walk_from(&mut self, tree: usize, start: &Path) {
        let missed = walk(start, HOST, |visited| {
            let Some((id, path)) = self.id_and_path(tree, visited.path) else {
                self.watch_directory(visited.path);
                // The directory may be gone by now.
                if let Some(path) = self.path_in(tree, visited.path)
                    && self.others.selects(&path)
                    && visited.metadata().is_some()
                {
                    self.others.observe(&path, self.walks);
                }
                return Next::Descend;
            };
            if !self.claims.is_seen(id, &path, tree, self.walks) {
                self.observe_container(tree, visited, id, &path);
            }
            Next::Skip
        });
        self.missed.add(missed);
    }

    /// Records an outermost container that a walk has found.
    fn observe_container(&mut self, tree: usize, visited: &Visited<'_>, id: ContainerId, path: &str) {
        let Some(metadata) = visited.metadata() else { return };
        if !cgroup::is_leaf(metadata) || self.below.contains_key(path) {
            self.read_container(&Arc::from(path), true);
            return;
        }
        let seen = Seen { path, at: (tree, metadata.ino()), child: None, walk: self.walks };
        if self.claims.observe(id, seen) || self.watches_lost {
            // Has the directory watched, and then read once more.
            self.to_read.insert(Arc::from(path));
        }
    }

    /// Reads the containers of which events have come, up to [`BELOW_PER_REFRESH`] directories below them.
    fn read_containers(&mut self) {
        let mut left = BELOW_PER_REFRESH;
        for container in std::mem::take(&mut self.to_read) {
            if left == 0 && self.below.contains_key(&container) {
                self.to_read.insert(container);
            } else {
                left = left.saturating_sub(self.read_container(&container, false));
            }
        }
    }

    /// Reads a container and the cgroups below it in the first tree that has it. Returns the number of directories
    /// below it.
    ///
    /// Only a full walk (`in_walk`) reads a container that has more cgroups below it than a walk visits.
    fn read_container(&mut self, container: &Arc<str>, in_walk: bool) -> usize {
        let Some((tree, inode)) = self.first_tree(container) else {
            self.remove(container);
            return 0;
        };
        let Some(directory) = self.roots.get(tree).map(|root| cgroup::directory(root, container)) else { return 0 };
        let truncated = self.below.get(container).is_some_and(|below| below.truncated);
        let Some((id, _)) = self.id_and_path(tree, &directory) else { return 0 };
        if truncated && !in_walk && self.claims.is_at(id, container, (tree, inode)) {
            return 0;
        }
        let (mut found, mut children) = (Vec::new(), HashMap::new());
        let (mut directories, mut is_watched) = (0, true);
        let missed = walk(&directory, BELOW_CONTAINER, |visited| {
            directories += 1;
            // Watched before it is listed, so that no cgroup created in between is missed.
            is_watched &= self.watch_container(container, visited.path);
            let Some(metadata) = visited.metadata() else { return Next::Skip };
            if let Some((id, path)) = self.id_and_path(tree, visited.path) {
                found.push((id, path, metadata.ino()));
            } else if let Some(parent) =
                holds_processes_of(visited.path).and_then(|parent| self.id_and_path(tree, parent))
            {
                children.insert(parent.1, metadata.ino());
            }
            Next::Descend
        });
        for (id, path, inode) in &found {
            let child = children.get(path).copied();
            self.claims.observe(*id, Seen { path, at: (tree, *inode), child, walk: self.walks });
        }
        let nested = found.into_iter().map(|(id, path, _)| (id, path)).filter(|(_, path)| **path != **container);
        self.update_nested(container, nested.collect(), missed.truncated);
        if !is_watched && !missed.truncated {
            self.to_read.insert(Arc::clone(container));
        }
        self.missed.add(missed);
        directories - 1
    }

    /// Replaces the known containers below a container, and removes those that are gone.
    fn update_nested(&mut self, container: &Arc<str>, mut nested: Vec<(ContainerId, String)>, truncated: bool) {
        let before = self.below.remove(container).unwrap_or_default();
        let now: HashSet<&str> = nested.iter().map(|(_, path)| path.as_str()).collect();
        let unseen: Vec<_> = before.nested.into_iter().filter(|(_, path)| !now.contains(path.as_str())).collect();
        for (id, path) in unseen {
            if self.first_tree(&path).is_none() {
                self.claims.remove(id, &path);
            } else {
                nested.push((id, path));
            }
        }
        if truncated || !nested.is_empty() {
            self.below.insert(Arc::clone(container), Below { nested, truncated });
        }
    }

    /// Removes a container that is in no tree any more, and the containers below it.
    fn remove(&mut self, container: &str) {
        if let Some(id) = ContainerId::from_cgroup_path(Path::new(container)) {
            self.claims.remove(id, container);
        }
        for (id, path) in self.below.remove(container).unwrap_or_default().nested {
            self.claims.remove(id, &path);
        }
    }

    /// Returns the index of the first tree that has the cgroup, and the inode of the directory there. If no tree shows
    /// the cgroup, returns the first tree in which looking for it failed, with inode 0.
    fn first_tree(&self, path: &str) -> Option<(usize, u64)> {
        let mut unreadable = None;
        for (tree, root) in self.roots.iter().enumerate() {
            match fs::symlink_metadata(cgroup::directory(root, path)) {
                Ok(metadata) if metadata.is_dir() => return Some((tree, metadata.ino())),
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    unreadable.get_or_insert((tree, 0));
                }
                _ => {}
            }
        }
        unreadable
    }

    /// Returns the path of the cgroup with this directory; none for the root of the tree.
    fn path_in(&self, tree: usize, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(self.roots.get(tree)?).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some(Path::new("/").join(below).to_string_lossy().into_owned())
    }

    /// Removes a cgroup that is not a container, if it is gone from all trees.
    fn remove_other(&mut self, path: &str) {
        if self.others.has(path) && self.first_tree(path).is_none() {
            self.others.remove(path);
        }
    }

    /// Returns the id in the name of a directory, and the path of the cgroup; none for a name without an id.
    fn id_and_path(&self, tree: usize, directory: &Path) -> Option<(ContainerId, String)> {
        let path = self.path_in(tree, directory)?;
        Some((ContainerId::from_cgroup_path(Path::new(&path))?, path))
    }

    /// Watches a directory of a container for one event. Returns whether changes in it will be noticed: by the watch,
    /// or, if there is no inotify, by the walk that each refresh makes.
    fn watch_container(&mut self, container: &Arc<str>, directory: &Path) -> bool {
        self.watch.as_mut().is_none_or(|watch| watch.add_once(container, directory))
    }

    /// Watches a directory that may hold containers. If that fails, gives up inotify.
    fn watch_directory(&mut self, directory: &Path) {
        let Some(watch) = self.watch.as_mut() else { return };
        match watch.add(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(
                    %error, directory = %directory.display(), watched = watch.len(),
                    "cannot watch a cgroup directory; from now on every scrape walks the trees \
                     (raise fs.inotify.max_user_watches to avoid that)"
                );
                self.watch = None;
            }
            Err(_) | Ok(()) => {}
        }
    }
}

/// Returns the parent of a cgroup if the cgroup holds the processes of the parent's container: crun moves them from the
/// scope of a container to a child.
fn holds_processes_of(path: &Path) -> Option<&Path> {
    let parent = path.parent().filter(|_| path.file_name().is_some_and(|name| name == CHILD))?;
    let has_scope = parent.extension().is_some_and(|extension| extension == "scope");
    let is_libpod = || parent.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libpod-"));
    let is_empty = || fs::read(parent.join("cgroup.procs")).map_or(true, |processes| processes.trim_ascii().is_empty());
    ((has_scope || is_libpod()) && is_empty()).then_some(parent)
}

/// Returns a watch without directories; logs a failure and returns none if there is no inotify.
fn start_watch() -> Option<Watch> {
    Watch::new()
        .inspect_err(|error| {
            warn!(
                %error,
                "cannot use inotify; every scrape walks the cgroup trees (raise fs.inotify.max_user_instances to avoid that)"
            );
        })
        .ok()
}

/// Finds every container of these trees by one walk. Returns ids and paths of cgroups, sorted by path.
#[must_use]
pub fn find_all(trees: &[Tree]) -> Vec<(ContainerId, String)> {
    let found = Discovery::new(trees, Path::new("/proc"), false, false).find_all();
    found.into_iter().map(|added| (added.id, added.path)).collect()
}

/// A container of [`find_and_check`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its id.
    pub id: ContainerId,
    /// The path of its cgroup from the root of the tree, with a leading slash.
    pub path: String,
    /// Whether it certainly has no process.
    pub is_empty: bool,
}

/// Finds every container like [`find_all`], and checks which of them have no process. `lists_all` as in
/// [`Discovery::new`].
#[must_use]
pub fn find_and_check(trees: &[Tree], lists_all: bool) -> Vec<Found> {
    let mut discovery = Discovery::new(trees, Path::new("/proc"), false, lists_all);
    let found = discovery.find_all().into_iter();
    found.map(|Added { id, path, .. }| Found { id, is_empty: discovery.claims.is_empty(&path), path }).collect()
}

/// Returns the end of a message that counts containers: it mentions this number of cgroups without a process, which may
/// be left behind.
#[must_use]
pub fn and_empty(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ", and one cgroup that is named like a container and has no process".to_owned(),
        count => format!(", and {count} cgroups that are named like containers and have no process"),
    }
}

#[cfg(test)]
mod tests;
