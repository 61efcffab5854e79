//! Limits what clients can make the server hold. Each number has its reason beside it.

use std::time::Duration;

/// The limits of one server. Tests use smaller ones than [`Limits::for_requests`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum number of connections. A new one above it replaces the one that has been idle longest.
    pub(super) connections: usize,
    /// Maximum number of answers that are being sent. Above it the oldest is cut.
    pub(super) senders: usize,
    /// Maximum bytes of distinct bodies that are being sent, beside the newest. Above it the oldest is cut.
    pub(super) sending_bytes: usize,
    /// Timeout from the first byte of a request, or from the connection's start, to the end of the request's header.
    pub(super) head: Duration,
    /// Maximum time that a connection may be idle between two requests.
    pub(super) idle: Duration,
    /// Maximum time that a client may take to receive an answer.
    pub(super) send: Duration,
    /// Maximum time that bytes from the client are discarded after the last answer, so that the client can read it.
    pub(super) linger: Duration,
    /// Maximum time that pending answers may take on shutdown.
    pub(super) drain: Duration,
}

/// Maximum bytes of a request's header, and the size of hyper's buffers per connection. Real headers are below 1 KiB.
pub(super) const HEAD_BYTES: usize = 16 << 10;
/// Maximum number of fields in a request's header.
pub(super) const HEAD_FIELDS: usize = 100;
/// Maximum bytes per connection that the kernel holds for a client that does not read. The default of Linux is several MiB.
pub(super) const SOCKET_SEND_BYTES: usize = 256 << 10;
/// Maximum bytes that are discarded after the last answer.
pub(super) const LINGER_BYTES: usize = 1 << 20;
/// Maximum number of connections that the kernel queues until they are accepted.
pub(super) const BACKLOG: i32 = 1024;

/// Limits of one HTTP/2 connection. A scraper sends one request at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http2;

impl Http2 {
    /// Maximum number of requests at a time.
    pub(super) const STREAMS: u32 = 8;
    /// Maximum bytes of a request's header, uncompressed.
    pub(super) const HEADER_LIST: u32 = 16 << 10;
    /// Maximum bytes of one frame: the minimum of the protocol.
    pub(super) const FRAME: u32 = 16 << 10;
    /// Maximum bytes of answers that are buffered per stream before the client takes any.
    pub(super) const SEND_BUFFER: usize = 64 << 10;
    /// Maximum bytes that a client may send on one stream before they are read. No body is ever read.
    pub(super) const STREAM_WINDOW: u32 = 64 << 10;
    /// The same for all streams together.
    pub(super) const CONNECTION_WINDOW: u32 = 256 << 10;
    /// Maximum number of streams that the client resets before they are handled. Above it the connection ends, against rapid
    /// resets (CVE-2023-44487).
    pub(super) const PENDING_RESETS: usize = 20;
    /// Maximum number of streams that the server resets because of errors of the client. Above it the connection ends.
    pub(super) const LOCAL_RESETS: usize = 128;
}

impl Limits {
    /// Returns the limits of a server that serves this many scrapes at a time.
    pub(super) fn for_requests(max_requests: usize) -> Self {
        Self {
            // Far above what the scrapers of a host need. A silent connection takes 12 KiB of memory, one with an endless
            // header 33 KiB (measured).
            connections: max_requests.saturating_mul(2).max(512),
            // The scrapes that are served at a time by default (40), and some slow readers.
            senders: max_requests.max(64),
            // Two or three large expositions that were rendered at different times.
            sending_bytes: 32 << 20,
            // A scraper sends its header in one packet. Ten seconds allow for the worst link.
            head: Duration::from_secs(10),
            // Prometheus closes a connection that was idle for five minutes. The time here is longer, so that Prometheus
            // closes first and sends no request over a connection that is being closed.
            idle: Duration::from_secs(330),
            // Six times the default scrape timeout of Prometheus.
            send: Duration::from_mins(1),
            // A round trip on a bad link.
            linger: Duration::from_secs(1),
            // Half of the ten seconds that Docker gives a container to stop.
            drain: Duration::from_secs(5),
        }
    }
}

/// The default of `--web.max-requests`.
const REQUESTS: usize = 40;

/// Returns each limit with its number, for the table in SECURITY.md.
#[must_use]
pub fn bounds() -> Vec<(&'static str, String)> {
    let limits = Limits::for_requests(REQUESTS);
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    vec![
        ("scrapes at a time (`--web.max-requests`)", REQUESTS.to_string()),
        ("connections at a time; above it the one that is idle longest goes", limits.connections.to_string()),
        ("connections that wait to be accepted", BACKLOG.to_string()),
        ("answers on their way at a time; above it the oldest is cut", limits.senders.to_string()),
        ("bytes of answers on their way", bytes(limits.sending_bytes)),
        ("bytes that the kernel holds for a client that does not read", bytes(SOCKET_SEND_BYTES)),
        ("bytes of a request's header", bytes(HEAD_BYTES)),
        ("fields of a request's header", HEAD_FIELDS.to_string()),
        ("bytes that are discarded after the last answer", bytes(LINGER_BYTES)),
        ("time for a request's header", seconds(limits.head)),
        ("time for receiving an answer", seconds(limits.send)),
        ("time that a connection may rest", seconds(limits.idle)),
    ]
}

fn bytes(number: usize) -> String {
    match number {
        _ if number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        _ => format!("{} KiB", number >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FLAGS;

    #[test]
    fn many_allowed_requests_leave_room_for_as_many_idle_connections() {
        assert_eq!(Limits::for_requests(40).connections, 512);
        assert_eq!(Limits::for_requests(1000).connections, 2000);
        assert_eq!(Limits::for_requests(usize::MAX).connections, usize::MAX);
    }

    #[test]
    fn a_scraper_that_comes_every_minute_never_meets_a_closed_connection() {
        assert!(Limits::for_requests(40).idle > Duration::from_mins(5));
    }

    #[test]
    fn numbers_are_those_of_the_program() {
        let default = FLAGS.iter().find(|flag| flag.name == "web.max-requests").unwrap().default;
        assert_eq!(REQUESTS.to_string(), default);
        assert!(bounds().contains(&("bytes of a request's header", "16 KiB".to_owned())));
        assert_eq!([bytes(16 << 10), bytes(3 << 20)], ["16 KiB", "3 MiB"]);
    }
}
