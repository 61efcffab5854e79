//! Inotify on the directories that hold containers, so that a new one is found without a walk.
//!
//! One watch per directory that is not a container's own: a few on a Docker host, whatever the number of containers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

/// Room for some hundred events per read; the kernel keeps what does not fit.
const BUFFER_BYTES: usize = 16 * 1024;

/// The watched directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    directories: HashMap<i32, PathBuf>,
}

/// What happened below a watched directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A directory was made.
    Created(PathBuf),
    /// A directory is gone.
    Removed(PathBuf),
    /// The kernel dropped events: only a walk tells what happened.
    Overflow,
}

impl Watch {
    /// A watch on nothing yet.
    ///
    /// # Errors
    /// The system's: most often `EMFILE`, cured by raising `fs.inotify.max_user_instances`.
    pub(super) fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        Ok(Self { inotify: inotify::init(flags)?, directories: HashMap::new() })
    }

    /// Watches one more directory. Watching it twice is the same as once.
    ///
    /// # Errors
    /// The system's: `ENOSPC` is cured by raising `fs.inotify.max_user_watches`, `ENOENT` means it is gone already.
    pub(super) fn add(&mut self, directory: &Path) -> io::Result<()> {
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR
            | inotify::WatchFlags::DONT_FOLLOW;
        let id = inotify::add_watch(&self.inotify, directory, flags)?;
        self.directories.insert(id, directory.to_owned());
        Ok(())
    }

    /// Number of directories watched.
    pub(super) fn len(&self) -> usize {
        self.directories.len()
    }

    /// Everything that happened since the last call, without waiting.
    ///
    /// # Errors
    /// The system's, for a descriptor that is no longer usable.
    pub(super) fn drain(&mut self) -> io::Result<Vec<Event>> {
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    if event.events().contains(inotify::ReadFlags::IGNORED) {
                        self.directories.remove(&event.wd());
                    } else {
                        events.extend(translate(&self.directories, &event));
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(events),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn translate(directories: &HashMap<i32, PathBuf>, event: &inotify::Event<'_>) -> Option<Event> {
    let flags = event.events();
    if flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
        return Some(Event::Overflow);
    }
    if !flags.contains(inotify::ReadFlags::ISDIR) {
        return None;
    }
    let name = event.file_name()?;
    let path = directories.get(&event.wd())?.join(OsStr::from_bytes(name.to_bytes()));
    if flags.contains(inotify::ReadFlags::CREATE) { Some(Event::Created(path)) } else { Some(Event::Removed(path)) }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert_eq!(watch.drain().unwrap(), [Event::Created(child.clone()), Event::Removed(child)]);
        assert!(watch.drain().unwrap().is_empty());
    }

    #[test]
    fn a_watched_directory_that_goes_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let child = root.path().join("child");
        fs::create_dir(&child).unwrap();
        let mut watch = Watch::new().unwrap();
        watch.add(&child).unwrap();
        fs::remove_dir(&child).unwrap();
        watch.drain().unwrap();
        assert_eq!(watch.len(), 0);
    }
}
