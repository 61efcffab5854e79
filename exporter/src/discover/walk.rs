//! Walks over cgroup directories, with limits on depth and number, and reports the parts that a walk has missed.
//!
//! A walk follows no symbolic links and enters no other file systems.

use std::cell::OnceCell;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tracing::warn;

use super::cgroup;

/// Limits of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Maximum number of levels below the first directory.
    pub(crate) depth: usize,
    /// Maximum number of directories, the first one included.
    pub(crate) directories: usize,
}

/// Limits below one container's cgroup. They are far above what systemd or an engine creates in a container, and low
/// enough that a container with endless cgroups does not slow down a scrape.
pub(crate) const BELOW_CONTAINER: Bounds = Bounds { depth: 32, directories: 1024 };
/// Limits of a walk over the cgroups of a host that are not below containers.
pub(crate) const HOST: Bounds = Bounds { depth: 64, directories: 250_000 };

/// Decision on a visited directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Visit the directories in it.
    Descend,
    /// Do not visit the directories in it.
    Skip,
}

/// Parts of a tree that a walk has missed.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    /// Whether the walk stopped at a limit.
    pub(crate) truncated: bool,
    /// The first existing directory that could not be read, and the error.
    pub(crate) unreadable: Option<(PathBuf, io::Error)>,
    /// Whether the walk ran out of descriptors or memory, so that another walk may see more.
    pub(crate) transient: bool,
}

impl Missed {
    /// Adds the parts that another walk has missed.
    pub(crate) fn add(&mut self, other: Self) {
        self.truncated |= other.truncated;
        self.transient |= other.transient;
        if self.unreadable.is_none() {
            self.unreadable = other.unreadable;
        }
    }

    /// Records the error of a directory, unless the directory has disappeared during the walk.
    fn record(&mut self, directory: &Path, error: &io::Error) {
        let errno = Errno::from_io_error(error);
        self.transient |=
            matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN));
        match errno {
            // The directory has disappeared.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NODEV) => {}
            Some(Errno::NAMETOOLONG) => self.truncated = true,
            _ if self.unreadable.is_none() => {
                let error = errno.map_or_else(|| error.kind().into(), io::Error::from);
                self.unreadable = Some((directory.to_owned(), error));
            }
            _ => {}
        }
    }
}

/// A visited directory.
#[derive(Debug)]
pub(crate) struct Visited<'a> {
    pub(crate) path: &'a Path,
    is_start: bool,
    metadata: OnceCell<io::Result<Metadata>>,
}

impl Visited<'_> {
    /// Returns the metadata of the directory, which is read at most once; none if the directory is gone.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.read_metadata().as_ref().ok().filter(|metadata| metadata.is_dir())
    }

    fn read_metadata(&self) -> &io::Result<Metadata> {
        // The first directory may be a link, as those of joint v1 controllers are.
        let read = || if self.is_start { fs::metadata(self.path) } else { fs::symlink_metadata(self.path) };
        self.metadata.get_or_init(read)
    }
}

/// Visits `directory` and the directories below it, parents before their children.
pub(crate) fn walk(directory: &Path, bounds: Bounds, mut visit: impl FnMut(&Visited<'_>) -> Next) -> Missed {
    let mut missed = Missed::default();
    let mut pending = vec![(directory.to_owned(), 0)];
    let (mut found, mut device) = (1, None);
    while let Some((path, depth)) = pending.pop() {
        let visited = Visited { path: &path, is_start: depth == 0, metadata: OnceCell::new() };
        if visit(&visited) == Next::Skip {
            continue;
        }
        if let Err(error) = visited.read_metadata() {
            missed.record(&path, error);
            continue;
        }
        // Most containers end here: their link count shows that they have no cgroup below them.
        let Some(metadata) = visited.metadata().filter(|metadata| !cgroup::is_leaf(metadata)) else { continue };
        if *device.get_or_insert(metadata.dev()) != metadata.dev() {
            continue;
        }
        if depth == bounds.depth {
            missed.truncated = true;
            continue;
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                missed.record(&path, &error);
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if !entry.file_type().is_ok_and(|kind| kind.is_dir()) => {}
                Ok(_) if found >= bounds.directories => {
                    missed.truncated = true;
                    break;
                }
                Ok(entry) => {
                    found += 1;
                    pending.push((entry.path(), depth + 1));
                }
                Err(error) => {
                    missed.record(&path, &error);
                    break;
                }
            }
        }
    }
    missed
}

