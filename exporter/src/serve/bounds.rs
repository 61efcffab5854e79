//! What bounds a client, with the numbers, for SECURITY.md.

use super::limits::{BACKLOG, HEAD_BYTES, HEAD_FIELDS, LINGER_BYTES, Limits, SOCKET_SEND_BYTES};

/// The default of `--web.max-requests`.
const REQUESTS: usize = 40;

/// Each bound with its number.
#[must_use]
pub fn bounds() -> Vec<(&'static str, String)> {
    let limits = Limits::for_requests(REQUESTS);
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
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
    use super::{bounds, bytes};
    use crate::config::FLAGS;

    #[test]
    fn numbers_are_those_of_the_program() {
        let default = FLAGS.iter().find(|flag| flag.name == "web.max-requests").unwrap().default;
        assert_eq!(super::REQUESTS.to_string(), default);
        assert!(bounds().contains(&("bytes of a request's header", "16 KiB".to_owned())));
        assert_eq!([bytes(16 << 10), bytes(3 << 20)], ["16 KiB", "3 MiB"]);
    }
}
