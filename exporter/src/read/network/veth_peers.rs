//! Network counters of all containers from one dump of the host's links.
//!
//! The host's end of a veth pair counts the same bytes and packets as the container's end, with receive and transmit swapped. If
//! every interface of a container is an end of such a pair, one dump for the whole host replaces a file per container.
//!
//! The file is still read
//! - of all other containers, and of all containers on a host where the dump would cost more;
//! - for drops and errors, which only the file has: when the host's end shows new ones, and at intervals;
//! - after an event of a link that reaches into the container's namespace.
//!
//! `report` decides by this module which files to read. `interfaces` has the state of each container.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::metrics::{Collector, SelfMetrics};
use crate::read::files::open_files::reason;
use crate::read::network::netlink::{Counters, Drained, Netlink};
use crate::read::process::Process;

use super::interfaces::{Difference, Interface, Interfaces, PeerMap, ifindices};
use super::link_table::{LinkTable, PeerEnd};
use super::namespaces::{HostNetns, LinkError};

/// Minimum number of containers. With fewer, the files cost less than the dump and its checks.
const MIN_CONTAINERS: usize = 8;
/// Maximum number of links per container. With more, the files cost less than a dump of all links.
const MAX_LINKS_EACH: usize = 16;
/// Number of containers whose peers are searched in one pass. A search takes three requests, and at start there may be
/// thousands of containers.
const MAPPED_AT_ONCE: usize = 128;
/// Fraction of the containers whose peers are searched in one pass, if that is more.
const MAPPED_PART: usize = 16;
/// Time until the next attempt after a failure.
const RETRY: Duration = Duration::from_mins(5);

/// Values of the label `path` of [`SelfMetrics::read_path`].
const PATHS: [&str; 2] = ["veth_peers", "file"];

/// The host's ends of veth pairs, whose counters replace files of containers.
#[derive(Debug)]
pub(crate) struct VethPeers {
    procfs: PathBuf,
    self_metrics: SelfMetrics,
    state: State,
    /// Whether this pass has a dump.
    is_fresh: bool,
    now: Instant,
    /// Number of passes so far.
    turn: u32,
    /// Number of containers whose peers may still be searched in this pass.
    to_map: usize,
    /// Number of containers by read path in this pass.
    served: [usize; PATHS.len()],
    /// Why no dump is used, until it is logged.
    unlogged: Option<LinkError>,
}

#[derive(Debug)]
enum State {
    /// Not tried yet, or failed: tried again after `until`. Open sockets are kept for that, because opening them may need
    /// privileges that this process drops after its start.
    Closed { until: Option<Instant>, logged: bool, host: Option<Box<HostNetns>> },
    /// In use, in passes in which a dump is cheaper.
    Open { host: Box<HostNetns>, table: LinkTable },
    /// Never used: for a capture, or because the kernel counts differently.
    Off,
}

impl VethPeers {
    /// Returns the veth peers on the host that procfs shows. They are `Off` for a capture.
    pub(crate) fn new(procfs: &Path, live: bool, self_metrics: SelfMetrics) -> Self {
        let state = if live { State::Closed { until: None, logged: false, host: None } } else { State::Off };
        let now = Instant::now();
        let procfs = procfs.to_owned();
        Self { procfs, self_metrics, state, is_fresh: false, now, turn: 0, to_map: 0, served: [0; 2], unlogged: None }
    }

    /// Opens the sockets at start, while this process has the privileges that this may need.
    pub(crate) fn prepare(&mut self) {
        if let State::Closed { host, .. } = &mut self.state {
            *host = HostNetns::open(&self.procfs).ok().map(Box::new);
        }
    }

    /// Begins a pass: dumps the links if that pays for so many containers that they may serve ([`VethPeers::is_candidate`]).
    pub(crate) fn begin(&mut self, candidates: usize, now: Instant) {
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
        // Events are read after the counters, so that a link that changed before it was counted has an event.
        match dumped.and_then(|()| listen(&mut host.netlink, table)) {
            Ok(()) => self.is_fresh = pays,
            Err(error) => self.fail(&error),
        }
    }

