//! Measures the disk usage of one directory tree, as `du` does: the sum of the blocks of all files and directories.
//!
//! The owner of the tree changes it during the walk, possibly with bad intent. The walk therefore opens only directories,
//! each relative to its parent and never through a symbolic link. It leaves out other filesystems and mounts, and entries
//! that vanish count as zero. Each level costs one descriptor and the names of the subdirectories in one buffer, each
//! file with several links one number. All of these are bounded.

use std::collections::HashSet;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags, openat, statx};
use rustix::io::Errno;

use super::protocol::Failure;

/// Bytes of directory entries that are read at a time: about 250 files, which take about a millisecond.
const BUFFER: usize = 8 * 1024;
/// Greatest number of open directories, and thus the greatest depth of a tree.
const MAX_DEPTH: usize = 200;
/// Greatest number of remembered files with several links, half a megabyte. Beyond it each link counts as its share of
/// the file.
const MAX_LINKS: usize = 57_344;
/// Greatest number of counted files and directories, a walk of several hours.
const MAX_ENTRIES: u64 = 20_000_000;

const WANTED: StatxFlags =
    StatxFlags::TYPE.union(StatxFlags::MODE).union(StatxFlags::NLINK).union(StatxFlags::INO).union(StatxFlags::BLOCKS);

/// An unfinished walk.
#[derive(Debug)]
pub(super) struct Walk {
    device: (u32, u32),
    levels: Vec<Level>,
    links: HashSet<u64>,
    max_links: usize,
    bytes: u64,
    entries: u64,
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    /// Subdirectories in the last buffer, which are entered before the next buffer is read.
    subdirectories: Vec<CString>,
    is_read: bool,
}

impl Walk {
    /// Begins a walk at an open directory.
    ///
    /// # Errors
    /// The directory's status cannot be read.
    pub(super) fn begin(root: OwnedFd) -> Result<Self, Failure> {
        let about = stat(&root, c"", AtFlags::EMPTY_PATH).map_err(failure)?;
        let device = device(&about);
        let links = HashSet::new();
        let mut walk = Self { device, levels: Vec::new(), links, max_links: MAX_LINKS, bytes: 0, entries: 0 };
        walk.count(&about)?;
        walk.levels.push(Level { directory: root, subdirectories: Vec::new(), is_read: false });
        Ok(walk)
    }

    /// Enters one directory or reads one buffer. Returns the disk usage in bytes at the end of the walk.
    ///
    /// # Errors
    /// A directory cannot be read, or the tree exceeds a limit, so the sum would be wrong.
    pub(super) fn step(&mut self) -> Result<Option<u64>, Failure> {
        let Some(level) = self.levels.last_mut() else { return Ok(Some(self.bytes)) };
        if let Some(name) = level.subdirectories.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&level.directory, &name, flags, Mode::empty()) {
                Ok(directory) => self.enter(directory)?,
                Err(error) if is_gone(error) => {}
                Err(error) => return Err(failure(error)),
            }
        } else if level.is_read {
            self.levels.pop();
        } else {
            self.read()?;
        }
        Ok(None)
    }

    fn enter(&mut self, directory: OwnedFd) -> Result<(), Failure> {
        let about = stat(&directory, c"", AtFlags::EMPTY_PATH).map_err(failure)?;
        if device(&about) != self.device || about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(());
        }
        if self.levels.len() >= MAX_DEPTH {
            return Err(Failure::TooLarge);
        }
        self.count(&about)?;
        self.levels.push(Level { directory, subdirectories: Vec::new(), is_read: false });
        Ok(())
    }

    /// Reads one buffer of the innermost directory.
    fn read(&mut self) -> Result<(), Failure> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut listing = RawDir::new(level.directory.as_fd(), &mut buffer);
        loop {
            match listing.next() {
                None => level.is_read = true,
                // The directory was removed while it was open.
                Some(Err(error)) if is_gone(error) => level.is_read = true,
                Some(Err(error)) => return Err(failure(error)),
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) if entry.file_type() == FileType::Directory => {
                    level.subdirectories.push(entry.file_name().to_owned());
                }
                Some(Ok(entry)) => match stat(&level.directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    // Some filesystems leave the type of an entry unknown.
                    Ok(about) if FileType::from_raw_mode(about.stx_mode.into()) == FileType::Directory => {
                        level.subdirectories.push(entry.file_name().to_owned());
                    }
                    Ok(about) if device(&about) != self.device => {}
                    Ok(about) => self.count(&about)?,
                    Err(error) if is_gone(error) => {}
                    Err(error) => return Err(failure(error)),
                },
            }
            if level.is_read || listing.is_buffer_empty() {
                break;
            }
        }
        self.levels.push(level);
        Ok(())
    }

    fn count(&mut self, about: &Statx) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Failure::TooLarge);
        }
        let bytes = about.stx_blocks.saturating_mul(512);
        let is_directory = FileType::from_raw_mode(about.stx_mode.into()) == FileType::Directory;
        let counted = if is_directory || about.stx_nlink < 2 {
            bytes
        } else if self.links.contains(&about.stx_ino) {
            0
        } else if self.links.len() < self.max_links {
            self.links.insert(about.stx_ino);
            bytes
        } else {
            // All links to a layer's file are in the layer, so their shares add up to the file.
            bytes / u64::from(about.stx_nlink)
        };
        self.bytes = self.bytes.saturating_add(counted);
        Ok(())
    }
}

fn stat(directory: &OwnedFd, name: &std::ffi::CStr, flags: AtFlags) -> Result<Statx, Errno> {
    statx(directory, name, flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT, WANTED)
}

fn device(about: &Statx) -> (u32, u32) {
    (about.stx_dev_major, about.stx_dev_minor)
}

/// Returns whether an error says that an entry has vanished or has been replaced.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
}

/// Returns the failure that an error is reported as.
pub(super) fn failure(error: Errno) -> Failure {
    match error {
        Errno::ACCESS | Errno::PERM => Failure::Denied,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Failure::NotVisible,
        _ => Failure::Io,
    }
}

#[cfg(test)]
mod tests;
