//! Reads whole kernel files into one reused buffer, and keeps them open.
//!
//! On a live host a file is opened once and then read with `pread`, at a third of the cost of opening it each time. Near the
//! descriptor limit further files are opened, read and closed each time. So are all files of a captured tree, because plain files
//! may be replaced between two readings.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::metrics::SelfMetrics;

/// Number of descriptors for everything else: connections, inotify, the engine's socket.
const RESERVED_DESCRIPTORS: u64 = 1024;
/// Initial size of the buffer. Nearly every file is smaller.
const BUFFER_BYTES: usize = 16 * 1024;
/// Maximum size of a file. The kernel files that are read are far smaller.
const MAX_BYTES: usize = 4 * 1024 * 1024;
const PAGE: usize = 4096;
/// Maximum length of a record in the files that are read. A `seq_file` of many records returns at most a page at a time and does not
/// split a record, so that a first read of fewer bytes than this has returned the whole file.
const MAX_RECORD: usize = 2048;

/// Result of reading a file.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Its whole text.
    Text(&'a [u8]),
    /// This cgroup does not have it, or the kernel does not support it.
    Absent,
    /// It was there before and is not any more, because its container has ended.
    Vanished,
    /// It could not be read.
    Failed(io::Error),
}

/// State of one file of one container between two readings.
#[derive(Debug, Default)]
pub enum FileState {
    /// Not tried yet.
    #[default]
    New,
    /// Kept open.
    Open(OpenFile),
    /// Opened for each reading.
    Reopened,
    /// Absent, and not tried again until [`FileState::retry`].
    Absent,
}

impl FileState {
    /// Makes the next read try an absent file again.
    pub fn retry(&mut self) {
        if matches!(self, Self::Absent) {
            *self = Self::New;
        }
    }

    /// Closes a file that is not needed for now.
    pub fn close(&mut self) {
        if matches!(self, Self::Open(_)) {
            *self = Self::New;
        }
    }
}

/// A file that stays open, with the permit to hold its descriptor.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    _permit: FdPermit,
}

/// Permission to hold one descriptor open. Dropping it gives the permission back.
#[derive(Debug)]
pub(crate) struct FdPermit(Arc<AtomicU64>);

impl Drop for FdPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads files. It has the buffer, and counts the descriptors that are held open.
#[derive(Debug)]
pub struct Files {
    buffer: Vec<u8>,
    /// Whether files are kept open at all.
    may_hold: bool,
    held: Arc<AtomicU64>,
    /// Maximum number of held descriptors.
    limit: u64,
    /// Whether it was logged that the limit is reached.
    logged: bool,
}

impl Files {
    /// Raises the descriptor limit of the process to the hard limit. Files are kept open if `may_hold`.
    #[must_use]
    pub fn new(may_hold: bool) -> Self {
        let limit = raise_limit().saturating_sub(RESERVED_DESCRIPTORS);
        Self { buffer: vec![0; BUFFER_BYTES], may_hold, held: Arc::default(), limit, logged: false }
    }

    /// Returns the maximum and the current number of held descriptors.
    #[must_use]
    pub fn descriptors(&self) -> (u64, u64) {
        (self.limit, self.held.load(Ordering::Relaxed))
    }

    /// Reads a file through its state.
    pub fn read(&mut self, state: &mut FileState, path: &Path) -> Outcome<'_> {
        if let FileState::Open(held) = state {
            return self.read_held(held);
        }
        if matches!(state, FileState::Absent) {
            return Outcome::Absent;
        }
        self.open_and_read(state, path)
    }

    /// Reads an open file.
    pub fn read_held(&mut self, held: &OpenFile) -> Outcome<'_> {
        match fill(&held.file, &mut self.buffer) {
            Ok(length) => Outcome::Text(self.buffer.get(..length).unwrap_or_default()),
            Err(error) => classify(error, true),
        }
    }

    /// Returns the whole text of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn read_open(&mut self, file: &File) -> io::Result<&[u8]> {
        let length = fill(file, &mut self.buffer)?;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }

    /// Opens a file, reads it and closes it.
    pub fn read_once(&mut self, path: &Path) -> Outcome<'_> {
        match File::open(path).and_then(|file| fill(&file, &mut self.buffer)) {
            Ok(length) => Outcome::Text(self.buffer.get(..length).unwrap_or_default()),
            Err(error) => classify(error, false),
        }
    }

    /// Reads the first page of a file. It ends with a whole record.
    pub(crate) fn read_first(&mut self, path: &Path) -> Outcome<'_> {
        let room = self.buffer.get_mut(..PAGE).unwrap_or_default();
        match File::open(path).and_then(|file| file.read_at(room, 0)) {
            Ok(length) => Outcome::Text(self.buffer.get(..length).unwrap_or_default()),
            Err(error) => classify(error, false),
        }
    }

    fn open_and_read(&mut self, state: &mut FileState, path: &Path) -> Outcome<'_> {
        let known = matches!(state, FileState::Reopened);
        let read = File::open(path).and_then(|file| Ok((fill(&file, &mut self.buffer)?, file)));
        match read {
            Ok((length, file)) => {
                *state = match self.permit() {
                    Some(permit) => FileState::Open(OpenFile { file, _permit: permit }),
                    None => FileState::Reopened,
                };
                Outcome::Text(self.buffer.get(..length).unwrap_or_default())
            }
            Err(error) => {
                let outcome = classify(error, known);
                if matches!(outcome, Outcome::Absent) {
                    *state = FileState::Absent;
                }
                outcome
            }
        }
    }

    /// Returns whether more descriptors may be held.
    pub(crate) fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.limit
    }

    /// Returns a permit to hold one more descriptor. None at the limit, which is logged once.
    pub(crate) fn permit(&mut self) -> Option<FdPermit> {
        let room = self.has_room();
        if self.may_hold && !room && !self.logged {
            self.logged = true;
            warn!(
                limit = self.limit,
                "the descriptor limit is reached: further containers' files are opened for each scrape, which costs three times \
                 as much (raise it: --ulimit nofile=1048576, or LimitNOFILE= for a service)"
            );
        }
        (self.may_hold && room).then(|| {
            self.held.fetch_add(1, Ordering::Relaxed);
            FdPermit(Arc::clone(&self.held))
        })
    }
}

