//! Reads the files of a configuration, and detects changes of them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use rustix::fs::OFlags;

/// Maximum size of a file in bytes. No configuration, key or bundle of certificates is larger.
const MAX_FILE: u64 = 4 << 20;
/// Time after a write in which another write may leave the file's times unchanged.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The files that were read, with their state at that time.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// SHA-256 of the content; none if the file could not be read.
    content: Option<[u8; 32]>,
    /// Whether the times show every later write.
    is_settled: bool,
}

/// The metadata that changes with a file: device, inode, size, and the times of its content and its inode in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([i128; 5]);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self([
            file.dev().into(),
            file.ino().into(),
            file.size().into(),
            time(file.mtime(), file.mtime_nsec()),
            time(file.ctime(), file.ctime_nsec()),
        ])
    }

    /// Returns whether the last write is more than [`UNSETTLED`] ago.
    fn is_settled(self) -> bool {
        let Self([.., content, inode]) = self;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - content.max(inode);
        age > i128::try_from(UNSETTLED.as_nanos()).unwrap_or(0)
    }
}

impl Files {
    /// Reads a file and remembers its state, also on an error.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let (seen, content) = Seen::read(path.to_owned());
        if !self.0.iter().any(|other| other.path == seen.path) {
            self.0.push(seen);
        }
        content
    }

    /// Returns whether the content of a file has changed since it was read.
    pub(super) fn have_changed(&mut self) -> bool {
        self.0.iter_mut().any(Seen::has_changed)
    }

    /// Returns the directories of all files, as named and with links resolved.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for seen in &self.0 {
            let resolved = fs::canonicalize(&seen.path).ok();
            for path in [Some(seen.path.as_path()), resolved.as_deref()].into_iter().flatten() {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                if !directories.iter().any(|known| known == parent) {
                    directories.push(parent.to_owned());
                }
            }
        }
        directories
    }
}

impl Seen {
    fn read(path: PathBuf) -> (Self, io::Result<Vec<u8>>) {
        let (stamp, content) = match open(&path) {
            Ok((mut file, stamp)) => (Some(stamp), whole(&mut file)),
            Err(error) => (None, Err(error)),
        };
        let digested = content.as_deref().ok().map(sha256);
        let is_settled = stamp.is_none_or(Stamp::is_settled);
        (Self { path, stamp, content: digested, is_settled }, content)
    }

    fn has_changed(&mut self) -> bool {
        let stamp = fs::metadata(&self.path).ok().map(|file| Stamp::of(&file));
        if stamp == self.stamp && self.is_settled {
            return false;
        }
        let (now, _) = Self::read(std::mem::take(&mut self.path));
        let is_other = now.content != self.content;
        *self = now;
        is_other
    }
}

/// Opens a file. Does not wait for a writer if the path is a FIFO.
fn open(path: &Path) -> io::Result<(File, Stamp)> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    Ok((file, stamp))
}

/// Reads the whole file.
fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Returns the SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// Returns the error text for a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    };
    format!("{} cannot be read: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_whatever_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut files = Files::default();
        assert_eq!(files.read(&path).unwrap(), b"one");
        assert!(!files.have_changed());
        // The size stays the same, and so may the times, which most filesystems count in ticks.
        fs::write(&path, "two").unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
        fs::rename(&path, directory.path().join("other")).unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(files.have_changed());
        assert!(!files.have_changed());
    }

    #[test]
    fn the_directories_of_a_link_are_its_own_and_its_target_s() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["live", "archive"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("archive/key1"), "key").unwrap();
        std::os::unix::fs::symlink("../archive/key1", root.join("live/key")).unwrap();
        let mut files = Files::default();
        files.read(&root.join("live/key")).unwrap();
        assert_eq!(files.directories(), [root.join("live"), root.join("archive")]);
    }
}
