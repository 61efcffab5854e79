//! Reads the interfaces and sockets of each network namespace once: the host's for the host, every other one for one of the
//! containers in it.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use tracing::warn;

use super::namespaces::{FULL_READ_INTERVAL, HostInterfaces, Reporter};
use super::sockets::{SKIPPED, SocketTurns, TIME, Totals, totals};
use crate::metrics::{Collector, CollectorSet, Dimension};
use crate::name::{Names, NetworkMode};
use crate::read::container::Container;
use crate::read::files::open_files::{Files, Outcome, count_malformed, reason};
use crate::read::host::NET_DEV;
use crate::read::process::NetnsId;
use crate::read::reader::{Pass, Reader};
use crate::read::sample::fill::{fill_interface, fill_interfaces};
use crate::read::timing::Timing;

/// Number of visits after which it is checked whether a process is still in the host's network namespace.
const HOST_NETNS_VISITS: u64 = 16;

impl Reader {
    /// Dumps the host's links, after the first of two readings of one container's file. Runs before the containers are visited.
    pub(crate) fn begin_network(
        &mut self,
        containers: &mut [Container],
        pass: Pass<'_>,
        now: Instant,
        timing: &mut Timing,
    ) {
        if !pass.collectors.has(Collector::Network) || pass.is_narrow(containers.len()) {
            self.links.begin(0, now);
            return;
        }
        let index = self.links.turn(containers.len());
        if let Some(container) = index.and_then(|index| containers.get_mut(index)) {
            self.read_ahead(container);
        }
        let candidates = containers.iter().filter(|container| self.links.is_candidate(&container.interfaces)).count();
        self.links.begin(candidates, now);
        timing.attribute_time_to(Collector::Network);
    }

    /// Reads the file of a container that its veth peers serve. The visit reads it again, and the dump must lie in between.
    fn read_ahead(&mut self, container: &mut Container) {
        let Some(process) = container.process.as_ref().filter(|_| container.interfaces.has_links()) else { return };
        let Ok(file) = process.open_file("net/dev") else { return };
        let owner = process.namespace(&file, self.live).map(|namespace| (process.pid, namespace));
        if let Ok(text) = self.files.read_open(&file) {
            // The second reading counts malformed lines.
            container.interfaces.take(owner, text);
        }
        container.interfaces.expire();
    }

    /// Fills the interfaces of a container from its veth peers or from its file, if it reports its namespace.
    pub(crate) fn report_network(&mut self, containers: &mut [Container], index: usize, pass: Pass<'_>) {
        if let Some(container) = containers.get_mut(index) {
            container.sockets.is_reported = false;
        }
        let Some(container) = containers.get(index) else { return };
        if shares_netns(container, containers, pass.names) {
            return;
        }
        if let Some((pid, namespace)) = self.served_by_peers(container) {
            let is_owner = self.elect_netns_reporter(containers, index, pid, Some(namespace));
            if let Some(container) = containers.get_mut(index).filter(|_| is_owner) {
                self.links.count(true);
                self.fill_from_peers(container);
            }
            return;
        }
        let Some(file) = self.open_network(containers, index) else { return };
        if pass.collectors.has(Collector::Network) {
            self.read_interfaces(containers, index, &file);
        }
    }

    /// Returns process and namespace of a container that its veth peers serve.
    fn served_by_peers(&self, container: &Container) -> Option<(u32, NetnsId)> {
        let process = container.process.as_ref()?;
        container.interfaces.owner().filter(|_| self.links.serve(&container.interfaces, process.pid))
    }

    fn fill_from_peers(&mut self, container: &mut Container) {
        for interface in container.interfaces.rows() {
            let Some(counters) = self.links.counters(interface) else { continue };
            fill_interface(&interface.name, &self.plan, &mut container.sample, &mut self.labels, |number| {
                interface.column(number, counters)
            });
        }
    }

    /// Fills the interfaces of a container from its file, and finds out whether veth peers can replace the file from now on.
    fn read_interfaces(&mut self, containers: &mut [Container], index: usize, file: &File) {
        let Some(container) = containers.get_mut(index) else { return };
        let Container { interfaces, process, sample, .. } = container;
        let Some(process) = process.as_ref() else { return };
        let owner = process.namespace(file, self.live).map(|namespace| (process.pid, namespace));
        let malformed = match self.files.read_open(file) {
            Ok(text) => interfaces.take(owner, text),
            Err(error) => return self.drop_process(containers, index, &error),
        };
        count_malformed("net/dev", malformed, &self.self_metrics);
        for interface in interfaces.rows() {
            fill_interface(&interface.name, &self.plan, sample, &mut self.labels, |number| interface.counter(number));
        }
        self.links.count(false);
        self.links.learn(interfaces, process);
    }

