//! Watches cgroup directories with inotify, so that new cgroups are found without a walk.
//!
//! Directories that hold containers are watched permanently. A Docker host has a few of them, however many containers
//! it has. Directories of containers, and those below them, are watched for one event at a time: a container causes at
//! most one event per directory and scrape, and cannot fill the queue of the kernel. The number of these watches is
//! limited, because all programs of a user share the limit of the kernel.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};

/// Size of the buffer, which holds some hundred events. The kernel keeps the others for the next read.
const BUFFER_BYTES: usize = 16 * 1024;
/// Maximum number of watches on containers.
const MAX_ON_CONTAINERS: usize = 16_384;
/// Watches on containers may take this part of the kernel's limit: a quarter.
const SHARE_OF_LIMIT: usize = 4;

/// The watched directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    /// Directories that hold containers, by the number of the watch.
    directories: HashMap<i32, PathBuf>,
    /// The path of the container that each directory belongs to, by the number of the watch.
    on_containers: HashMap<i32, Arc<str>>,
    max_on_containers: usize,
}

/// The events of one read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// Directories created and removed, in the order of the events.
    pub(super) events: Vec<Event>,
    /// Paths of containers with an event in or below them, whose watches have ended with that event.
    pub(super) touched: HashSet<Arc<str>>,
    /// Whether the kernel has dropped events, so that a full walk is needed.
    pub(super) overflow: bool,
    /// Whether a watched directory may have another path now.
    pub(super) moved: bool,
}

/// An event in a directory that holds containers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A directory was created.
    Created(PathBuf),
    /// A directory was removed.
    Removed(PathBuf),
}

impl Watch {
    /// Returns a watch without directories.
    ///
    /// # Errors
    /// The error of the system. Against `EMFILE`, the usual one, a higher `fs.inotify.max_user_instances` helps.
    pub(super) fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
        let limit = limit.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(usize::MAX);
        Ok(Self {
            inotify: inotify::init(flags)?,
            directories: HashMap::new(),
            on_containers: HashMap::new(),
            max_on_containers: MAX_ON_CONTAINERS.min(limit / SHARE_OF_LIMIT),
        })
    }

    /// Watches a directory that holds containers. Watching it again has no effect.
    ///
    /// # Errors
    /// The error of the system. Against `ENOSPC` a higher `fs.inotify.max_user_watches` helps; `ENOENT` means that the
    /// directory is gone already.
    pub(super) fn add(&mut self, directory: &Path) -> io::Result<()> {
        let id = inotify::add_watch(&self.inotify, directory, watched_events())?;
        self.directories.insert(id, directory.to_owned());
        Ok(())
    }

    /// Watches a directory in or below the cgroup of `container` for one event. Returns whether the directory is
    /// watched.
    pub(super) fn add_once(&mut self, container: &Arc<str>, directory: &Path) -> bool {
        if self.on_containers.len() >= self.max_on_containers {
            return false;
        }
        let added = inotify::add_watch(&self.inotify, directory, watched_events() | WatchFlags::ONESHOT);
        let Ok(id) = added else { return false };
        self.on_containers.insert(id, Arc::clone(container));
        true
    }

    #[cfg(test)]
    pub(super) fn limit_on_containers(&mut self, limit: usize) {
        self.max_on_containers = limit;
    }

    /// Returns the number of watched directories.
    pub(super) fn len(&self) -> usize {
        self.directories.len() + self.on_containers.len()
    }

    /// Returns all events since the last call, without waiting.
    ///
    /// # Errors
    /// The error of the system for a descriptor that cannot be read.
    pub(super) fn drain(&mut self) -> io::Result<Happened> {
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut happened = Happened::default();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    self.directories.remove(&event.wd());
                    self.on_containers.remove(&event.wd());
                }
                Ok(event) => match self.on_containers.get(&event.wd()) {
                    Some(container) => _ = happened.touched.insert(Arc::clone(container)),
                    None => add_event(&self.directories, &event, &mut happened),
                },
                Err(rustix::io::Errno::AGAIN) => return Ok(happened),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns the events to watch for.
fn watched_events() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        // v1 lets cgroups be renamed.
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW
}

/// Adds an event of inotify to those that have happened.
fn add_event(directories: &HashMap<i32, PathBuf>, event: &inotify::Event<'_>, happened: &mut Happened) {
    let flags = event.events();
    happened.overflow |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
    if !flags.contains(ReadFlags::ISDIR) {
        return;
    }
    happened.moved |= flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO);
    let Some((parent, name)) = directories.get(&event.wd()).zip(event.file_name()) else { return };
    let path = parent.join(OsStr::from_bytes(name.to_bytes()));
    let is_created = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
    happened.events.push(if is_created { Event::Created(path) } else { Event::Removed(path) });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::{Event, Watch};

    #[test]
    fn a_directory_that_comes_and_goes_is_told_in_order() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.add(root.path()).unwrap();
        let child = root.path().join("child");
        fs::create_dir(&child).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        fs::remove_dir(&child).unwrap();
        let happened = watch.drain().unwrap();
        assert_eq!(happened.events, [Event::Created(child.clone()), Event::Removed(child)]);
        assert!(!happened.moved && !happened.overflow);
        assert!(watch.drain().unwrap().events.is_empty());
    }

    #[test]
    fn a_renamed_directory_is_reported_as_moved() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("before")).unwrap();
        let mut watch = Watch::new().unwrap();
        watch.add(root.path()).unwrap();
        fs::rename(root.path().join("before"), root.path().join("after")).unwrap();
        let happened = watch.drain().unwrap();
        assert!(happened.moved);
        let paths = ["before", "after"].map(|name| root.path().join(name));
        assert_eq!(happened.events, [Event::Removed(paths[0].clone()), Event::Created(paths[1].clone())]);
    }

    #[test]
    fn a_watched_directory_that_goes_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let child = root.path().join("child");
        fs::create_dir(&child).unwrap();
        let mut watch = Watch::new().unwrap();
        watch.add(&child).unwrap();
        assert!(watch.add_once(&Arc::from("/child"), &child));
        fs::remove_dir(&child).unwrap();
        watch.drain().unwrap();
        assert_eq!(watch.len(), 0);
    }

    #[test]
    fn a_flood_below_a_container_is_one_event() {
        let root = tempfile::tempdir().unwrap();
        let container: Arc<str> = Arc::from("/container");
        let mut watch = Watch::new().unwrap();
        assert!(watch.add_once(&container, root.path()));
        for number in 0..1000 {
            fs::create_dir(root.path().join(number.to_string())).unwrap();
        }
        let happened = watch.drain().unwrap();
        assert_eq!((happened.touched.len(), happened.events.len()), (1, 0));
        assert_eq!(watch.len(), 0, "the watch is used up");
        assert!(watch.add_once(&container, root.path()), "and can be renewed");
        watch.limit_on_containers(1);
        assert!(!watch.add_once(&container, &root.path().join("1")), "within bounds");
    }
}
