//! Inotify on cgroup directories, to find new ones without a walk.
//!
//! Directories that hold containers are watched permanently: a few on a Docker host, whatever the number of containers.
//! The directories of containers, and those below them, are each watched for one event: activity below a container
//! costs at most one event per directory and scrape, so that no container can fill the kernel's queue. Their number is
//! limited, because the user's other programs share the kernel's watches.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};

/// Holds some hundred events per read; the kernel keeps the rest.
const BUFFER_BYTES: usize = 16 * 1024;
/// Maximum number of watches on containers, and the share of the kernel's limit that they may take.
const MAX_ON_CONTAINERS: usize = 16_384;
const SHARE_OF_LIMIT: usize = 4;

/// The watched directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    directories: HashMap<i32, PathBuf>,
    /// The path of the container that each watched directory belongs to.
    on_containers: HashMap<i32, Arc<str>>,
    max_on_containers: usize,
}

/// Events below the watched directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// Events in the kernel's order.
    pub(super) events: Vec<Event>,
    /// Paths of containers with an event in or below them; their watches are used up.
    pub(super) touched: HashSet<Arc<str>>,
    /// Whether the kernel dropped events, so that a full walk is needed.
    pub(super) overflow: bool,
    /// Whether a watched directory may have another path now.
    pub(super) moved: bool,
}

/// An event below a directory that holds containers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A directory was created.
    Created(PathBuf),
    /// A directory is gone.
    Removed(PathBuf),
}

impl Watch {
    /// Returns a watch without directories.
    ///
    /// # Errors
    /// The system's error: usually `EMFILE`; a higher `fs.inotify.max_user_instances` helps.
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

    /// Watches another directory that holds containers. Watching it again has no effect.
    ///
    /// # Errors
    /// The system's error: a higher `fs.inotify.max_user_watches` helps against `ENOSPC`; `ENOENT` means that it is
    /// gone already.
    pub(super) fn add(&mut self, directory: &Path) -> io::Result<()> {
        let id = inotify::add_watch(&self.inotify, directory, wanted())?;
        self.directories.insert(id, directory.to_owned());
        Ok(())
    }

    /// Watches a directory in or below the cgroup of `container` for one event. Returns false if it is not watched.
    pub(super) fn add_once(&mut self, container: &Arc<str>, directory: &Path) -> bool {
        if self.on_containers.len() >= self.max_on_containers {
            return false;
        }
        let added = inotify::add_watch(&self.inotify, directory, wanted() | WatchFlags::ONESHOT);
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
    /// The system's error, for an unusable descriptor.
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
                    None => translate(&self.directories, &event, &mut happened),
                },
                Err(rustix::io::Errno::AGAIN) => return Ok(happened),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn wanted() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        // A cgroup of v1 can be renamed.
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW
}

fn translate(directories: &HashMap<i32, PathBuf>, event: &inotify::Event<'_>, happened: &mut Happened) {
    let flags = event.events();
    happened.overflow |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
    if !flags.contains(ReadFlags::ISDIR) {
        return;
    }
    happened.moved |= flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO);
    let Some((parent, name)) = directories.get(&event.wd()).zip(event.file_name()) else { return };
    let path = parent.join(OsStr::from_bytes(name.to_bytes()));
    let made = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
    happened.events.push(if made { Event::Created(path) } else { Event::Removed(path) });
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
