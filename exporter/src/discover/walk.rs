//! A walk over cgroup directories: iterative, bounded, the same for every tree.
//!
//! Links and mounts of other file systems are not followed. Parts that are not walked are reported.

use std::cell::OnceCell;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::cgroup;

/// Limits of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Maximum number of levels below the first directory.
    pub(crate) depth: usize,
    /// Maximum number of directories, the first one included.
    pub(crate) directories: usize,
}

/// Limits below one container's cgroup: far more than systemd or an engine in a container creates, and low enough that
/// a container with endless cgroups costs others nothing.
pub(crate) const BELOW_CONTAINER: Bounds = Bounds { depth: 32, directories: 1024 };
/// Limits for the rest of a host.
pub(crate) const HOST: Bounds = Bounds { depth: 64, directories: 250_000 };

/// Whether to descend into a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Descend,
    Skip,
}

/// Parts that a walk missed.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    /// Whether a limit ended the walk early.
    pub(crate) truncated: bool,
    /// The first error of an existing directory.
    pub(crate) unreadable: Option<(PathBuf, io::Error)>,
    /// Whether another walk may see more, because descriptors or memory were short.
    pub(crate) transient: bool,
}

impl Missed {
    /// Adds the parts that another walk missed.
    pub(crate) fn add(&mut self, other: Self) {
        self.truncated |= other.truncated;
        self.transient |= other.transient;
        if self.unreadable.is_none() {
            self.unreadable = other.unreadable;
        }
    }

    fn note(&mut self, directory: &Path, error: &io::Error) {
        let errno = Errno::from_io_error(error);
        self.transient |=
            matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN));
        match errno {
            // It has disappeared during the walk.
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
    /// Returns its metadata, read at most once; none if it is gone.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.ask().as_ref().ok().filter(|metadata| metadata.is_dir())
    }

    fn ask(&self) -> &io::Result<Metadata> {
        // The first directory may be a link, as joint controllers of v1 are.
        let ask = || if self.is_start { fs::metadata(self.path) } else { fs::symlink_metadata(self.path) };
        self.metadata.get_or_init(ask)
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
        if let Err(error) = visited.ask() {
            missed.note(&path, error);
            continue;
        }
        // Most containers end here: the link count shows whether any cgroup is below.
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
                missed.note(&path, &error);
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
                    missed.note(&path, &error);
                    break;
                }
            }
        }
    }
    missed
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
            missed.note(Path::new("/x"), &errno.into());
            missed
        };
        assert!(missed(rustix::io::Errno::MFILE).transient);
        assert!(!missed(rustix::io::Errno::ACCESS).transient);
        assert!(missed(rustix::io::Errno::ACCESS).unreadable.is_some());
        assert!(missed(rustix::io::Errno::NAMETOOLONG).truncated);
    }
}
