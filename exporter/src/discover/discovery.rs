//! Follows the containers of all cgroup trees by inotify events, and by walks that repair what events missed.

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

/// How often a walk over all trees repairs what events missed.
pub const WALK_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of directories below containers that one refresh reads, apart from full walks.
const BELOW_PER_REFRESH: usize = 4096;

/// Follows the containers of all cgroup trees of a host. One that is in several trees is one container.
///
/// Paths of cgroups are from the root of their trees, with a leading slash.
#[derive(Debug)]
pub struct Discovery {
    roots: Vec<PathBuf>,
    /// None if inotify is not available or the trees are captures: then every refresh walks.
    watch: Option<Watch>,
    claims: Claims,
    others: Others,
    /// Containers below each outermost container; no entry if there are none.
    below: HashMap<Arc<str>, Below>,
    /// Containers to read, because of an event or because they are not watched.
    touched: HashSet<Arc<str>>,
    walked: Option<Instant>,
    walks: u64,
    /// Whether the watches of all containers are lost.
    unarmed: bool,
    missed: MissedLog,
}

/// Containers below a container.
#[derive(Debug, Default)]
struct Below {
    nested: Vec<(ContainerId, String)>,
    /// Whether there is more than a walk visits.
    truncated: bool,
}

impl Discovery {
    /// Follows the containers of `trees`: `live` trees (cgroup file systems) by events, captures by walks. `lists_all`
    /// if v1 lists the processes of all pid namespaces.
    #[must_use]
    pub fn new(trees: &[Tree], procfs: &Path, live: bool, lists_all: bool) -> Self {
        Self {
            roots: trees.iter().map(|tree| tree.path.clone()).collect(),
            watch: if live { start_watch() } else { None },
            claims: Claims::new(ProcessLists::new(trees, lists_all), procfs),
            others: Others::default(),
            below: HashMap::new(),
            touched: HashSet::new(),
            walked: None,
            walks: 0,
            unarmed: false,
            missed: MissedLog::default(),
        }
    }

    /// Follows also the cgroups that this filter selects and that are not containers.
    #[must_use]
    pub fn with_others(mut self, filter: CgroupFilter) -> Self {
        self.others.set_filter(filter);
        self
    }

    /// Returns the changes since the last call of cgroups that are not containers.
    #[must_use]
    pub fn take_other_changes(&mut self) -> OtherChanges {
        self.others.take_changes()
    }

    /// Removes a cgroup, not a container, whose files a reader found missing.
    pub fn forget_other(&mut self, path: &str) {
        self.others.remove(path);
    }

    /// Returns the number of containers known.
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

    /// Returns how many containers have no process now.
    #[must_use]
    pub fn count_empty(&self) -> usize {
        self.claims.count_empty()
    }

    /// Returns whether no container is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of cgroups that are named like containers but are none, and how many of them an engine left
    /// behind.
    #[must_use]
    pub fn refused(&self) -> (usize, usize) {
        self.claims.refused()
    }

    /// Updates the list. Returns what changed.
    pub fn refresh(&mut self, now: Instant, engine: &dyn Engine) -> Changes {
        let mut changes = Changes::default();
        let due =
            self.missed.was_transient || self.walked.is_none_or(|walked| now.duration_since(walked) >= WALK_INTERVAL);
        let walks = !self.follow() || due;
        if walks {
            self.walk_all(now);
        }
        self.read_touched();
        changes.missed = self.missed.report(|| {
            let truncated = self.below.iter().filter(|(_, below)| below.truncated).map(|(container, _)| &**container);
            truncated.min().unwrap_or_default().to_owned()
        });
        self.claims.decide(engine, walks, &mut changes);
        changes
    }

    /// Removes a container whose files a reader found missing before any event.
    pub fn forget(&mut self, id: ContainerId) {
        let Some(path) = self.claims.withdraw(id) else { return };
        if self.home(&path).is_none() {
            self.claims.remove(id, &path);
        }
        // The container may have been created again.
        self.touched.insert(Arc::from(identity::outermost(&path)));
    }

    /// Records that a reader found no process in the container.
    pub fn suspect(&mut self, id: ContainerId) {
        self.claims.suspect(id);
    }

