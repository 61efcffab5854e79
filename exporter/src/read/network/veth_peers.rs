//! Network counters of all containers from one dump of the host's links.
//!
//! The host's end of a veth pair counts the same bytes and packets as the container's, received and sent changed over. So where
//! every interface of a container is an end of such a pair, one dump for the whole host replaces a file per container. The file stays for
//! all others, for a host where the dump would cost more, for what only the file tells (drops and errors, which are read
//! again when the host's end shows that something went wrong, and otherwise now and then), and for whatever is in doubt: with any
//! news of a link, those whose namespace it reaches into are read by their file once more.
//!
//! `network` is its only caller; it does the reading of files. Nothing here belongs to a container but what `interfaces` keeps.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::metrics::{Collector, Own};
use crate::read::network::netlink::{Counters, Drained, Netlink};
use crate::read::process::Process;

use super::host_netns::{Host, Refusal};
use super::interfaces::{Difference, Interface, Interfaces, Mapping, numbered};
use super::peer_map::{End, Table};

/// With fewer containers the files cost less than the dump and what keeps it true.
const MIN_CONTAINERS: usize = 8;
/// A dump pays for every link of the host: with more of them per container the files cost less.
const MAX_LINKS_EACH: usize = 16;
/// Containers whose links are looked for in one pass: each costs three questions, and there may be thousands when we start. So many,
/// or one part of so many of all.
const MAPPED_AT_ONCE: usize = 128;
const MAPPED_PART: usize = 16;
/// How long a host whose links could not be dumped is left alone.
const RETRY: Duration = Duration::from_mins(5);

/// The label of [`Own::read_tier`] for each road.
const ROADS: [&str; 2] = ["links", "files"];

/// The host's links, as far as they serve.
#[derive(Debug)]
pub(in crate::read) struct Links {
    procfs: PathBuf,
    own: Own,
    state: State,
    /// This pass has a dump.
    is_fresh: bool,
    now: Instant,
    turn: u32,
    /// Containers whose links may still be looked for in this pass.
    to_map: usize,
    /// Containers by road in this pass.
    served: [usize; ROADS.len()],
}

#[derive(Debug)]
enum State {
    /// Not tried yet, or not before some time.
    Closed { until: Option<Instant>, told: bool },
    /// In use where it pays.
    Open { host: Box<Host>, table: Table },
    /// Not used any more: a capture, or a kernel that counts otherwise.
    Off,
}

impl Links {
    /// Links of the host whose procfs this is; in a capture there are none.
    pub(in crate::read) fn new(procfs: &Path, live: bool, own: Own) -> Self {
        let state = if live { State::Closed { until: None, told: false } } else { State::Off };
        let now = Instant::now();
        Self { procfs: procfs.to_owned(), own, state, is_fresh: false, now, turn: 0, to_map: 0, served: [0; 2] }
    }

    /// A pass begins; `candidates` are containers whose interfaces may all have links.
    pub(in crate::read) fn begin(&mut self, candidates: usize, now: Instant) {
        let to_map = MAPPED_AT_ONCE.max(candidates / MAPPED_PART);
        (self.is_fresh, self.now, self.to_map, self.served) = (false, now, to_map, [0; 2]);
        self.turn = self.turn.wrapping_add(1);
        if candidates < MIN_CONTAINERS {
            return;
        }
        self.open();
        let State::Open { host, table } = &mut self.state else { return };
        table.begin();
        let pays = table.len() <= MAX_LINKS_EACH.saturating_mul(candidates);
        let dumped = if pays { host.netlink.counters(|index, counters| table.count(index, counters)) } else { Ok(()) };
        // Notices come after the counters: whatever became another link before it was counted is known for one.
        match dumped.and_then(|()| listen(&mut host.netlink, table)) {
            Ok(()) => self.is_fresh = pays,
            Err(error) => self.fail(&error),
        }
    }

