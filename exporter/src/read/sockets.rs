//! Sockets of the containers' network namespaces by state, from `/proc/PID/net/{tcp,tcp6,udp,udp6}`.
//!
//! The kernel writes a line per socket, and looks at all sockets of the host for each table. So the tables are read after
//! everything else, for a bounded time per scrape, and no more than so many lines of each: a container with half a million
//! sockets costs itself these values, and nobody else any.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use tracing::warn;

use super::container::Container;
use super::format::{number, split_once, words};
use super::process::NetworkNamespace;
use super::reader::{Pass, Reader, reason};
use super::timing::Timing;
use crate::metrics::{Collector, CollectorSet, SocketCount};

/// Time per scrape for the tables of all containers. The next scrape begins with those that had no turn.
const TIME: Duration = Duration::from_secs(2);
/// Lines of a table, some 150 bytes each: above it the container's values are left out.
const MAX_SOCKETS: usize = 20_000;
/// Scrapes for which a container whose table was too long goes without.
const SKIPPED: u32 = 16;
const CHUNK_BYTES: usize = 64 * 1024;

/// What remains to be read in a pass.
#[derive(Debug, Default)]
pub(super) struct SocketTurns {
    /// Containers that had their turn in this pass.
    done: usize,
    spent: Duration,
}

/// The containers' sockets between two scrapes.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Index of the container that begins.
    first: usize,
    buffer: Vec<u8>,
}

/// What a container's tables have come to, between two scrapes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SocketState {
    /// Whether the container is the one to report its network namespace in this pass.
    pub(super) is_reported: bool,
    /// That namespace; none where a capture does not tell.
    pub(super) namespace: Option<NetworkNamespace>,
    /// Scrapes that it is to be left out of.
    skipped: u32,
}

/// The sums over one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    states: [u64; 16],
    transmit_queued: u64,
    receive_queued: u64,
    dropped: u64,
}

impl SocketTurns {
    /// Whether some of so many containers have had no turn.
    pub(super) fn lacks(&self, containers: usize) -> bool {
        self.done < containers
    }
}

impl Reader {
    /// Reads the tables of the next containers until the pass's deadline. Returns whether no more are to be read.
    pub(super) fn advance_sockets(&mut self, turns: &mut SocketTurns, pass: Pass<'_>, timing: &mut Timing) -> bool {
        let wanted = pass.collectors.has(Collector::Tcp) && !self.plan.sockets.is_empty();
        let mut containers = std::mem::take(&mut self.containers);
        while wanted && turns.done < containers.len() && turns.spent < TIME {
            let before = timing.last();
            if pass.deadline.is_some_and(|deadline| before >= deadline) {
                break;
            }
            let index = (self.sockets.first + turns.done) % containers.len();
            if let Some(container) = containers.get_mut(index).filter(|container| container.sockets.is_reported) {
                // Near the limit of descriptors no process is held from one visit to the next.
                if container.process.is_none() {
                    self.choose_process(container, pass.names);
                }
                self.read_sockets(container, timing);
                container.process.take_if(|process| process.counted.is_none());
            }
            turns.done += 1;
            timing.lap(Collector::Tcp);
            turns.spent += timing.last() - before;
        }
        self.containers = containers;
        !wanted || turns.done >= self.containers.len() || turns.spent >= TIME
    }

    /// Ends the turns of a pass: those who had none come first in the next one.
    pub(super) fn end_sockets(&mut self, turns: &SocketTurns, pass: Pass<'_>) {
        let containers = self.containers.len();
        if pass.collectors.has(Collector::Tcp) && turns.lacks(containers) {
            self.sockets.first = (self.sockets.first + turns.done) % containers;
        }
    }

    fn read_sockets(&mut self, container: &mut Container, timing: &mut Timing) {
        let Some(process) = container.process.as_ref() else { return };
        let namespace = container.sockets.namespace;
        let failed = CollectorSet::EMPTY.with(Collector::Tcp);
        if let Some(left) = container.sockets.skipped.checked_sub(1) {
            container.sockets.skipped = left;
            self.own.count_read_error("net/tcp", "too_large");
            return timing.fail(failed);
        }
        // Each file is of the namespace that the process is in when it is opened: that may be another one meanwhile.
        let is_same =
            || !self.live || process.open_file("net/dev").is_ok_and(|file| process.namespace(&file, true) == namespace);
        let mut tables: Vec<(&str, Totals)> = Vec::new();
        let mut read = || -> io::Result<()> {
            for (name, ..) in &self.plan.sockets {
                if tables.iter().any(|(known, _)| known == name) {
                    continue;
                }
                match process.open_file(&format!("net/{name}")) {
                    Ok(file) => tables.push((*name, totals(&file, &mut self.sockets.buffer)?)),
                    // A kernel without IPv6.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        if !is_same() {
            return;
        }
        match read() {
            Ok(()) if !is_same() => {}
            Ok(()) => {
                for (name, count, slot) in &self.plan.sockets {
                    if let Some((_, totals)) = tables.iter().find(|(known, _)| known == name) {
                        container.sample.set(*slot, totals.get(*count));
                    }
                }
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) => {
                self.own.count_read_error("net/tcp", reason(&error));
                timing.fail(failed);
                if error.kind() == io::ErrorKind::FileTooLarge {
                    container.sockets.skipped = SKIPPED;
                }
                if self.is_first(Collector::Tcp) {
                    warn!(
                        %error, container = %container.path,
                        "the sockets of this container are not counted; its tcp collector's values are left out (further \
                         containers go unlogged: docker_stats_exporter_read_errors_total{{file=\"net/tcp\"}} counts them)"
                    );
                }
            }
        }
    }
}

impl Totals {
    /// Columns: number, local, remote, state, `tx:rx` queues, timer, retransmits, uid, timeout, inode, … and drops at the end.
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

    fn get(&self, count: SocketCount) -> u64 {
        match count {
            SocketCount::State(state) => self.states.get(usize::from(state)).copied().unwrap_or(0),
            SocketCount::TxQueued => self.transmit_queued,
            SocketCount::RxQueued => self.receive_queued,
            SocketCount::Dropped => self.dropped,
        }
    }
}

/// Reads a table piece by piece.
fn totals(mut file: &File, buffer: &mut Vec<u8>) -> io::Result<Totals> {
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
