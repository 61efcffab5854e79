//! The messages between the exporter and the walker: datagrams, whose boundaries the kernel preserves.
//!
//! Neither end trusts the other. A value that is too long, too short, unknown or not an absolute path invalidates the
//! whole message.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Greatest length of a message in bytes.
pub(super) const MAX_MESSAGE: usize = 32 * 1024;
/// Greatest number of paths of a request: a layer and the directories of logs.
const MAX_PATHS: usize = 4;
/// Greatest length of a path in bytes.
const MAX_PATH: usize = 4096;

/// A request to measure the directories of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number that the answer repeats.
    pub ticket: u64,
    /// Whether these directories have no figure yet. Such requests are served first.
    pub is_first: bool,
    /// Directories by their paths on the host. The first one must exist; the others count as zero if they do not.
    pub paths: Vec<PathBuf>,
}

/// Why a measurement failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Failure {
    /// The directory is below no data root that the walker sees.
    NotVisible = 1,
    /// The walker may not list a directory.
    Denied,
    /// The tree has more files or levels than the walker's limits.
    TooLarge,
    /// A system call returned another error.
    Io,
    /// Too many requests wait.
    Busy,
}

impl Failure {
    const ALL: [Self; 5] = [Self::NotVisible, Self::Denied, Self::TooLarge, Self::Io, Self::Busy];

    /// Returns the value of the `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotVisible => "not_visible",
            Self::Denied => "denied",
            Self::TooLarge => "too_large",
            Self::Io => "io",
            Self::Busy => "busy",
        }
    }
}

/// A message of the walker to the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker has started. Unanswered requests of the previous worker are lost.
    Began {
        /// Process id of the worker.
        pid: u32,
        /// Whether the worker may list directories of any user.
        lists_all: bool,
        /// Whether Landlock is in force.
        landlock: bool,
        /// Whether the seccomp filter is in force.
        seccomp: bool,
        /// Number of data roots that the worker sees.
        roots: u8,
    },
    /// The answer to a request.
    Measured {
        /// The request's ticket.
        ticket: u64,
        /// Disk usage in bytes, in total over the paths of the request.
        bytes: Result<u64, Failure>,
    },
}

/// Encodes as many requests as fit into one message. Returns the message and the number of requests it covers, which
/// includes the skipped invalid ones.
#[must_use]
pub fn encode_requests(requests: &[Request]) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    let mut count = 0;
    for request in requests {
        // Checked before the length: a request longer than any message would otherwise stay at the front for ever.
        if !are_valid(&request.paths) {
            count += 1;
            continue;
        }
        let length = 10 + request.paths.iter().map(|path| 2 + path.as_os_str().len()).sum::<usize>();
        if message.len() + length > MAX_MESSAGE {
            break;
        }
        count += 1;
        message.extend(request.ticket.to_le_bytes());
        message.push(request.is_first.into());
        message.extend(u8::try_from(request.paths.len()));
        for path in &request.paths {
            let bytes = path.as_os_str().as_bytes();
            message.extend(u16::try_from(bytes.len()).unwrap_or_default().to_le_bytes());
            message.extend(bytes);
        }
    }
    (message, count)
}

/// Returns whether a request for these paths is valid. Invalid requests are never answered.
#[must_use]
pub fn are_valid(paths: &[PathBuf]) -> bool {
    let is_path = |path: &PathBuf| path.as_os_str().len() <= MAX_PATH && is_plain(path);
    (1..=MAX_PATHS).contains(&paths.len()) && paths.iter().all(is_path)
}

/// Returns whether a path is absolute and has no `.` or `..` components.
fn is_plain(path: &Path) -> bool {
    let is_step = |component| matches!(component, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(is_step) && !path.as_os_str().as_bytes().contains(&0)
}

/// Returns the requests of a message, or `None` if any part of it is invalid.
pub(super) fn decode_requests(message: &[u8]) -> Option<Vec<Request>> {
    let mut requests = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (ticket, after) = rest.split_first_chunk::<8>()?;
        let ([is_first @ 0..=1, count], mut after) = after.split_first_chunk::<2>()? else { return None };
        let mut paths = Vec::new();
        for _ in 0..*count {
            let (length, path) = after.split_first_chunk::<2>()?;
            let (path, behind) = path.split_at_checked(u16::from_le_bytes(*length).into())?;
            paths.push(PathBuf::from(OsStr::from_bytes(path)));
            after = behind;
        }
        let request = Request { ticket: u64::from_le_bytes(*ticket), is_first: *is_first == 1, paths };
        requests.push(Some(request).filter(|request| are_valid(&request.paths))?);
        rest = after;
    }
    Some(requests)
}

/// Length of an encoded event: kind (1 byte), code (1), ticket or process id (8), bytes or number of roots (8).
const EVENT: usize = 18;
const BEGAN: u8 = 0;
const MEASURED: u8 = 1;

