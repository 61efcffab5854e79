//! What is kept of the interfaces of one container: as its `net/dev` last told, and which link of the host each is paired with.

use std::time::{Duration, Instant};

use super::peer_map::{End, Table};
use crate::read::files::format::{self, INTERFACE_COLUMNS, lines, number, split_once};
use crate::read::network::netlink::Counters;
use crate::read::process::NetworkNamespace;

/// Drops and errors of an interface with traffic are as old as this at most.
pub(in crate::read) const BUSY_AGE: Duration = Duration::from_mins(2);
/// The same without traffic; and how long a change goes unnoticed that the host's end tells nothing of, such as another name.
pub(in crate::read) const IDLE_AGE: Duration = Duration::from_mins(5);
/// Containers that were read together take turns afterwards.
const TURNS: u32 = 16;

/// Columns of `net/dev` that both ends of a veth pair count alike, and where they stand in the other end's [`Counters`]: bytes and
/// packets received are the ones that the other end sent. The kernel adds up one number for both.
///
/// Drops are each end's own. A frame that no protocol wants is dropped by the receiver and seen by nobody else; one that the
/// receiver refuses counts at both ends; one that is sent to an end that is down at the sender alone. Errors are never counted.
pub(in crate::read) const SHARED: [(usize, usize); 4] = [(0, 3), (1, 1), (8, 2), (9, 0)];
/// Places in [`Counters`] of errors and drops.
const MISHAPS: [usize; 4] = [4, 5, 6, 7];

/// Interfaces of a container, `lo` left out.
#[derive(Debug, Default)]
pub(in crate::read) struct Interfaces {
    /// The process and the namespace that they were read of.
    owner: Option<(u32, NetworkNamespace)>,
    rows: Vec<Interface>,
    mapping: Mapping,
    /// Time of the host's last news of links when the file was read.
    read_at: u64,
    busy_due: Option<Instant>,
    idle_due: Option<Instant>,
}

/// Which links of the host the interfaces are paired with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::read) enum Mapping {
    /// Not looked for.
    #[default]
    Unknown,
    /// Not all have one.
    Files {
        /// The namespace, where the host's has a number for it.
        namespace: Option<i32>,
    },
    /// Each has one, and they reach into this namespace.
    Links {
        /// By the number that the host's namespace has for it.
        namespace: i32,
    },
}

/// One interface.
#[derive(Debug)]
pub(in crate::read) struct Interface {
    pub(in crate::read) name: Box<[u8]>,
    /// As of the last reading of its file.
    counters: [u64; INTERFACE_COLUMNS],
    /// As of the reading before.
    before: [u64; SHARED.len()],
    pub(in crate::read) end: Option<End>,
    /// The host's end when the file was read.
    host: Counters,
}

/// A column that does not lie between two readings of its file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::read) struct Difference {
    pub(in crate::read) interface: String,
    pub(in crate::read) column: usize,
    pub(in crate::read) before: u64,
    pub(in crate::read) link: u64,
    pub(in crate::read) after: u64,
}

impl Interfaces {
    /// Takes in a `net/dev`. Gives the number of malformed lines; what was known of other interfaces, or of those of another
    /// process, is forgotten.
    pub(in crate::read) fn take(&mut self, owner: Option<(u32, NetworkNamespace)>, text: &[u8]) -> u64 {
        if owner != self.owner {
            *self = Self { owner, ..Self::default() };
        }
        let (mut place, mut same) = (0, true);
        let malformed = format::interfaces(
            text,
            |name| name != b"lo",
            |name, counters| {
                if let Some(row) = self.rows.get_mut(place).filter(|row| *row.name == *name) {
                    (row.before, row.counters) = (row.shared(), *counters);
                } else {
                    same = false;
                    self.rows.truncate(place);
                    // Most containers have one: a vector's first growth would be room for four.
                    self.rows.reserve_exact(1);
                    self.rows.push(Interface::new(name, *counters));
                }
                place += 1;
            },
        );
        if !same || malformed > 0 || place < self.rows.len() {
            self.rows.truncate(place);
            self.mapping = Mapping::Unknown;
        }
        malformed
    }

    pub(in crate::read) fn rows(&self) -> &[Interface] {
        &self.rows
    }

    pub(in crate::read) fn rows_mut(&mut self) -> &mut [Interface] {
        &mut self.rows
    }

    pub(in crate::read) fn owner(&self) -> Option<(u32, NetworkNamespace)> {
        self.owner
    }

