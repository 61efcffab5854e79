//! The interfaces of one container: their counters as last read from `net/dev`, and the link of the host that each is
//! paired with.

use std::time::{Duration, Instant};

use super::link_table::{LinkTable, PeerEnd};
use crate::read::files::format::{self, INTERFACE_COLUMNS, lines, number, split_once};
use crate::read::network::netlink::Counters;
use crate::read::process::NetnsId;
use crate::read::timing::STAGGER_GROUPS;

/// Maximum age of drops and errors of an interface with traffic.
pub(crate) const BUSY_AGE: Duration = Duration::from_mins(2);
/// Maximum age without traffic, and of changes that the host's end does not show, such as another name.
pub(crate) const IDLE_AGE: Duration = Duration::from_mins(5);
/// Columns of `net/dev` that both ends of a veth pair count alike, and their indices in the other end's [`Counters`]. Receive and transmit
/// are swapped: what this end received is what the other end sent. The kernel has one number for both.
///
/// Drops differ by end: a frame without a protocol counts at the receiver, one that the receiver refuses at both ends, one that is
/// sent to an end that is down at the sender. Errors are never counted.
pub(crate) const SHARED: [(usize, usize); 4] = [(0, 3), (1, 1), (8, 2), (9, 0)];
/// Indices in [`Counters`] of errors and drops.
const ERRORS_AND_DROPS: [usize; 4] = [4, 5, 6, 7];

/// Interfaces of a container, `lo` left out.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    /// The process and namespace that they were read from.
    owner: Option<(u32, NetnsId)>,
    rows: Vec<Interface>,
    mapping: PeerMap,
    /// The host's last link event when the file was read.
    read_at: u64,
    busy_due: Option<Instant>,
    idle_due: Option<Instant>,
}

/// The links of the host that the interfaces are paired with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum PeerMap {
    /// Not searched yet.
    #[default]
    Unknown,
    /// Some interfaces have no link.
    Files {
        /// The namespace, where the host's has a number for it.
        namespace: Option<i32>,
    },
    /// Each interface has a link, and the links reach into this namespace.
    VethPeers {
        /// By the number that the host's namespace has for it.
        namespace: i32,
    },
}

/// One interface. Its bytes and packets can come from the host's end of its veth pair, with receive and transmit swapped.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: Box<[u8]>,
    /// Counters at the last reading of its file.
    counters: [u64; INTERFACE_COLUMNS],
    /// Counters at the reading before.
    before: [u64; SHARED.len()],
    pub(crate) end: Option<PeerEnd>,
    /// Counters of the host's end when the file was read.
    host: Counters,
}

/// A column of the host's end that does not lie between two readings of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    pub(crate) interface: String,
    pub(crate) column: usize,
    pub(crate) before: u64,
    pub(crate) link: u64,
    pub(crate) after: u64,
}

impl Interfaces {
    /// Parses a `net/dev`. Returns the number of malformed lines. Forgets interfaces that are not in it, and those of another process.
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

    /// Returns whether links have served the container.
    pub(crate) fn has_links(&self) -> bool {
        matches!(self.mapping, PeerMap::VethPeers { .. })
    }

    pub(crate) fn mapping(&self) -> PeerMap {
        self.mapping
    }

    /// Sets the links. The file was just read and stays current for some time.
    pub(crate) fn settle(&mut self, mapping: PeerMap, table: &LinkTable, now: Instant, turn: u32) {
        self.mapping = mapping;
        self.read_at = table.last_event();
        // Spread over the last quarter of the interval, so that containers that were read together do not stay
        // together.
        let turns = 4 * STAGGER_GROUPS;
        let due = |age: Duration| Some(now + age * (turns - 1 - turn % STAGGER_GROUPS) / turns);
        (self.busy_due, self.idle_due) = (due(BUSY_AGE), due(IDLE_AGE));
        for row in &mut self.rows {
            row.host = row.end.and_then(|end| table.counters(end)).copied().unwrap_or_default();
        }
    }

    /// Makes the next visit read its file.
    pub(crate) fn expire(&mut self) {
        self.idle_due = None;
    }

    /// Forgets the links.
    pub(crate) fn unmap(&mut self) {
        self.mapping = PeerMap::Unknown;
    }

    /// Returns whether its links have to be searched: they are unknown or had an event.
    pub(crate) fn needs_mapping(&self, table: &LinkTable, now: Instant) -> bool {
        match self.mapping {
            PeerMap::Unknown => true,
            PeerMap::VethPeers { namespace } => table.has_event_since(namespace, self.read_at),
            PeerMap::Files { namespace } => {
                self.is_due(now) || namespace.is_some_and(|namespace| table.has_event_since(namespace, self.read_at))
            }
        }
    }

    /// Returns whether the file is due, whatever the links show.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.idle_due.is_none_or(|due| now >= due)
    }

    /// Returns whether its links replace the file: drops and errors, which only the file has, are recent enough.
    pub(crate) fn is_served(&self, process: u32, table: &LinkTable, now: Instant) -> bool {
        let PeerMap::VethPeers { namespace } = self.mapping else { return false };
        let is_owner = self.owner.is_some_and(|(pid, _)| pid == process);
        if !is_owner || self.is_due(now) || table.has_event_since(namespace, self.read_at) {
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

    /// Returns the first shared column that does not lie between the last two readings of the file.
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

    /// Returns the columns that links serve.
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

/// Returns numbers and names of the active interfaces in the text of `/proc/PID/net/igmp`, the only file with both that
/// needs neither mount nor privilege.
pub(crate) fn ifindices(igmp: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    lines(igmp).skip(1).filter(|line| line.first().is_some_and(u8::is_ascii_digit)).filter_map(|line| {
        let (index, rest) = split_once(line, b'\t')?;
        Some((u32::try_from(number(index)?).ok()?, split_once(rest, b':')?.0.trim_ascii()))
    })
}