    /// Opens the container's `net/dev`, if the container reports its namespace.
    ///
    /// A process in the host's namespace reports nothing, and is checked again after [`HOST_NETNS_VISITS`] visits. One that
    /// enters another namespace reports nothing until then.
    fn open_network(&mut self, containers: &mut [Container], index: usize) -> Option<File> {
        let container = containers.get_mut(index)?;
        let process = container.process.as_mut()?;
        if let Some(left) = process.host_netns_visits.and_then(|visits| visits.checked_sub(1)) {
            process.host_netns_visits = Some(left);
            return None;
        }
        let file = match process.open_file("net/dev") {
            Ok(file) => file,
            Err(error) => {
                self.drop_process(containers, index, &error);
                return None;
            }
        };
        let (pid, namespace) = (process.pid, process.namespace(&file, self.live));
        if namespace.is_some() && namespace == self.namespaces.host {
            // The first check is staggered, so that those of containers that were found together are. A capture may be edited,
            // so it is always checked.
            let is_first = process.host_netns_visits.is_none();
            let visits = if is_first { container.generation % HOST_NETNS_VISITS } else { HOST_NETNS_VISITS - 1 };
            process.host_netns_visits = self.live.then_some(visits);
            return None;
        }
        process.host_netns_visits = None;
        // On a live host, a namespace that cannot be distinguished from the host's is left out. A capture may lack namespaces.
        if self.live && (namespace.is_none() || self.namespaces.host.is_none()) {
            return None;
        }
        self.elect_netns_reporter(containers, index, pid, namespace).then_some(file)
    }

    /// Reads the interfaces of the host itself.
    pub(crate) fn read_host_network(&mut self, host: &mut Container, now: Instant) {
        let known = self.host_interfaces.filter(|known| self.live && now < known.due);
        if known.is_some_and(|known| !known.are_first) {
            self.fill_host_interfaces(host, Files::read_once);
            return;
        }
        if known.is_some_and(|known| self.fill_host_interfaces(host, Files::read_first) == known.count) {
            return;
        }
        self.real_interfaces.forget();
        let first = self.fill_host_interfaces(host, Files::read_first);
        let count = self.fill_host_interfaces(host, Files::read_once);
        self.host_interfaces = Some(HostInterfaces { count, are_first: first == count, due: now + FULL_READ_INTERVAL });
    }

    /// Fills the host's real interfaces from one reading of `net/dev`. Returns their number.
    fn fill_host_interfaces(
        &mut self,
        host: &mut Container,
        read: impl for<'f> Fn(&'f mut Files, &Path) -> Outcome<'f>,
    ) -> usize {
        let count = Cell::new(0);
        let interfaces = &self.real_interfaces;
        let is_own = |name: &[u8]| {
            let is_own = interfaces.is_real(name);
            count.set(count.get() + usize::from(is_own));
            is_own
        };
        for name in NET_DEV {
            host.sample.table_mut(Dimension::Interface).clear();
            if let Outcome::Text(text) = read(&mut self.files, &self.procfs.join(name)) {
                fill_interfaces(text, &self.plan, &mut host.sample, &mut self.labels, is_own);
                break;
            }
        }
        count.get()
    }

    /// Drops the process of a container after an error, and counts the error.
    fn drop_process(&self, containers: &mut [Container], index: usize, error: &io::Error) {
        let gone = matches!(
            error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
            Some(rustix::io::Errno::SRCH | rustix::io::Errno::NOENT | rustix::io::Errno::INVAL)
        );
        self.count_error("net/dev", if gone { "vanished" } else { reason(error) });
        if let Some(container) = containers.get_mut(index) {
            container.process = None;
        }
    }

    /// Returns whether a container reports a namespace, as far as the containers visited so far decide. Of several containers in
    /// one namespace the first reporter does, while it exists; else the one with the oldest process (the lowest number), because
    /// the namespace was created for it. Containers that share a namespace by the engine's report are left out before.
    fn elect_netns_reporter(
        &mut self,
        containers: &mut [Container],
        index: usize,
        pid: u32,
        namespace: Option<NetnsId>,
    ) -> bool {
        let Some(container) = containers.get_mut(index) else { return false };
        (container.sockets.is_reported, container.sockets.namespace) = (true, namespace);
        let (generation, Some(namespace)) = (container.generation, namespace) else { return true };
        let pass = self.namespaces.pass;
        let mut candidate = Reporter { pass, index, generation, pid, first: generation, first_since: pass };
        match self.namespaces.reporters.entry(namespace) {
            Entry::Vacant(vacant) => {
                vacant.insert(candidate);
            }
            Entry::Occupied(mut entry) => {
                let before = *entry.get();
                let is_settled = before.first_since < pass;
                let exists = |generation: u64| containers.iter().any(|container| container.generation == generation);
                if is_settled && (before.first == generation || exists(before.first)) {
                    (candidate.first, candidate.first_since) = (before.first, before.first_since);
                }
                if self.namespaces.is_partial && candidate.first != generation {
                    // This pass does not read the container that reports the namespace.
                    if let Some(container) = containers.get_mut(index) {
                        container.sockets.is_reported = false;
                    }
                    return false;
                }
                if before.pass == pass {
                    let goes_before = |one: u64, pid: u32| (!is_settled || one != before.first, pid);
                    let keeps = goes_before(before.generation, before.pid) <= goes_before(generation, pid);
                    if let Some(loser) = containers.get_mut(if keeps { index } else { before.index }) {
                        loser.sample.table_mut(Dimension::Interface).clear();
                        loser.sockets.is_reported = false;
                    }
                    if keeps {
                        return false;
                    }
                }
                entry.insert(candidate);
            }
        }
        true
    }
}