    /// Applies events. Returns false if only a walk can tell what happened.
    fn follow(&mut self) -> bool {
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
            // The watches have the old paths.
            self.watch = start_watch();
            self.unarmed = true;
            return false;
        }
        for event in happened.events {
            let (Event::Created(path) | Event::Removed(path)) = &event;
            let tree = self.roots.iter().position(|root| path.starts_with(root));
            if let Some((_, path)) = tree.and_then(|tree| self.claim(tree, path)) {
                self.touched.insert(Arc::from(path));
            } else if let (Some(tree), Event::Created(path)) = (tree, &event) {
                self.walk_from(tree, path);
            } else if let Some(path) = tree.and_then(|tree| self.path_in(tree, path)) {
                self.remove_other(&path);
            }
        }
        self.touched.extend(happened.touched);
        !happened.overflow
    }

    fn walk_all(&mut self, now: Instant) {
        self.walks += 1;
        self.missed.was_transient = false;
        for tree in 0..self.roots.len() {
            if let Some(root) = self.roots.get(tree).cloned() {
                self.walk_from(tree, &root);
            }
        }
        for (id, path) in self.claims.unseen(self.walks) {
            if self.home(&path).is_none() {
                self.claims.remove(id, &path);
                self.below.remove(path.as_str());
            }
        }
        for path in self.others.unseen(self.walks) {
            self.remove_other(&path);
        }
        self.walked = Some(now);
        self.unarmed = false;
    }

    /// Walks over a part of a tree that is not below a container.
    fn walk_from(&mut self, tree: usize, start: &Path) {
        let missed = walk(start, HOST, |visited| {
            let Some((id, path)) = self.claim(tree, visited.path) else {
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

    /// Registers an outermost container.
    fn observe_container(&mut self, tree: usize, visited: &Visited<'_>, id: ContainerId, path: &str) {
        let Some(metadata) = visited.metadata() else { return };
        if !cgroup::is_leaf(metadata) || self.below.contains_key(path) {
            self.read_container(&Arc::from(path), true);
            return;
        }
        let seen = Seen { path, at: (tree, metadata.ino()), child: None, walk: self.walks };
        if self.claims.observe(id, seen) || self.unarmed {
            // To be watched, and read once more after that.
            self.touched.insert(Arc::from(path));
        }
    }

    fn read_touched(&mut self) {
        let mut room = BELOW_PER_REFRESH;
        for container in std::mem::take(&mut self.touched) {
            if room == 0 && self.below.contains_key(&container) {
                self.touched.insert(container);
            } else {
                room = room.saturating_sub(self.read_container(&container, false));
            }
        }
    }

    /// Reads a container and the cgroups below it in the first tree that has it. Returns the number of directories
    /// below it.
    ///
    /// A container with more below it than a walk visits is read only by full walks (`thoroughly`).
    fn read_container(&mut self, container: &Arc<str>, thoroughly: bool) -> usize {
        let Some((tree, inode)) = self.home(container) else {
            self.remove(container);
            return 0;
        };
        let Some(directory) = self.roots.get(tree).map(|root| cgroup::directory(root, container)) else { return 0 };
        let truncated = self.below.get(container).is_some_and(|below| below.truncated);
        let Some((id, _)) = self.claim(tree, &directory) else { return 0 };
        if truncated && !thoroughly && self.claims.is_at(id, container, (tree, inode)) {
            return 0;
        }
        let (mut found, mut children) = (Vec::new(), HashMap::new());
        let (mut directories, mut armed) = (0, true);
        let missed = walk(&directory, BELOW_CONTAINER, |visited| {
            directories += 1;
            // Watched before it is listed, so that nothing created in between is missed.
            armed &= self.arm(container, visited.path);
            let Some(metadata) = visited.metadata() else { return Next::Skip };
            if let Some((id, path)) = self.claim(tree, visited.path) {
                found.push((id, path, metadata.ino()));
            } else if let Some(parent) = holds_processes_of(visited.path).and_then(|parent| self.claim(tree, parent)) {
                children.insert(parent.1, metadata.ino());
            }
            Next::Descend
        });
        for (id, path, inode) in &found {
            let child = children.get(path).copied();
            self.claims.observe(*id, Seen { path, at: (tree, *inode), child, walk: self.walks });
        }
        let nested = found.into_iter().map(|(id, path, _)| (id, path)).filter(|(_, path)| **path != **container);
        self.keep_nested(container, nested.collect(), missed.truncated);
        if !armed && !missed.truncated {
            self.touched.insert(Arc::clone(container));
        }
        self.missed.add(missed);
        directories - 1
    }

    /// Compares the containers below a container with the known ones.
    fn keep_nested(&mut self, container: &Arc<str>, mut nested: Vec<(ContainerId, String)>, truncated: bool) {
        let before = self.below.remove(container).unwrap_or_default();
        let now: HashSet<&str> = nested.iter().map(|(_, path)| path.as_str()).collect();
        let unseen: Vec<_> = before.nested.into_iter().filter(|(_, path)| !now.contains(path.as_str())).collect();
        for (id, path) in unseen {
            if self.home(&path).is_none() {
                self.claims.remove(id, &path);
            } else {
                nested.push((id, path));
            }
        }
        if truncated || !nested.is_empty() {
            self.below.insert(Arc::clone(container), Below { nested, truncated });
        }
    }

    /// Removes a container that is in no tree any more.
    fn remove(&mut self, container: &str) {
        if let Some(id) = ContainerId::from_cgroup_path(Path::new(container)) {
            self.claims.remove(id, container);
        }
        for (id, path) in self.below.remove(container).unwrap_or_default().nested {
            self.claims.remove(id, &path);
        }
    }

    /// Returns the first tree that has a cgroup, and its inode there. A tree with an error may have it.
    fn home(&self, path: &str) -> Option<(usize, u64)> {
        let mut home = None;
        for (tree, root) in self.roots.iter().enumerate() {
            match fs::symlink_metadata(cgroup::directory(root, path)) {
                Ok(metadata) if metadata.is_dir() => return Some((tree, metadata.ino())),
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    home.get_or_insert((tree, 0));
                }
                _ => {}
            }
        }
        home
    }

    /// Returns the path of a cgroup that is not the root of its tree.
    fn path_in(&self, tree: usize, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(self.roots.get(tree)?).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some(Path::new("/").join(below).to_string_lossy().into_owned())
    }

    /// Removes a cgroup, not a container, if it is gone from all trees.
    fn remove_other(&mut self, path: &str) {
        if self.others.has(path) && self.home(path).is_none() {
            self.others.remove(path);
        }
    }

    /// Returns the id in a directory's name, and the path of the cgroup.
    fn claim(&self, tree: usize, directory: &Path) -> Option<(ContainerId, String)> {
        let path = self.path_in(tree, directory)?;
        Some((ContainerId::from_cgroup_path(Path::new(&path))?, path))
    }

    /// Watches a directory of a container. Returns true also if nothing is watched, because everything is walked then.
    fn arm(&mut self, container: &Arc<str>, directory: &Path) -> bool {
        self.watch.as_mut().is_none_or(|watch| watch.add_once(container, directory))
    }

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

/// Returns the parent of a cgroup that holds the processes of the parent's container: crun moves them from the scope to
/// a child.
fn holds_processes_of(path: &Path) -> Option<&Path> {
    let parent = path.parent().filter(|_| path.file_name().is_some_and(|name| name == CHILD))?;
    let has_scope = parent.extension().is_some_and(|extension| extension == "scope");
    let is_libpod = || parent.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libpod-"));
    let is_empty = || fs::read(parent.join("cgroup.procs")).map_or(true, |processes| processes.trim_ascii().is_empty());
    ((has_scope || is_libpod()) && is_empty()).then_some(parent)
}

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

/// Returns every container of these trees by one walk, with the path of its cgroup, sorted by path.
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
    /// Its cgroup, from the root of its trees, with a leading slash.
    pub path: String,
    /// Whether it has certainly no process.
    pub is_empty: bool,
}

/// Returns the same as [`find_all`], and which of the containers have no process. `lists_all` as in [`Discovery::new`].
#[must_use]
pub fn find_and_check(trees: &[Tree], lists_all: bool) -> Vec<Found> {
    let mut discovery = Discovery::new(trees, Path::new("/proc"), false, lists_all);
    let found = discovery.find_all().into_iter();
    found.map(|Added { id, path, .. }| Found { id, is_empty: discovery.claims.is_empty(&path), path }).collect()
}

/// Returns the words on cgroups without a process, for a message that counts containers: they are none if an engine answers
/// that does not run them.
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