/// The parts of the trees that walks have missed since the last report: counted in each refresh, logged once.
#[derive(Debug, Default)]
pub(super) struct MissedLog {
    missed: Missed,
    /// Whether a walk ran out of descriptors or memory, so that the next refresh walks again.
    pub(super) was_transient: bool,
    truncated_logged: bool,
    unreadable_logged: bool,
}

impl MissedLog {
    /// Adds the parts that a walk has missed.
    pub(super) fn add(&mut self, missed: Missed) {
        self.was_transient |= missed.transient;
        self.missed.add(missed);
    }

    /// Returns the reasons for which parts were missed, as label values, and logs each reason the first time.
    /// `truncated` returns the path of a container that has more cgroups below it than a walk visits.
    pub(super) fn report(&mut self, truncated: impl FnOnce() -> String) -> Vec<&'static str> {
        let missed = std::mem::take(&mut self.missed);
        let mut reasons = Vec::new();
        if missed.truncated {
            reasons.push("too_many");
            if !std::mem::replace(&mut self.truncated_logged, true) {
                let Bounds { depth, directories } = BELOW_CONTAINER;
                warn!(
                    container = %truncated(), directories, depth,
                    "a container has more cgroups below it than are read: nested containers in the rest are not exposed, and \
                     their processes are not counted"
                );
            }
        }
        if let Some((directory, error)) = missed.unreadable {
            reasons.push(if error.kind() == io::ErrorKind::PermissionDenied { "denied" } else { "io" });
            if !std::mem::replace(&mut self.unreadable_logged, true) {
                warn!(
                    %error, directory = %directory.display(),
                    "cannot list a cgroup directory: new containers below it are not exposed until it can be listed"
                );
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Bounds, HOST, Missed, Next, walk};

    fn visited(root: &Path, bounds: Bounds) -> (BTreeSet<PathBuf>, Missed) {
        let mut seen = BTreeSet::new();
        let missed = walk(root, bounds, |visited| {
            let path = visited.path;
            assert!(seen.insert(path.strip_prefix(root).unwrap().to_owned()), "{path:?} twice");
            Next::Descend
        });
        (seen, missed)
    }

    #[test]
    fn neither_links_nor_files_are_walked() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("a/loop")).unwrap();
        let (seen, missed) = visited(root.path(), HOST);
        assert_eq!(seen, ["", "a", "a/b"].map(PathBuf::from).into());
        assert!(!missed.truncated && missed.unreadable.is_none());
    }

    #[test]
    fn the_directory_of_the_start_may_be_a_link() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("real/below")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
        assert_eq!(visited(&root.path().join("link"), HOST).0.len(), 2);
    }

    #[test]
    fn depth_and_breadth_are_bounded_and_reported() {
        let root = tempfile::tempdir().unwrap();
        let mut deep = root.path().to_owned();
        for _ in 0..1000 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let (seen, missed) = visited(root.path(), Bounds { depth: 5, directories: 100 });
        assert_eq!((seen.len(), missed.truncated), (6, true));
        let broad = tempfile::tempdir().unwrap();
        for number in 0..50 {
            fs::create_dir(broad.path().join(number.to_string())).unwrap();
        }
        let (seen, missed) = visited(broad.path(), Bounds { depth: 5, directories: 20 });
        assert_eq!((seen.len(), missed.truncated), (20, true));
        let (seen, missed) = visited(broad.path(), Bounds { depth: 5, directories: 51 });
        assert_eq!((seen.len(), missed.truncated), (51, false));
    }

    #[test]
    fn what_is_not_there_is_not_unreadable() {
        let (seen, missed) = visited(Path::new("/does/not/exist"), HOST);
        assert!(seen.len() == 1 && !missed.truncated && missed.unreadable.is_none());
    }

    #[test]
    fn only_a_lack_of_descriptors_or_memory_is_transient() {
        let missed = |errno: rustix::io::Errno| {
            let mut missed = Missed::default();
            missed.record(Path::new("/x"), &errno.into());
            missed
        };
        assert!(missed(rustix::io::Errno::MFILE).transient);
        assert!(!missed(rustix::io::Errno::ACCESS).transient);
        assert!(missed(rustix::io::Errno::ACCESS).unreadable.is_some());
        assert!(missed(rustix::io::Errno::NAMETOOLONG).truncated);
    }
}