/// Encodes as many events as fit into one message. Returns the message and the number of its events.
pub(super) fn encode_events<'e>(events: impl Iterator<Item = &'e Event>) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    let mut count = 0;
    for event in events.take(MAX_MESSAGE / EVENT) {
        let (kind, code, first, second) = match *event {
            Event::Began { pid, lists_all, landlock, seccomp, roots } => {
                let code = u8::from(lists_all) | u8::from(landlock) << 1 | u8::from(seccomp) << 2;
                (BEGAN, code, pid.into(), roots.into())
            }
            Event::Measured { ticket, bytes: Ok(bytes) } => (MEASURED, 0, ticket, bytes),
            Event::Measured { ticket, bytes: Err(failure) } => (MEASURED, failure as u8, ticket, 0),
        };
        message.extend([kind, code]);
        message.extend(first.to_le_bytes());
        message.extend(second.to_le_bytes());
        count += 1;
    }
    (message, count)
}

/// Returns the events of a message, or `None` if any part of it is invalid.
pub(super) fn decode_events(message: &[u8]) -> Option<Vec<Event>> {
    let (events, rest) = message.as_chunks::<EVENT>();
    rest.is_empty().then_some(())?;
    events.iter().map(decode_event).collect()
}

fn decode_event(event: &[u8; EVENT]) -> Option<Event> {
    let ([kind, code], rest) = event.split_first_chunk::<2>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let [first, second] = [*first, *rest.first_chunk::<8>()?].map(u64::from_le_bytes);
    match (*kind, *code) {
        (BEGAN, 0..=7) => Some(Event::Began {
            pid: first.try_into().ok()?,
            lists_all: code & 1 != 0,
            landlock: code & 2 != 0,
            seccomp: code & 4 != 0,
            roots: second.try_into().ok()?,
        }),
        (MEASURED, 0) => Some(Event::Measured { ticket: first, bytes: Ok(second) }),
        (MEASURED, code) => {
            let failure = Failure::ALL.into_iter().find(|failure| *failure as u8 == code)?;
            Some(Event::Measured { ticket: first, bytes: Err(failure) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Failure, Request, decode_events, decode_requests, encode_events, encode_requests};

    fn request(ticket: u64, paths: &[&str]) -> Request {
        Request { ticket, is_first: ticket == 1, paths: paths.iter().map(Into::into).collect() }
    }

    #[test]
    fn what_is_sent_is_received() {
        let requests = vec![request(1, &["/var/lib/docker/overlay2/ab/diff", "/a"]), request(u64::MAX, &["/x\u{e9}"])];
        let (message, count) = encode_requests(&requests);
        assert_eq!((count, decode_requests(&message)), (2, Some(requests)));
        let events = vec![
            Event::Began { pid: 7, lists_all: true, landlock: false, seccomp: true, roots: 3 },
            Event::Measured { ticket: 9, bytes: Ok(u64::MAX) },
            Event::Measured { ticket: 9, bytes: Err(Failure::Denied) },
        ];
        let (message, count) = encode_events(events.iter());
        assert_eq!((count, decode_events(&message)), (3, Some(events)));
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_neither_sent_nor_taken() {
        for path in ["", "relative", "/a/../b", "/..", "/a\0b"] {
            assert_eq!(encode_requests(&[request(2, &[path])]), (Vec::new(), 1), "{path:?}");
            let mut message = [2, 0, 0, 0, 0, 0, 0, 0, 0, 1].to_vec();
            message.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
            message.extend(path.as_bytes());
            assert_eq!(decode_requests(&message), None, "{path:?}");
        }
        assert_eq!(encode_requests(&[request(2, &[])]), (Vec::new(), 1));
        assert_eq!(encode_requests(&[request(2, &["/a"; 5])]), (Vec::new(), 1));
    }

    #[test]
    fn a_request_that_fits_into_no_message_is_passed_over() {
        let long = format!("/{}", "x".repeat(super::MAX_MESSAGE));
        let requests = [request(1, &["/a"]), request(2, &[&long]), request(3, &["/b"])];
        let (message, count) = encode_requests(&requests);
        let tickets: Vec<u64> = decode_requests(&message).unwrap().iter().map(|request| request.ticket).collect();
        assert_eq!((count, tickets), (3, vec![1, 3]));
        // The longest that is valid fits.
        let longest = format!("/{}", "x".repeat(super::MAX_PATH - 1));
        let (message, count) = encode_requests(&[request(1, &[&*longest; super::MAX_PATHS])]);
        assert_eq!((count, decode_requests(&message).unwrap().len()), (1, 1));
    }

    #[test]
    fn no_message_of_random_bytes_is_more_than_void() {
        let (valid, _) = encode_requests(&[request(1, &["/a/b"])]);
        let (events, _) = encode_events([Event::Measured { ticket: 1, bytes: Ok(2) }].iter());
        for length in 0..valid.len() {
            assert_eq!(decode_requests(&valid[..length]).is_some(), length == 0);
        }
        for length in 1..events.len() {
            assert_eq!(decode_events(&events[..length]), None);
        }
        let mut unknown = events.clone();
        unknown[1] = 99;
        assert_eq!(decode_events(&unknown), None);
    }

    #[test]
    fn a_message_holds_as_many_requests_as_fit() {
        let requests: Vec<_> = (0..1000).map(|ticket| request(ticket, &[&format!("/{}", "x".repeat(90))])).collect();
        let (message, count) = encode_requests(&requests);
        assert!(message.len() <= super::MAX_MESSAGE && count > 300 && count < 1000, "{count}");
        assert_eq!(decode_requests(&message).unwrap().len(), count);
    }
}