    /// Opens the sockets if they are closed and an attempt is due, and dumps all links.
    fn open(&mut self) {
        let State::Closed { until, logged, host } = &mut self.state else { return };
        let (until, logged) = (*until, *logged);
        if until.is_some_and(|until| self.now < until) {
            return;
        }
        let mut table = LinkTable::default();
        let sockets = host.take().map_or_else(|| HostNetns::open(&self.procfs).map(Box::new), Ok);
        let opened = sockets.and_then(|mut host| {
            dump_links(&mut host.netlink, &mut table).map_err(|source| LinkError::Socket { source })?;
            Ok(host)
        });
        match opened {
            Ok(host) => {
                info!(
                    links = table.len(),
                    "reading network counters from one dump of the host's links where that costs less"
                );
                self.state = State::Open { host, table };
            }
            Err(error) => {
                self.self_metrics.count_read_error("rtnetlink", error.reason());
                self.unlogged = Some(error).filter(|_| !logged);
                self.state = State::Closed { until: Some(self.now + RETRY), logged: true, host: None };
            }
        }
    }

    /// Reads files until the next attempt.
    fn fail(&mut self, error: &io::Error) {
        warn!(%error, again_in = ?RETRY, "cannot dump the host's links; reading a file per container for network counters");
        self.self_metrics.count_read_error("rtnetlink", reason(error));
        self.is_fresh = false;
        let host = match std::mem::replace(&mut self.state, State::Off) {
            State::Open { host, .. } => Some(host),
            State::Closed { host, .. } => host,
            State::Off => None,
        };
        self.state = State::Closed { until: Some(self.now + RETRY), logged: true, host };
    }

    /// Returns the index of the container whose file the next pass reads as well, to compare both. None if the last pass had no
    /// dump.
    pub(crate) fn turn(&self, containers: usize) -> Option<usize> {
        usize::try_from(self.turn).ok()?.checked_rem(containers).filter(|_| self.is_fresh)
    }

    /// Returns whether veth peers may serve a container, as far as is known.
    pub(crate) fn is_candidate(&self, interfaces: &Interfaces) -> bool {
        match interfaces.mapping() {
            PeerMap::Unknown | PeerMap::VethPeers { .. } => true,
            PeerMap::Files { .. } => interfaces.is_due(self.now),
        }
    }

    /// Returns whether veth peers serve a container in this pass.
    pub(crate) fn serve(&self, interfaces: &Interfaces, process: u32) -> bool {
        let State::Open { table, .. } = &self.state else { return false };
        self.is_fresh && interfaces.is_served(process, table, self.now)
    }

    /// Returns the counters of an interface's peer in this pass.
    pub(crate) fn counters(&self, interface: &Interface) -> Option<&Counters> {
        let State::Open { table, .. } = &self.state else { return None };
        interface.end.and_then(|end| table.counters(end))
    }

    /// Counts a container that was read, by its veth peers or by its file.
    pub(crate) fn count(&mut self, by_peers: bool) {
        let [peers, files] = &mut self.served;
        *if by_peers { peers } else { files } += 1;
    }

    /// Ends a pass: publishes the read paths, and logs why no dump is used. With `no_host_pidns` no file is read either, which
    /// the process listing logs.
    pub(crate) fn end(&mut self, no_host_pidns: bool) {
        if let Some(error) = self.unlogged.take_if(|_| !no_host_pidns) {
            info!(reason = %error, "reading a file per container for network counters, which costs more and gives the same values");
        }
        for (path, served) in PATHS.iter().zip(self.served) {
            let labels = [Collector::Network.name(), path];
            self.self_metrics.read_path.with_label_values(&labels).set(i64::try_from(served).unwrap_or(i64::MAX));
        }
    }

    /// Searches the peers of a container whose file was just read, if that is necessary, and compares their counters with the
    /// file.
    pub(crate) fn learn(&mut self, interfaces: &mut Interfaces, process: &Process) {
        if !self.is_fresh || interfaces.owner().is_none() {
            return;
        }
        match self.check(interfaces, process) {
            Ok(None) => {}
            Ok(Some(difference)) => self.distrust(&difference, interfaces),
            // The process may have ended, which the next pass notices. If the socket does not answer, the next dump fails.
            Err(error) => {
                debug!(pid = process.pid, %error, "cannot find the links of a container");
                interfaces.unmap();
            }
        }
    }