    /// Whether links have served it.
    pub(in crate::read) fn has_links(&self) -> bool {
        matches!(self.mapping, Mapping::Links { .. })
    }

    pub(in crate::read) fn mapping(&self) -> Mapping {
        self.mapping
    }

    /// What was found out. A file that has been read just now stands for some time.
    pub(in crate::read) fn settle(&mut self, mapping: Mapping, table: &Table, now: Instant, turn: u32) {
        self.mapping = mapping;
        self.read_at = table.now();
        let share = |age: Duration| age * (3 * TURNS + turn % TURNS) / (4 * TURNS);
        (self.busy_due, self.idle_due) = (Some(now + share(BUSY_AGE)), Some(now + share(IDLE_AGE)));
        for row in &mut self.rows {
            row.host = row.end.and_then(|end| table.counters(end)).copied().unwrap_or_default();
        }
    }

    /// Its file is read with the next visit, whatever its links say.
    pub(in crate::read) fn expire(&mut self) {
        self.idle_due = None;
    }

    /// Nothing is known any more of the links.
    pub(in crate::read) fn unmap(&mut self) {
        self.mapping = Mapping::Unknown;
    }

    /// Whether its links are to be looked for: they are not known, or something about them has changed.
    pub(in crate::read) fn wants_mapping(&self, table: &Table, now: Instant) -> bool {
        match self.mapping {
            Mapping::Unknown => true,
            Mapping::Links { namespace } => table.has_news(namespace, self.read_at),
            Mapping::Files { namespace } => {
                self.is_due(now) || namespace.is_some_and(|namespace| table.has_news(namespace, self.read_at))
            }
        }
    }

    /// Whether it is time to look at the file whatever the links say.
    pub(in crate::read) fn is_due(&self, now: Instant) -> bool {
        self.idle_due.is_none_or(|due| now >= due)
    }

    /// Whether its links say all that the file would, but for drops and errors, which are young enough.
    pub(in crate::read) fn is_served(&self, process: u32, table: &Table, now: Instant) -> bool {
        let Mapping::Links { namespace } = self.mapping else { return false };
        let is_owner = self.owner.is_some_and(|(pid, _)| pid == process);
        if !is_owner || self.is_due(now) || table.has_news(namespace, self.read_at) {
            return false;
        }
        let aged = self.busy_due.is_none_or(|due| now >= due);
        self.rows.iter().all(|row| {
            let counters = row.end.and_then(|end| table.counters(end));
            counters.is_some_and(|counters| {
                let lost = MISHAPS.iter().any(|place| counters.get(*place) != row.host.get(*place));
                !(lost || aged && *counters != row.host)
            })
        })
    }

    /// The first shared column that does not lie between the last two readings of the file.
    pub(in crate::read) fn difference(&self, table: &Table) -> Option<Difference> {
        self.rows.iter().find_map(|row| row.difference(table.counters(row.end?)?))
    }
}

impl Interface {
    fn new(name: &[u8], counters: [u64; INTERFACE_COLUMNS]) -> Self {
        Self { name: name.into(), counters, before: [0; SHARED.len()], end: None, host: Counters::default() }
    }

    /// A column of `net/dev` as last read.
    pub(in crate::read) fn counter(&self, column: usize) -> Option<u64> {
        self.counters.get(column).copied()
    }

    /// A column of `net/dev`: from the host's end where both count alike, else as last read.
    pub(in crate::read) fn column(&self, column: usize, link: &Counters) -> Option<u64> {
        let shared = SHARED.iter().find(|(number, _)| *number == column);
        shared.map_or_else(|| self.counters.get(column), |(_, place)| link.get(*place)).copied()
    }

    /// The columns that links serve.
    fn shared(&self) -> [u64; SHARED.len()] {
        SHARED.map(|(column, _)| self.counters.get(column).copied().unwrap_or(0))
    }

    fn difference(&self, link: &Counters) -> Option<Difference> {
        SHARED.iter().zip(self.before).find_map(|((column, place), before)| {
            let after = *self.counters.get(*column)?;
            let link = *link.get(*place)?;
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

/// Numbers and names of the interfaces in the text of `/proc/PID/net/igmp`, which has those that are up: the only file with both
/// that needs no mount and no privilege.
pub(in crate::read) fn numbered(igmp: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    lines(igmp).skip(1).filter(|line| line.first().is_some_and(u8::is_ascii_digit)).filter_map(|line| {
        let (index, rest) = split_once(line, b'\t')?;
        Some((u32::try_from(number(index)?).ok()?, split_once(rest, b':')?.0.trim_ascii()))
    })
}
