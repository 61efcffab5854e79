//! The interfaces of one container: their counters as last read from `net/dev`, and the host's end of the veth pair of each.

use std::time::{Duration, Instant};

use super::link_table::{LinkTable, PeerEnd};
use crate::read::files::format::{self, INTERFACE_COLUMNS, lines, number, split_once};
use crate::read::network::netlink::Counters;
use crate::read::process::NetnsId;
use crate::read::timing::STAGGER_GROUPS;

/// Maximum age of drops and errors of a container with traffic.
pub(crate) const BUSY_AGE: Duration = Duration::from_mins(2);
/// Maximum age without traffic. It also bounds how late changes are noticed that the host's end does not show, such as a name.
pub(crate) const IDLE_AGE: Duration = Duration::from_mins(5);
/// Columns of `net/dev` that both ends of a veth pair count alike, with their indices in the other end's [`Counters`]. Receive
/// and transmit are swapped: what one end has received, the other has sent, and the kernel has one number for both.
///
/// Drops differ: a frame without a protocol counts at the receiver, one that the receiver refuses at both ends, and one that is
/// sent to an end that is down at the sender. A veth counts no errors.
pub(crate) const SHARED: [(usize, usize); 4] = [(0, 3), (1, 1), (8, 2), (9, 0)];
/// Indices in [`Counters`] of errors and drops.
const ERRORS_AND_DROPS: [usize; 4] = [4, 5, 6, 7];

/// The interfaces of a container, without `lo`.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    /// Number and namespace of the process through which they were read.
    owner: Option<(u32, NetnsId)>,
    rows: Vec<Interface>,
    mapping: PeerMap,
    /// Number of the host's last link event when the file was read.
    read_at: u64,
    /// When the file is read again if there was traffic.
    busy_due: Option<Instant>,
    /// When the file is read again in any case.
    idle_due: Option<Instant>,
}

/// Whether all interfaces of a container have their peers among the host's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum PeerMap {
    /// The peers were not searched yet.
    #[default]
    Unknown,
    /// Some interfaces have no peer there: the file is read.
    Files {
        /// Id of the container's namespace in the host's, if it has one.
        nsid: Option<i32>,
    },
    /// Each interface has a peer there.
    VethPeers {
        /// Id of the container's namespace in the host's.
        nsid: i32,
    },
}

/// One interface. Its bytes and packets can come from the host's end of its veth pair.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: Box<[u8]>,
    /// Counters at the last reading of the file.
    counters: [u64; INTERFACE_COLUMNS],
    /// Shared counters at the reading before.
    before: [u64; SHARED.len()],
    /// The host's end of the veth pair.
    pub(crate) end: Option<PeerEnd>,
    /// Counters of the host's end at the last reading of the file.
    host: Counters,
}

/// A counter of the host's end whose value does not lie between two readings of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    pub(crate) interface: String,
    pub(crate) column: usize,
    pub(crate) before: u64,
    pub(crate) link: u64,
    pub(crate) after: u64,
}

impl Interfaces {
    /// Parses a `net/dev` and forgets all interfaces that are not in it. Returns the number of malformed lines.
    pub(crate) fn take(&mut self, owner: Option<(u32, NetnsId)>, text: &[u8]) -> u64 {
        if owner != self.owner {
            *self = Self { owner, ..Self::default() };
        }
        let (mut index, mut same) = (0, true);
        let malformed = format::interfaces(
            text,
            |name| name != b"lo",
            |name, counters| {
                if let Some(row) = self.rows.get_mut(index).filter(|row| *row.name == *name) {
                    (row.before, row.counters) = (row.shared(), *counters);
                } else {
                    same = false;
                    self.rows.truncate(index);
                    // Most containers have one interface; the first growth of a vector would reserve four.
                    self.rows.reserve_exact(1);
                    self.rows.push(Interface::new(name, *counters));
                }
                index += 1;
            },
        );
        if !same || malformed > 0 || index < self.rows.len() {
            self.rows.truncate(index);
            self.mapping = PeerMap::Unknown;
        }
        malformed
    }

    pub(crate) fn rows(&self) -> &[Interface] {
        &self.rows
    }

    pub(crate) fn rows_mut(&mut self) -> &mut [Interface] {
        &mut self.rows
    }

    pub(crate) fn owner(&self) -> Option<(u32, NetnsId)> {
        self.owner
    }

    /// Returns whether all interfaces have known peers.
    pub(crate) fn has_links(&self) -> bool {
        matches!(self.mapping, PeerMap::VethPeers { .. })
    }

    pub(crate) fn mapping(&self) -> PeerMap {
        self.mapping
    }

