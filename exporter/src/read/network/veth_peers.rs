//! Network counters of all containers from one dump of the host's links.
//!
//! The host's end of a veth pair counts the same bytes and packets as the container's end, with receive and transmit swapped. Where
//! every interface of a container is an end of such a pair, one dump for the whole host replaces a file per container. The file is
//! read for all other containers; on a host where the dump would cost more; for drops and errors, which only the file has (when the
//! host's end shows new ones, and at intervals); and for a container into whose namespace a link reaches that had an event.
//!
//! `report` calls this and reads the files. `interfaces` has the state of each container.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::metrics::{Collector, SelfMetrics};
use crate::read::network::netlink::{Counters, Drained, Netlink};
use crate::read::process::Process;

use super::host_netns::{Host, LinkError};
use super::interfaces::{Difference, Interface, Interfaces, PeerMap, ifindices};
use super::link_table::{LinkTable, PeerEnd};

/// Minimum number of containers; with fewer, the files cost less than the dump and its checks.
const MIN_CONTAINERS: usize = 8;
/// Maximum number of links per container; with more of them, the files cost less than a dump of all links.
const MAX_LINKS_EACH: usize = 16;
/// Containers whose links are searched in one pass: this number, or this fraction of all. Each search takes three
/// requests, and there may be thousands of containers at start.
const MAPPED_AT_ONCE: usize = 128;
const MAPPED_PART: usize = 16;
/// Time until the next attempt after a dump failed.
const RETRY: Duration = Duration::from_mins(5);

/// The values of the label `path` of [`SelfMetrics::read_path`].
const PATHS: [&str; 2] = ["veth_peers", "file"];

/// The host's ends of veth pairs, whose counters replace files.
#[derive(Debug)]
pub(crate) struct VethPeers {
    procfs: PathBuf,
    self_metrics: SelfMetrics,
    state: State,
    /// Whether this pass has a dump.
    is_fresh: bool,
    now: Instant,
    turn: u32,
    /// Number of containers whose links may still be searched in this pass.
    to_map: usize,
    /// Containers by path in this pass.
    served: [usize; PATHS.len()],
    /// Why links are not used, until it is logged.
    unlogged: Option<LinkError>,
}

#[derive(Debug)]
enum State {
    /// Not tried yet, or not before some time. Earlier sockets are reused, because opening them may take privileges
    /// that this process has dropped.
    Closed { until: Option<Instant>, logged: bool, host: Option<Box<Host>> },
    /// In use where a dump is cheaper.
    Open { host: Box<Host>, table: LinkTable },
    /// Not used: a capture, or a kernel that counts differently.
    Off,
}

impl VethPeers {
    /// Returns the links of the host of this procfs; a capture has none.
    pub(crate) fn new(procfs: &Path, live: bool, self_metrics: SelfMetrics) -> Self {
        let state = if live { State::Closed { until: None, logged: false, host: None } } else { State::Off };
        let now = Instant::now();
        let procfs = procfs.to_owned();
        Self { procfs, self_metrics, state, is_fresh: false, now, turn: 0, to_map: 0, served: [0; 2], unlogged: None }
    }

    /// Opens the sockets before the first pass, while this process has the privileges that this may take.
    pub(crate) fn prepare(&mut self) {
        if let State::Closed { host, .. } = &mut self.state {
            *host = Host::open(&self.procfs).ok().map(Box::new);
        }
    }