    fn open(&mut self) {
        let State::Closed { until, told } = self.state else { return };
        if until.is_some_and(|until| self.now < until) {
            return;
        }
        let mut table = Table::default();
        let opened = Host::open(&self.procfs).and_then(|mut host| {
            fill(&mut host.netlink, &mut table).map_err(|source| Refusal::Socket { source })?;
            Ok(host)
        });
        match opened {
            Ok(host) => {
                info!(
                    links = table.len(),
                    "network counters come from one dump of the host's links where that costs less"
                );
                self.state = State::Open { host: Box::new(host), table };
            }
            Err(refusal) => {
                if !told {
                    info!(reason = %refusal, "network counters are read from a file per container, which costs more and tells the same");
                }
                self.own.count_read_error("rtnetlink", refusal.word());
                self.state = State::Closed { until: Some(self.now + RETRY), told: true };
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        warn!(%error, again_in = ?RETRY, "the host's links cannot be dumped; network counters are read from a file per container");
        self.own.count_read_error("rtnetlink", crate::read::files::open_files::reason(error));
        self.is_fresh = false;
        self.state = State::Closed { until: Some(self.now + RETRY), told: true };
    }

    /// The container that is read both ways in the pass that is about to begin, by its place among so many; none where links
    /// did not serve in the last one.
    pub(in crate::read) fn turn(&self, containers: usize) -> Option<usize> {
        usize::try_from(self.turn).ok()?.checked_rem(containers).filter(|_| self.is_fresh)
    }

    /// Whether a container may be served by links, as far as its file has told.
    pub(in crate::read) fn is_candidate(&self, interfaces: &Interfaces) -> bool {
        match interfaces.mapping() {
            Mapping::Unknown | Mapping::Links { .. } => true,
            Mapping::Files { .. } => interfaces.is_due(self.now),
        }
    }

    /// Whether its links serve a container in this pass.
    pub(in crate::read) fn serve(&self, interfaces: &Interfaces, process: u32) -> bool {
        let State::Open { table, .. } = &self.state else { return false };
        self.is_fresh && interfaces.is_served(process, table, self.now)
    }

    /// The counters of the host's end in this pass.
    pub(in crate::read) fn counters(&self, interface: &Interface) -> Option<&Counters> {
        let State::Open { table, .. } = &self.state else { return None };
        interface.end.and_then(|end| table.counters(end))
    }

    /// Counts a container that was read.
    pub(in crate::read) fn count(&mut self, by_links: bool) {
        let [links, files] = &mut self.served;
        *if by_links { links } else { files } += 1;
    }

    /// A pass is over: our own metrics say which road served.
    pub(in crate::read) fn end(&self) {
        for (road, served) in ROADS.iter().zip(self.served) {
            let labels = [Collector::Network.name(), road];
            self.own.read_tier.with_label_values(&labels).set(i64::try_from(served).unwrap_or(i64::MAX));
        }
    }

    /// Looks at a container whose file has just been read: are its links known, and do they say the same?
    pub(in crate::read) fn learn(&mut self, interfaces: &mut Interfaces, process: &Process) {
        if !self.is_fresh || interfaces.owner().is_none() {
            return;
        }
        match self.check(interfaces, process) {
            Ok(None) => {}
            Ok(Some(difference)) => self.distrust(&difference, interfaces),
            // The process may have ended; the next pass sees. A socket that does not answer is seen by the next dump.
            Err(error) => {
                debug!(pid = process.pid, %error, "the links of a container cannot be found");
                interfaces.unmap();
            }
        }
    }

    fn check(&mut self, interfaces: &mut Interfaces, process: &Process) -> io::Result<Option<Difference>> {
        let State::Open { host, table } = &mut self.state else { return Ok(None) };
        if interfaces.wants_mapping(table, self.now) {
            let Some(left) = self.to_map.checked_sub(1) else { return Ok(None) };
            self.to_map = left;
            let mapping = map(host, table, interfaces, process)?;
            // What was asked for is of the namespace that the process was in then: that may have been another one.
            let namespace = process.namespace(&process.open_file("net/dev")?, true);
            if namespace != interfaces.owner().map(|(_, namespace)| namespace) {
                interfaces.unmap();
                return Ok(None);
            }
            let is_counted = |row: &Interface| row.end.is_some_and(|end| table.counters(end).is_some());
            if matches!(mapping, Mapping::Links { .. }) && !interfaces.rows().iter().all(is_counted) {
                // A link that is younger than the dump: there is nothing to compare with yet.
                interfaces.unmap();
                return Ok(None);
            }
            interfaces.settle(mapping, table, self.now, self.turn);
        }
        let mapping @ Mapping::Links { .. } = interfaces.mapping() else { return Ok(None) };
        let Some(difference) = interfaces.difference(table) else {
            interfaces.settle(mapping, table, self.now, self.turn);
            return Ok(None);
        };
        // An end that was moved or made anew between the dump and the file has said so by now.
        let then = table.now();
        listen(&mut host.netlink, table)?;
        interfaces.unmap();
        Ok((table.now() == then).then_some(difference))
    }

    /// The kernel counts otherwise than we know: files from now on.
    fn distrust(&mut self, difference: &Difference, interfaces: &Interfaces) {
        let Difference { interface, column, before, link, after } = difference;
        warn!(
            interface,
            column,
            before,
            link,
            after,
            pid = interfaces.owner().map(|(pid, _)| pid),
            "the host's end of a veth pair counts otherwise than net/dev before and after; network counters are read from a \
             file per container from now on (please report this with the kernel's version)"
        );
        self.own.count_read_error("rtnetlink", "differs");
        self.state = State::Off;
        self.is_fresh = false;
    }
}

fn fill(netlink: &mut Netlink, table: &mut Table) -> io::Result<()> {
    table.replace(&netlink.links()?);
    Ok(())
}

/// Takes notices in. Where some were lost, everything is looked at anew.
fn listen(netlink: &mut Netlink, table: &mut Table) -> io::Result<()> {
    match netlink.notices(|notice| table.tell(notice))? {
        Drained::Whole => Ok(()),
        Drained::Lost => fill(netlink, table),
    }
}

/// Finds the link of each interface. Each is asked for once more: what the table says of a pair may be late.
fn map(host: &mut Host, table: &Table, interfaces: &mut Interfaces, process: &Process) -> io::Result<Mapping> {
    let namespace = host.namespace_of(process)?;
    let files = Mapping::Files { namespace };
    let Some(namespace) = namespace else { return Ok(files) };
    let mut ends: Vec<(u32, End)> = Vec::new();
    for (link, end) in table.reaching(namespace) {
        if host.netlink.link(link.index)? != Some(link) {
            return Ok(Mapping::Unknown);
        }
        ends.extend(link.pair.map(|pair| (pair.peer, end)));
    }
    if ends.len() != interfaces.rows().len() {
        return Ok(files);
    }
    let mut igmp = Vec::new();
    process.open_file("net/igmp")?.read_to_end(&mut igmp)?;
    let name_of = |peer: u32| numbered(&igmp).find(|(index, _)| *index == peer).map(|(_, name)| name);
    for row in interfaces.rows_mut() {
        row.end = ends.iter().find(|(peer, _)| name_of(*peer) == Some(&*row.name)).map(|(_, end)| *end);
        if row.end.is_none() {
            return Ok(files);
        }
    }
    Ok(Mapping::Links { namespace })
}

#[cfg(test)]
mod tests;