impl Reader {
    /// Reads the socket tables of the next containers until the pass's deadline. Returns whether none is left to read.
    pub(crate) fn advance_sockets(&mut self, turns: &mut SocketTurns, pass: Pass<'_>, timing: &mut Timing) -> bool {
        let wanted = pass.collectors.has(Collector::Tcp) && !self.plan.sockets.is_empty();
        let mut containers = std::mem::take(&mut self.containers);
        while wanted && turns.done < containers.len() && turns.spent < TIME {
            let before = timing.last();
            if pass.deadline.is_some_and(|deadline| before >= deadline) {
                break;
            }
            let index = (self.sockets.first + turns.done) % containers.len();
            let is_due = |container: &&mut Container| container.sockets.is_reported && pass.wants(container);
            if let Some(container) = containers.get_mut(index).filter(is_due) {
                // Near the descriptor limit no process is held open after a visit.
                if container.process.is_none() {
                    self.choose_process(container, pass.names);
                }
                self.read_sockets(container, timing);
                container.process.take_if(|process| process.permit.is_none());
            }
            turns.done += 1;
            timing.attribute_time_to(Collector::Tcp);
            turns.spent += timing.last() - before;
        }
        self.containers = containers;
        !wanted || turns.done >= self.containers.len() || turns.spent >= TIME
    }

    /// Ends the socket reading of a pass. Containers that it did not reach come first in the next pass.
    pub(crate) fn end_sockets(&mut self, turns: &SocketTurns, pass: Pass<'_>) {
        let containers = self.containers.len();
        if pass.collectors.has(Collector::Tcp) && turns.lacks(containers) {
            self.sockets.first = (self.sockets.first + turns.done) % containers;
        }
    }

    /// Reads the socket tables of one container.
    fn read_sockets(&mut self, container: &mut Container, timing: &mut Timing) {
        let Some(process) = container.process.as_ref() else { return };
        let namespace = container.sockets.namespace;
        let failed = CollectorSet::EMPTY.with(Collector::Tcp);
        if let Some(left) = container.sockets.skipped.checked_sub(1) {
            container.sockets.skipped = left;
            self.self_metrics.count_read_error("net/tcp", "too_large");
            return timing.fail(failed);
        }
        // A file shows the namespace that the process is in when it is opened. The process may have entered another one.
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
                    // The kernel has no IPv6.
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
                self.self_metrics.count_read_error("net/tcp", reason(&error));
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

/// Returns whether the engine reports that the container shares the network of the host or of another existing
/// container.
fn shares_netns(container: &Container, containers: &[Container], names: &Names) -> bool {
    match container.info(names).map(|info| &info.network_mode) {
        Some(NetworkMode::Host) => true,
        Some(NetworkMode::Container(owner)) => containers.iter().any(|other| other.id == Some(*owner)),
        _ => false,
    }
}
