//! Counts the sockets of a network namespace by state, from `/proc/PID/net/{tcp,tcp6,udp,udp6}`.
//!
//! The kernel writes a line per socket, and visits all sockets of the host for each table. So the tables are read last, for a
//! bounded time per scrape, and up to a maximum number of lines: a container with half a million sockets has no values, and
//! costs no other container its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use crate::metrics::SocketCount;
use crate::read::files::format::{number, split_once, words};
use crate::read::process::NetnsId;

/// Time per scrape for the tables of all containers. The next scrape begins with the containers that were not reached.
pub(super) const TIME: Duration = Duration::from_secs(2);
/// Maximum number of lines of a table, of about 150 bytes each. A container with more has no values.
const MAX_SOCKETS: usize = 20_000;
/// Number of scrapes that skip a container whose table was too long.
pub(super) const SKIPPED: u32 = 16;
const CHUNK_BYTES: usize = 64 * 1024;

/// Progress of the socket reading in a pass.
#[derive(Debug, Default)]
pub(crate) struct SocketTurns {
    /// Number of containers that were reached in this pass.
    pub(super) done: usize,
    pub(super) spent: Duration,
}

/// State of the socket reading between two scrapes.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Index of the first container of the pass.
    pub(super) first: usize,
    /// Reused memory for tables.
    pub(super) buffer: Vec<u8>,
}

/// State of one container's tables between two scrapes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketState {
    /// Whether the container reports its network namespace in this pass.
    pub(crate) is_reported: bool,
    /// Its namespace; none if a capture lacks it.
    pub(crate) namespace: Option<NetnsId>,
    /// Number of scrapes that still skip the container.
    pub(super) skipped: u32,
}

/// The sums over one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Number of sockets by the kernel's number of their state (`TCP_ESTABLISHED` is 1).
    states: [u64; 16],
    transmit_queued: u64,
    receive_queued: u64,
    dropped: u64,
}

impl SocketTurns {
    /// Returns whether some of this many containers were not reached.
    pub(crate) fn lacks(&self, containers: usize) -> bool {
        self.done < containers
    }
}

impl Totals {
    /// Adds a line. Its columns are number, local and remote address, state, `tx:rx` queues, timer, retransmits, uid, timeout,
    /// inode, …; udp has drops at the end.
    fn add(&mut self, line: &[u8]) {
        let mut columns = words(line).skip(3);
        let state = columns.next().and_then(hexadecimal).and_then(|state| usize::try_from(state).ok());
        if let Some(count) = state.and_then(|state| self.states.get_mut(state)) {
            *count += 1;
        }
        if let Some((transmit, receive)) = columns.next().and_then(|queues| split_once(queues, b':')) {
            self.transmit_queued += hexadecimal(transmit).unwrap_or(0);
            self.receive_queued += hexadecimal(receive).unwrap_or(0);
        }
        self.dropped += columns.nth(7).and_then(number).unwrap_or(0);
    }

    pub(super) fn get(&self, count: SocketCount) -> u64 {
        match count {
            SocketCount::State(state) => self.states.get(usize::from(state)).copied().unwrap_or(0),
            SocketCount::TxQueued => self.transmit_queued,
            SocketCount::RxQueued => self.receive_queued,
            SocketCount::Dropped => self.dropped,
        }
    }
}

/// Reads a table in chunks and sums it up.
///
/// # Errors
/// The system's error, or `FileTooLarge` for a table of more than [`MAX_SOCKETS`] lines.
pub(super) fn totals(mut file: &File, buffer: &mut Vec<u8>) -> io::Result<Totals> {
    buffer.resize(CHUNK_BYTES, 0);
    let (mut totals, mut count, mut filled) = (Totals::default(), 0, 0);
    loop {
        let read = match file.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => return Ok(totals),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += read;
        let text = buffer.get(..filled).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // The first line names the columns.
            if count > 0 {
                totals.add(line);
            }
            count += 1;
        }
        if count > MAX_SOCKETS || whole == 0 && filled == CHUNK_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {MAX_SOCKETS} sockets of a kind"),
            ));
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::{MAX_SOCKETS, SocketCount, Totals, totals};

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    const LISTENS: &str = "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n";
    const TALKS: &str = "   1: 0100007F:1F91 0100007F:9C40 01 0000000A:00000010 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n";
    const UDP: &str =
        "  302: 00000000:0044 00000000:0000 07 00000001:00000002 00:00000000 00000000     0        0 4021 2 0 17\n";

    fn read(text: &str) -> std::io::Result<Totals> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        totals(&file, &mut Vec::new())
    }

    #[test]
    fn sockets_are_counted_by_state_queue_and_drops() {
        let tcp = read(&[HEAD, LISTENS, TALKS].concat()).unwrap();
        let count = |state| tcp.get(SocketCount::State(state));
        assert_eq!((count(10), count(1), count(6)), (1, 1, 0));
        assert_eq!((tcp.get(SocketCount::TxQueued), tcp.get(SocketCount::RxQueued)), (10, 16));
        assert_eq!(read(&[HEAD, UDP, UDP].concat()).unwrap().get(SocketCount::Dropped), 34);
    }

    #[test]
    fn a_long_table_is_counted_to_the_last_line_and_a_longer_one_is_refused() {
        let table = |lines: usize| [HEAD, &TALKS.repeat(lines)].concat();
        assert_eq!(read(&table(MAX_SOCKETS - 1)).unwrap().get(SocketCount::State(1)), MAX_SOCKETS as u64 - 1);
        let error = read(&table(MAX_SOCKETS + 1)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    }
}
