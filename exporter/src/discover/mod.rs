//! Finds the container cgroups of this host and follows their coming and going.
//!
//! A scrape calls [`Discovery::refresh`]: it drains inotify events, and walks the whole tree only at the start, after an
//! overflow, and once in [`WALK_INTERVAL`] to heal what was missed (a container nested in another one's cgroup, say).

mod candidates;
pub(crate) mod cgroup;
mod hierarchy;
mod id;
mod mounts;
mod walk;
mod watch;

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use hierarchy::{Error, Hierarchy, Kind, Tree, Version};
pub use id::ContainerId;
use tracing::warn;
use walk::{Found, walk};
use watch::{Event, Watch};

/// How often a walk over the whole tree heals what events have missed.
pub const WALK_INTERVAL: Duration = Duration::from_mins(1);

/// Follows the containers of all cgroup trees of a host. One that is in several trees is one container.
#[derive(Debug)]
pub struct Discovery {
    roots: Vec<PathBuf>,
    /// None where inotify cannot be had, or where the tree is a capture: then every refresh walks.
    watch: Option<Watch>,
    /// Cgroup paths from the root of their trees, with a leading slash.
    containers: HashMap<ContainerId, String>,
    walked: Option<Instant>,
}

/// Every container of these trees by one walk, with the path of its cgroup.
#[must_use]
pub fn find_all(trees: &[Tree]) -> Vec<(ContainerId, String)> {
    Discovery::new(trees, false).refresh(Instant::now()).added
}

/// What a refresh changed. Removals come before additions: a restarted container is in both.
#[derive(Debug, Default)]
pub struct Changes {
    /// New containers, and the directories they are, relative to the tree and with a leading slash.
    pub added: Vec<(ContainerId, String)>,
    /// Containers whose directory is gone.
    pub removed: Vec<ContainerId>,
}

impl Discovery {
    /// Follows the containers of `trees`; `live` ones (cgroup file systems) by events, captures by walks.
    #[must_use]
    pub fn new(trees: &[Tree], live: bool) -> Self {
        let watch = if live { start_watch() } else { None };
        let roots = trees.iter().map(|tree| tree.path.clone()).collect();
        Self { roots, watch, containers: HashMap::new(), walked: None }
    }

    /// Number of containers known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.containers.len()
    }

    /// Whether no container is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// Brings the list up to date and tells what changed.
    pub fn refresh(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let due = self.walked.is_none_or(|walked| now.duration_since(walked) >= WALK_INTERVAL);
        let followed = self.follow(&mut changes);
        if due || !followed {
            self.walk_all(now, &mut changes);
        }
        changes
    }

    /// Applies events; false where only a walk can tell what happened.
    fn follow(&mut self, changes: &mut Changes) -> bool {
        let Some(watch) = self.watch.as_mut() else { return false };
        let events = match watch.drain() {
            Ok(events) => events,
            Err(error) => {
                warn!(%error, "inotify failed; from now on every scrape walks the cgroup tree");
                self.watch = None;
                return false;
            }
        };
        let mut followed = true;
        for event in events {
            match event {
                Event::Created(path) => {
                    let Some(root) = self.roots.iter().find(|root| path.starts_with(root)) else { continue };
                    let found = walk(root, &path, |_| false);
                    self.merge(found, changes);
                }
                Event::Removed(path) => self.remove_below(&path, changes),
                Event::Overflow => followed = false,
            }
        }
        followed
    }

    fn walk_all(&mut self, now: Instant, changes: &mut Changes) {
        let mut found = Found::default();
        let mut present: HashSet<ContainerId> = HashSet::new();
        for root in &self.roots {
            let more = walk(root, root, |id| present.contains(&id));
            present.extend(more.containers.iter().map(|(id, _)| *id));
            found.parents.extend(more.parents);
            found.containers.extend(more.containers);
        }
        let gone: Vec<ContainerId> = self.containers.keys().filter(|id| !present.contains(id)).copied().collect();
        // Made and gone between two refreshes, and the end of it not told.
        changes.added.retain(|(id, _)| present.contains(id));
        for id in gone {
            self.containers.remove(&id);
            changes.removed.push(id);
        }
        self.merge(found, changes);
        self.walked = Some(now);
    }

    fn merge(&mut self, found: Found, changes: &mut Changes) {
        for parent in &found.parents {
            self.watch_directory(parent);
        }
        for (id, path) in found.containers {
            if self.containers.get(&id) == Some(&path) {
                continue;
            }
            if self.containers.insert(id, path.clone()).is_some() {
                changes.removed.push(id); // The same container in another place: its files have to be opened anew.
            }
            changes.added.push((id, path));
        }
    }

    fn remove_below(&mut self, path: &Path, changes: &mut Changes) {
        let own = path.file_name().and_then(|name| ContainerId::from_cgroup_name(name.as_bytes()));
        let Some(path) = self.roots.iter().find_map(|root| relative(root, path)) else { return };
        if let Some(id) = own.filter(|id| self.containers.get(id) == Some(&path)) {
            self.containers.remove(&id);
            // Made and gone between two refreshes: nobody is to hear of it as new.
            changes.added.retain(|(added, _)| *added != id);
            changes.removed.push(id);
        }
    }

    /// A reader saw that the container's files are gone before any event told so.
    pub fn forget(&mut self, id: ContainerId) {
        self.containers.remove(&id);
    }

    fn watch_directory(&mut self, directory: &Path) {
        let Some(watch) = self.watch.as_mut() else { return };
        match watch.add(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(
                    %error, directory = %directory.display(), watched = watch.len(),
                    "cannot watch a cgroup directory; from now on every scrape walks the tree \
                     (raise fs.inotify.max_user_watches to avoid that)"
                );
                self.watch = None;
            }
            Err(_) | Ok(()) => {}
        }
    }
}

/// The path of a cgroup from the root of its tree, with a leading slash.
fn relative(root: &Path, path: &Path) -> Option<String> {
    Some(format!("/{}", path.strip_prefix(root).ok()?.to_string_lossy()))
}

fn start_watch() -> Option<Watch> {
    Watch::new()
        .inspect_err(|error| {
            warn!(
                %error,
                "cannot use inotify; every scrape walks the cgroup tree (raise fs.inotify.max_user_instances to avoid that)"
            );
        })
        .ok()
}

#[cfg(test)]
mod tests;