    /// Stores the result of a search. The file was just read, and is due again after some time.
    pub(crate) fn settle(&mut self, mapping: PeerMap, table: &LinkTable, now: Instant, turn: u32) {
        self.mapping = mapping;
        self.read_at = table.last_event();
        // The times are spread over the last quarter of the interval, so that containers that were read together do not stay
        // together.
        let turns = 4 * STAGGER_GROUPS;
        let due = |age: Duration| Some(now + age * (turns - 1 - turn % STAGGER_GROUPS) / turns);
        (self.busy_due, self.idle_due) = (due(BUSY_AGE), due(IDLE_AGE));
        for row in &mut self.rows {
            row.host = row.end.and_then(|end| table.counters(end)).copied().unwrap_or_default();
        }
    }

    /// Makes the next visit read the file.
    pub(crate) fn expire(&mut self) {
        self.idle_due = None;
    }

    /// Makes the next visit search the peers.
    pub(crate) fn unmap(&mut self) {
        self.mapping = PeerMap::Unknown;
    }

    /// Returns whether the peers have to be searched: they are unknown, or a link into the namespace had an event.
    pub(crate) fn needs_mapping(&self, table: &LinkTable, now: Instant) -> bool {
        match self.mapping {
            PeerMap::Unknown => true,
            PeerMap::VethPeers { nsid } => table.has_event_since(nsid, self.read_at),
            PeerMap::Files { nsid } => {
                self.is_due(now) || nsid.is_some_and(|nsid| table.has_event_since(nsid, self.read_at))
            }
        }
    }

    /// Returns whether the file is due, even without traffic.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.idle_due.is_none_or(|due| now >= due)
    }

    /// Returns whether the peers replace the file in this pass: drops and errors, which only the file has, are recent enough.
    pub(crate) fn is_served(&self, process: u32, table: &LinkTable, now: Instant) -> bool {
        let PeerMap::VethPeers { nsid } = self.mapping else { return false };
        let is_owner = self.owner.is_some_and(|(pid, _)| pid == process);
        if !is_owner || self.is_due(now) || table.has_event_since(nsid, self.read_at) {
            return false;
        }
        let aged = self.busy_due.is_none_or(|due| now >= due);
        self.rows.iter().all(|row| {
            let counters = row.end.and_then(|end| table.counters(end));
            counters.is_some_and(|counters| {
                let lost = ERRORS_AND_DROPS.iter().any(|index| counters.get(*index) != row.host.get(*index));
                !(lost || aged && *counters != row.host)
            })
        })
    }

    /// Returns the first counter of a peer that does not lie between the last two readings of the file.
    pub(crate) fn difference(&self, table: &LinkTable) -> Option<Difference> {
        self.rows.iter().find_map(|row| row.difference(table.counters(row.end?)?))
    }
}

impl Interface {
    fn new(name: &[u8], counters: [u64; INTERFACE_COLUMNS]) -> Self {
        Self { name: name.into(), counters, before: [0; SHARED.len()], end: None, host: Counters::default() }
    }

    /// Returns a column of `net/dev` as last read.
    pub(crate) fn counter(&self, column: usize) -> Option<u64> {
        self.counters.get(column).copied()
    }

    /// Returns a column of `net/dev`: from the host's end if both ends count alike, else as last read.
    pub(crate) fn column(&self, column: usize, link: &Counters) -> Option<u64> {
        let shared = SHARED.iter().find(|(number, _)| *number == column);
        shared.map_or_else(|| self.counters.get(column), |(_, index)| link.get(*index)).copied()
    }

    /// Returns the counters that both ends share.
    fn shared(&self) -> [u64; SHARED.len()] {
        SHARED.map(|(column, _)| self.counters.get(column).copied().unwrap_or(0))
    }

    fn difference(&self, link: &Counters) -> Option<Difference> {
        SHARED.iter().zip(self.before).find_map(|((column, index), before)| {
            let after = *self.counters.get(*column)?;
            let link = *link.get(*index)?;
            let interface = || String::from_utf8_lossy(&self.name).into_owned();
            (link < before || link > after).then(|| Difference {
                interface: interface(),
                column: *column,
                before,
                link,
                after,
            })
        })
    }
}

/// Returns `ifindex` and name of each interface that is up, from the text of `/proc/PID/net/igmp`: the only file with both that
/// needs neither a mount nor a privilege.
pub(crate) fn ifindices(igmp: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    lines(igmp).skip(1).filter(|line| line.first().is_some_and(u8::is_ascii_digit)).filter_map(|line| {
        let (index, rest) = split_once(line, b'\t')?;
        Some((u32::try_from(number(index)?).ok()?, split_once(rest, b':')?.0.trim_ascii()))
    })
}
