//! The messages between exporter and walker, in datagrams of which the kernel keeps the bounds.
//!
//! Neither end trusts the other: what is too long, too short, no absolute path or an unknown word makes the whole message void.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Greatest length of a message.
pub(super) const MAX_MESSAGE: usize = 32 * 1024;
/// Greatest number of paths of a request: a layer, and directories of logs.
const MAX_PATHS: usize = 4;
/// Greatest length of a path.
const MAX_PATH: usize = 4096;

/// What is to be summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number that the answer is to bear.
    pub ticket: u64,
    /// Whether nothing is known of it yet: such walks come first.
    pub is_first: bool,
    /// Directories, as the host names them. The first one must be there; the others count for nothing where they are not.
    pub paths: Vec<PathBuf>,
}

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Failure {
    /// It is below no data root that the walker sees.
    NotVisible = 1,
    /// A directory may not be listed.
    Denied,
    /// There are more files or levels than are walked.
    TooLarge,
    /// The system said something else.
    Io,
    /// The walker has too much to do.
    Busy,
}

impl Failure {
    const ALL: [Self; 5] = [Self::NotVisible, Self::Denied, Self::TooLarge, Self::Io, Self::Busy];

    /// For the `reason` label.
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

/// What the walker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker has begun. Requests that were not answered before are lost.
    Began {
        /// Its process id.
        pid: u32,
        /// Whether it may list directories of any user.
        lists_all: bool,
        /// Whether Landlock holds.
        landlock: bool,
        /// Whether seccomp holds.
        seccomp: bool,
        /// How many data roots it sees.
        roots: u8,
    },
    /// The sum in bytes of a request.
    Measured {
        /// The request's.
        ticket: u64,
        /// Bytes on disk.
        bytes: Result<u64, Failure>,
    },
}

/// Returns the next message of these requests, and how many of them it holds. Requests that break a bound are skipped.
#[must_use]
pub fn encode_requests(requests: &[Request]) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    let mut count = 0;
    for request in requests {
        // Before its length: one that fits into no message would end each of them, and never be passed.
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

/// Returns whether a request for these paths can be sent: others are never answered.
#[must_use]
pub fn are_valid(paths: &[PathBuf]) -> bool {
    let is_path = |path: &PathBuf| path.as_os_str().len() <= MAX_PATH && is_plain(path);
    (1..=MAX_PATHS).contains(&paths.len()) && paths.iter().all(is_path)
}

/// Returns whether a path is absolute and leads nowhere but downwards.
fn is_plain(path: &Path) -> bool {
    let is_step = |component| matches!(component, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(is_step) && !path.as_os_str().as_bytes().contains(&0)
}

/// Returns the requests of a message; none where any of it is not valid.
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

/// Length of an event: kind, code, ticket or process id, bytes.
const EVENT: usize = 18;
const BEGAN: u8 = 0;
const MEASURED: u8 = 1;

/// As many events as fit into a message.
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

/// Returns the events of a message; none where any of it is not valid.
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