/// Returns the outcome of a failed reading. If the file is `known` from an earlier reading, its absence means that its container
/// has ended.
fn classify(error: io::Error, known: bool) -> Outcome<'static> {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::SRCH) if known => Outcome::Vanished,
        Some(Errno::NOENT | Errno::NODEV | Errno::SRCH | Errno::NOTDIR | Errno::OPNOTSUPP) => Outcome::Absent,
        _ => Outcome::Failed(error),
    }
}

/// Reads a file from start to end into the buffer, and doubles the buffer if it is full. Returns the length of the text.
fn fill(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let room = buffer.get_mut(length..).unwrap_or_default();
        let read = match file.read_at(room, length as u64) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += read;
        if read == 0 || (length == read && read < MAX_RECORD) {
            return Ok(length);
        }
        if length == buffer.len() {
            if length >= MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 4 MiB of text"));
            }
            buffer.resize(length * 2, 0);
        }
    }
}

/// Raises the soft limit of descriptors to the hard limit. Returns the limit.
fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let hard = before.maximum;
    if before.current != hard {
        let raised = Rlimit { current: hard, maximum: hard };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => info!(from = before.current, to = hard, "raised the limit of open files"),
            Err(error) => warn!(%error, limit = before.current, "cannot raise the limit of open files"),
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Counts the malformed lines or values of a file.
pub(crate) fn count_malformed(file: &str, malformed: u64, self_metrics: &SelfMetrics) {
    (0..malformed).for_each(|_| self_metrics.count_read_error(file, "malformed"));
}

/// Returns the label value under which a failure is counted.
pub(crate) fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "denied",
        io::ErrorKind::FileTooLarge => "too_large",
        _ => "io",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FileState, Files, Outcome};

    fn text(outcome: &Outcome<'_>) -> String {
        match outcome {
            Outcome::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_open_file_shows_what_is_in_it_now() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.current");
        let mut files = Files::new(true);
        let mut handle = FileState::New;
        for value in ["1\n", "23\n", "4\n"] {
            fs::write(&path, value).unwrap();
            assert_eq!(text(&files.read(&mut handle, &path)), value);
        }
        assert!(matches!(handle, FileState::Open(_)));
        assert_eq!(files.descriptors().1, 1);
        drop(handle);
        assert_eq!(files.descriptors().1, 0);
    }

    #[test]
    fn a_text_larger_than_the_buffer_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cgroup.procs");
        let long = "123456\n".repeat(30_000);
        fs::write(&path, &long).unwrap();
        let mut files = Files::new(true);
        assert_eq!(text(&files.read_once(&path)).len(), long.len());
    }

    #[test]
    fn an_absent_file_is_not_tried_until_retry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.peak");
        let mut files = Files::new(true);
        let mut handle = FileState::New;
        assert!(matches!(files.read(&mut handle, &path), Outcome::Absent));
        fs::write(&path, "1\n").unwrap();
        assert!(matches!(files.read(&mut handle, &path), Outcome::Absent));
        handle.retry();
        assert_eq!(text(&files.read(&mut handle, &path)), "1\n");
    }

    #[test]
    fn what_was_there_and_is_not_has_vanished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.current");
        fs::write(&path, "1\n").unwrap();
        let mut files = Files::new(false);
        let mut handle = FileState::New;
        files.read(&mut handle, &path);
        fs::remove_file(&path).unwrap();
        assert!(matches!(files.read(&mut handle, &path), Outcome::Vanished));
    }

    #[test]
    fn a_directory_in_a_file_s_place_is_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::new(true);
        assert!(matches!(files.read(&mut FileState::New, directory.path()), Outcome::Failed(_)));
    }

    #[test]
    fn beyond_the_limit_files_are_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pids.current");
        fs::write(&path, "1\n").unwrap();
        let mut files = Files { limit: 1, ..Files::new(true) };
        let (mut first, mut second) = (FileState::New, FileState::New);
        files.read(&mut first, &path);
        files.read(&mut second, &path);
        assert!(matches!((&first, &second), (FileState::Open(_), FileState::Reopened)));
        assert_eq!(text(&files.read(&mut second, &path)), "1\n");
    }
}
