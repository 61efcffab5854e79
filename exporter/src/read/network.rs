//! Whose interfaces are whose: each network namespace is reported once, under its owner, and the host's under the host.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::container::Container;
use super::fill::fill_interfaces;
use super::process::{NetworkNamespace, host_namespace};
use super::reader::{Pass, Reader, reason};
use super::timing::{Timing, lap};
use crate::metrics::{Collector, Dimension};
use crate::name::{Names, NetworkMode};

/// The namespaces met in a pass.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// The host's own.
    host: Option<NetworkNamespace>,
    /// Who reports a namespace: place among the containers, and process number.
    owners: HashMap<NetworkNamespace, (usize, u32)>,
    /// A process of another container than our own could be taken hold of in this pass.
    pub(super) visible: bool,
}

impl Namespaces {
    /// A pass begins.
    pub(super) fn begin(&mut self, procfs: &Path, live: bool) {
        self.owners.clear();
        self.visible = false;
        self.host = host_namespace(procfs, live);
    }
}

impl Reader {
    pub(super) fn read_network(
        &mut self,
        containers: &mut [Container],
        place: usize,
        pass: Pass<'_>,
        timing: &mut Timing,
    ) {
        let mut clock = Instant::now();
        let Some(file) = self.open_network(containers, place, pass.names) else {
            lap(&mut clock, Collector::Network, timing);
            return;
        };
        let Some(container) = containers.get_mut(place) else { return };
        if pass.collectors.has(Collector::Network) {
            let filled = self.files.read_open(&file).map(|text| {
                fill_interfaces(text, &self.plan, &mut container.sample, &mut self.labels, |name| name != b"lo")
            });
            match filled {
                Ok(malformed) => (0..malformed).for_each(|_| self.own.count_read_error("net/dev", "malformed")),
                Err(error) => self.lost_process(containers, place, &error),
            }
        }
        lap(&mut clock, Collector::Network, timing);
        let Some(container) = containers.get_mut(place) else { return };
        if pass.collectors.has(Collector::Tcp) {
            self.read_sockets(container);
            lap(&mut clock, Collector::Tcp, timing);
        }
    }

    /// The container's `net/dev`, open, where the container is the one to report it.
    fn open_network(&mut self, containers: &mut [Container], place: usize, names: &Names) -> Option<File> {
        let container = containers.get(place)?;
        if borrows_network(container, containers, names) {
            return None;
        }
        let process = container.process.as_ref()?;
        let file = match process.open_file("net/dev") {
            Ok(file) => file,
            Err(error) => {
                self.lost_process(containers, place, &error);
                return None;
            }
        };
        let (pid, namespace) = (process.pid, process.namespace(&file, self.live));
        if namespace.is_some() && namespace == self.namespaces.host {
            return None;
        }
        self.claim(containers, place, pid, namespace).then_some(file)
    }

    /// A process that has ended is an outcome; anything else is a failure to be seen.
    pub(super) fn lost_process(&self, containers: &mut [Container], place: usize, error: &std::io::Error) {
        let gone = matches!(
            error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
            Some(rustix::io::Errno::SRCH | rustix::io::Errno::NOENT | rustix::io::Errno::INVAL)
        );
        self.count_error("net/dev", if gone { "vanished" } else { reason(error) });
        if let Some(container) = containers.get_mut(place) {
            container.process = None;
        }
    }

    /// Of several containers in one namespace, the one whose process is the oldest (its number the lowest) reports it:
    /// the namespace was made for it. Where the engine tells who borrows, the borrowers never come here.
    fn claim(
        &mut self,
        containers: &mut [Container],
        place: usize,
        pid: u32,
        namespace: Option<NetworkNamespace>,
    ) -> bool {
        let Some(namespace) = namespace else { return true };
        match self.namespaces.owners.get(&namespace).copied() {
            Some((_, owner)) if owner <= pid => return false,
            Some((before, _)) => {
                if let Some(container) = containers.get_mut(before) {
                    container.sample.table_mut(Dimension::Interface).clear();
                }
            }
            None => {}
        }
        self.namespaces.owners.insert(namespace, (place, pid));
        true
    }
}

/// Whether the engine says that the container's network is the host's, or that of another container that is there.
fn borrows_network(container: &Container, containers: &[Container], names: &Names) -> bool {
    let meta = container.id.and_then(|id| names.containers.get(&id));
    match meta.map(|meta| &meta.network_mode) {
        Some(NetworkMode::Host) => true,
        Some(NetworkMode::Container(owner)) => containers.iter().any(|other| other.id == Some(*owner)),
        _ => false,
    }
}