    /// Returns a difference between the peers and the file.
    fn check(&mut self, interfaces: &mut Interfaces, process: &Process) -> io::Result<Option<Difference>> {
        let State::Open { host, table } = &mut self.state else { return Ok(None) };
        if interfaces.needs_mapping(table, self.now) {
            let Some(left) = self.to_map.checked_sub(1) else { return Ok(None) };
            self.to_map = left;
            let mapping = map(host, table, interfaces, process)?;
            // The process may have entered another namespace since its file was read.
            let namespace = process.namespace(&process.open_file("net/dev")?, true);
            if namespace != interfaces.owner().map(|(_, namespace)| namespace) {
                interfaces.unmap();
                return Ok(None);
            }
            let is_counted = |row: &Interface| row.end.is_some_and(|end| table.counters(end).is_some());
            if matches!(mapping, PeerMap::VethPeers { .. }) && !interfaces.rows().iter().all(is_counted) {
                // A link is newer than the dump: there is nothing to compare yet.
                interfaces.unmap();
                return Ok(None);
            }
            interfaces.settle(mapping, table, self.now, self.turn);
        }
        let mapping @ PeerMap::VethPeers { .. } = interfaces.mapping() else { return Ok(None) };
        let Some(difference) = interfaces.difference(table) else {
            interfaces.settle(mapping, table, self.now, self.turn);
            return Ok(None);
        };
        // If a peer was moved or replaced between dump and file, an event has arrived by now, and the difference is none.
        let then = table.last_event();
        listen(&mut host.netlink, table)?;
        interfaces.unmap();
        Ok((table.last_event() == then).then_some(difference))
    }

    /// Stops using veth peers for good, because the kernel counts differently than expected.
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
        self.self_metrics.count_read_error("rtnetlink", "differs");
        self.state = State::Off;
        self.is_fresh = false;
    }
}

/// Replaces the table by a dump of all links.
fn dump_links(netlink: &mut Netlink, table: &mut LinkTable) -> io::Result<()> {
    table.replace(&netlink.links()?);
    Ok(())
}

/// Applies the events since the last call. If some were lost, dumps all links.
fn listen(netlink: &mut Netlink, table: &mut LinkTable) -> io::Result<()> {
    match netlink.events(|event| table.apply(event))? {
        Drained::Whole => Ok(()),
        Drained::Lost => dump_links(netlink, table),
    }
}

/// Finds the peer of each interface. The kernel confirms each link, because the table may be outdated.
fn map(host: &mut HostNetns, table: &LinkTable, interfaces: &mut Interfaces, process: &Process) -> io::Result<PeerMap> {
    let nsid = host.nsid_of(process)?;
    let files = PeerMap::Files { nsid };
    let Some(nsid) = nsid else { return Ok(files) };
    let mut ends: Vec<(u32, PeerEnd)> = Vec::new();
    for (link, end) in table.reaching(nsid) {
        if host.netlink.link(link.index)? != Some(link) {
            return Ok(PeerMap::Unknown);
        }
        ends.extend(link.pair.map(|pair| (pair.peer, end)));
    }
    if ends.len() != interfaces.rows().len() {
        return Ok(files);
    }
    let mut igmp = Vec::new();
    process.open_file("net/igmp")?.read_to_end(&mut igmp)?;
    let name_of = |peer: u32| ifindices(&igmp).find(|(index, _)| *index == peer).map(|(_, name)| name);
    for row in interfaces.rows_mut() {
        row.end = ends.iter().find(|(peer, _)| name_of(*peer) == Some(&*row.name)).map(|(_, end)| *end);
        if row.end.is_none() {
            return Ok(files);
        }
    }
    Ok(PeerMap::VethPeers { nsid })
}

#[cfg(test)]
mod tests;