    /// Begins a pass. `candidates` is the number of containers whose interfaces may all have links.
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
        // Events are read after the counters: a link that changed before it was counted then has an event.
        match dumped.and_then(|()| listen(&mut host.netlink, table)) {
            Ok(()) => self.is_fresh = pays,
            Err(error) => self.fail(&error),
        }
    }

    fn open(&mut self) {
        let State::Closed { until, logged, host } = &mut self.state else { return };
        let (until, logged) = (*until, *logged);
        if until.is_some_and(|until| self.now < until) {
            return;
        }
        let mut table = LinkTable::default();
        let made = host.take().map_or_else(|| Host::open(&self.procfs).map(Box::new), Ok);
        let opened = made.and_then(|mut host| {
            fill(&mut host.netlink, &mut table).map_err(|source| LinkError::Socket { source })?;
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
                self.self_metrics.count_read_error("rtnetlink", error.word());
                self.unlogged = Some(error).filter(|_| !logged);
                self.state = State::Closed { until: Some(self.now + RETRY), logged: true, host: None };
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        warn!(%error, again_in = ?RETRY, "cannot dump the host's links; reading a file per container for network counters");
        self.self_metrics.count_read_error("rtnetlink", crate::read::files::open_files::reason(error));
        self.is_fresh = false;
        let host = match std::mem::replace(&mut self.state, State::Off) {
            State::Open { host, .. } => Some(host),
            State::Closed { host, .. } => host,
            State::Off => None,
        };
        self.state = State::Closed { until: Some(self.now + RETRY), logged: true, host };
    }

    /// Returns the index of the container that the next pass reads by both paths, of this many; none if links were not
    /// used in the last pass.
    pub(crate) fn turn(&self, containers: usize) -> Option<usize> {
        usize::try_from(self.turn).ok()?.checked_rem(containers).filter(|_| self.is_fresh)
    }

    /// Returns whether links may serve a container, by its file.
    pub(crate) fn is_candidate(&self, interfaces: &Interfaces) -> bool {
        match interfaces.mapping() {
            PeerMap::Unknown | PeerMap::VethPeers { .. } => true,
            PeerMap::Files { .. } => interfaces.is_due(self.now),
        }
    }

    /// Returns whether its links serve a container in this pass.
    pub(crate) fn serve(&self, interfaces: &Interfaces, process: u32) -> bool {
        let State::Open { table, .. } = &self.state else { return false };
        self.is_fresh && interfaces.is_served(process, table, self.now)
    }

    /// Returns the counters of the host's end in this pass.
    pub(crate) fn counters(&self, interface: &Interface) -> Option<&Counters> {
        let State::Open { table, .. } = &self.state else { return None };
        interface.end.and_then(|end| table.counters(end))
    }

    /// Counts a container that was read.
    pub(crate) fn count(&mut self, by_links: bool) {
        let [links, files] = &mut self.served;
        *if by_links { links } else { files } += 1;
    }

    /// Ends a pass: publishes the read paths. Without the host's pid namespace no file is read either, which is logged
    /// by the process listing.
    pub(crate) fn end(&mut self, no_host_pidns: bool) {
        if let Some(error) = self.unlogged.take_if(|_| !no_host_pidns) {
            info!(reason = %error, "reading a file per container for network counters, which costs more and gives the same values");
        }
        for (path, served) in PATHS.iter().zip(self.served) {
            let labels = [Collector::Network.name(), path];
            self.self_metrics.read_path.with_label_values(&labels).set(i64::try_from(served).unwrap_or(i64::MAX));
        }
    }

    /// Checks the links of a container whose file has just been read: finds them, and compares their counters.
    pub(crate) fn learn(&mut self, interfaces: &mut Interfaces, process: &Process) {
        if !self.is_fresh || interfaces.owner().is_none() {
            return;
        }
        match self.check(interfaces, process) {
            Ok(None) => {}
            Ok(Some(difference)) => self.distrust(&difference, interfaces),
            // The process may have ended, which the next pass notices. A socket that does not answer makes the next
            // dump fail.
            Err(error) => {
                debug!(pid = process.pid, %error, "cannot find the links of a container");
                interfaces.unmap();
            }
        }
    }

    fn check(&mut self, interfaces: &mut Interfaces, process: &Process) -> io::Result<Option<Difference>> {
        let State::Open { host, table } = &mut self.state else { return Ok(None) };
        if interfaces.needs_mapping(table, self.now) {
            let Some(left) = self.to_map.checked_sub(1) else { return Ok(None) };
            self.to_map = left;
            let mapping = map(host, table, interfaces, process)?;
            // The answer is about the process's namespace at that time, which may have changed.
            let namespace = process.namespace(&process.open_file("net/dev")?, true);
            if namespace != interfaces.owner().map(|(_, namespace)| namespace) {
                interfaces.unmap();
                return Ok(None);
            }
            let is_counted = |row: &Interface| row.end.is_some_and(|end| table.counters(end).is_some());
            if matches!(mapping, PeerMap::VethPeers { .. }) && !interfaces.rows().iter().all(is_counted) {
                // A link that is newer than the dump: there is nothing to compare yet.
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
        // If the end was moved or replaced between dump and file, an event has arrived by now.
        let then = table.last_event();
        listen(&mut host.netlink, table)?;
        interfaces.unmap();
        Ok((table.last_event() == then).then_some(difference))
    }

    /// Stops using links: the kernel counts differently than expected.
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

fn fill(netlink: &mut Netlink, table: &mut LinkTable) -> io::Result<()> {
    table.replace(&netlink.links()?);
    Ok(())
}

/// Applies events. If some were lost, all links are dumped again.
fn listen(netlink: &mut Netlink, table: &mut LinkTable) -> io::Result<()> {
    match netlink.events(|event| table.apply(event))? {
        Drained::Whole => Ok(()),
        Drained::Lost => fill(netlink, table),
    }
}

/// Finds the link of each interface. Each is confirmed by the kernel, as the table may be outdated.
fn map(host: &mut Host, table: &LinkTable, interfaces: &mut Interfaces, process: &Process) -> io::Result<PeerMap> {
    let namespace = host.namespace_of(process)?;
    let files = PeerMap::Files { namespace };
    let Some(namespace) = namespace else { return Ok(files) };
    let mut ends: Vec<(u32, PeerEnd)> = Vec::new();
    for (link, end) in table.reaching(namespace) {
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
    Ok(PeerMap::VethPeers { namespace })
}

#[cfg(test)]
mod tests;
