//! The reader of one host, and its pass over all containers.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::discover::{Added, Changes, ContainerId, Hierarchy, IdFilter};
use crate::ebpf::{BlockUse, Probes};
use crate::metrics::{Collector, CollectorSet, FamilySet, SelfMetrics};
use crate::name::Names;
use crate::read::container::Container;
use crate::read::disk::disks::Disks;
use crate::read::diskstats::Devices;
use crate::read::files::open_files::Files;
use crate::read::network::namespaces::{HostInterfaces, Namespaces};
use crate::read::network::real_interfaces::RealInterfaces;
use crate::read::network::sockets::{SocketTurns, Sockets};
use crate::read::network::veth_peers::VethPeers;
use crate::read::plan::Plan;
use crate::read::sample::Labels;
use crate::read::sample::fill::fill_filesystem;
use crate::read::snapshot::Snapshots;
use crate::read::timing::{ReadPaths, Timing};
use crate::walker::Walker;

/// Reads the containers of one host.
#[derive(Debug)]
pub struct Reader {
    pub(super) plan: Plan,
    pub(super) hierarchy: Hierarchy,
    pub(super) procfs: PathBuf,
    pub(super) live: bool,
    pub(super) files: Files,
    pub(super) labels: Labels,
    pub(super) devices: Devices,
    pub(super) containers: Vec<Container>,
    /// Cgroups that are not containers.
    pub(super) others: Vec<Container>,
    /// Number of containers and other cgroups so far.
    pub(super) generations: u64,
    host: Container,
    pub(super) self_metrics: SelfMetrics,
    pub(super) probes: Option<Probes>,
    /// Copies of the kernel's counters, if this host allows them.
    pub(super) snapshots: Option<Snapshots>,
    /// For each planned file, whether it is an alternative that has counted nothing for the root cgroup, and so nothing for any
    /// container.
    pub(super) idle_alternatives: Vec<bool>,
    /// Reused memory for the block I/O of one container.
    pub(super) block_uses: Vec<BlockUse>,
    pub(super) namespaces: Namespaces,
    pub(super) links: VethPeers,
    pub(super) sockets: Sockets,
    pub(super) disks: Disks,
    pub(super) host_interfaces: Option<HostInterfaces>,
    pub(super) real_interfaces: RealInterfaces,
    /// Reused memory for paths.
    pub(super) path: PathBuf,
    /// Whether procfs shows the processes of all containers.
    pub(super) is_host_pidns: bool,
    /// Collectors whose first failure was logged.
    pub(super) logged: CollectorSet,
    pub(super) read_paths: ReadPaths,
}

/// Selection and deadline of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The collectors to read.
    pub collectors: CollectorSet,
    /// The selected families. Values that none of them needs are not read.
    pub families: FamilySet,
    /// The selected containers. The others are not read and keep their values.
    pub ids: &'a IdFilter,
    /// The engine's report on the containers.
    pub names: &'a Names,
    /// When to stop reading containers.
    pub deadline: Option<Instant>,
}

impl<'a> Pass<'a> {
    /// Returns a pass over everything that these collectors read of all containers, without a deadline.
    #[must_use]
    pub fn of_all(collectors: CollectorSet, names: &'a Names) -> Self {
        Self { collectors, families: FamilySet::of_collectors(collectors), ids: IdFilter::all(), names, deadline: None }
    }

    /// Returns whether a container is selected.
    pub(super) fn wants(&self, container: &Container) -> bool {
        self.ids.has(container.id, &container.path)
    }

    /// Returns whether sizes of layers or filesystems are wanted.
    #[must_use]
    pub fn wants_disks(&self, plan: &Plan) -> bool {
        self.collectors.has(Collector::Disk) && self.families.intersects(&plan.needs.disks)
    }

    /// Returns whether so few of the containers are selected that reading something of all of them at once costs more than it saves.
    pub(super) fn is_narrow(&self, containers: usize) -> bool {
        self.ids.count().is_some_and(|count| count <= containers / 8)
    }
}

/// Progress of a pass, which may be interrupted at a deadline and continued.
#[derive(Debug)]
pub struct Progress {
    now: Instant,
    /// Index of the next container.
    next: usize,
    /// Index of the next cgroup that is not a container.
    next_other: usize,
    /// Whether the sizes on disk are filled in.
    disks: bool,
    sockets: SocketTurns,
    timing: Timing,
}

impl Reader {
    /// Returns a reader of `hierarchy` that follows `plan`. `live` says that the trees are kernel filesystems and not a capture.
    #[must_use]
    pub fn new(
        plan: Plan,
        hierarchy: Hierarchy,
        procfs: &Path,
        live: bool,
        self_metrics: SelfMetrics,
        probes: Option<Probes>,
    ) -> Self {
        Self {
            host: Container::new(None, 0, "/".to_owned(), &plan),
            plan,
            hierarchy,
            procfs: procfs.to_owned(),
            live,
            files: Files::new(live),
            labels: Labels::default(),
            devices: Devices::new(Some(procfs), self_metrics.clone()),
            containers: Vec::new(),
            others: Vec::new(),
            generations: 0,
            links: VethPeers::new(procfs, live, self_metrics.clone()),
            sockets: Sockets::default(),
            disks: Disks::new(procfs, live, None, self_metrics.clone()),
            host_interfaces: None,
            real_interfaces: RealInterfaces::new(procfs),
            self_metrics,
            probes,
            snapshots: None,
            idle_alternatives: Vec::new(),
            block_uses: Vec::new(),
            namespaces: Namespaces::default(),
            path: PathBuf::new(),
            is_host_pidns: crate::read::host::shows_all_processes(procfs, live),
            logged: CollectorSet::EMPTY,
            read_paths: ReadPaths::default(),
        }
    }

    /// Opens files that may need privileges which this process drops after its start.
    pub fn prepare(&mut self) {
        self.links.prepare();
    }

    /// Returns the containers, in the order of their paths, with the values of the last pass.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Returns the host, with the values of the last pass.
    #[must_use]
    pub fn host(&self) -> &Container {
        &self.host
    }

    /// Returns whether the process lists of v1 are complete: they leave processes of other pid namespaces out.
    #[must_use]
    pub fn lists_all(&self) -> bool {
        self.is_host_pidns
    }

    /// Returns the trees that are read.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Returns the labels that samples refer to.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Adds new containers and removes ended ones.
    pub fn apply(&mut self, changes: Changes) {
        if changes.added.is_empty() && changes.removed.is_empty() {
            return;
        }
        let removed: HashSet<ContainerId> = changes.removed.into_iter().collect();
        self.containers.retain(|container| !container.id.is_some_and(|id| removed.contains(&id)));
        // Containers are large, so there is little spare room: for those that come one by one.
        self.containers.reserve_exact(changes.added.len().max(self.containers.len() / 16));
        for Added { id, path, named } in changes.added {
            self.generations += 1;
            let home = self.hierarchy.home(&path).unwrap_or(0);
            let container = Container::new(Some(id), self.generations, path, &self.plan);
            self.containers.push(Container { named, home, ..container });
        }
        self.containers.sort_by(|one, other| one.path.cmp(&other.path));
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.set_containers(&self.containers);
        }
    }

    /// Removes the containers whose files vanished during the last pass. Returns their ids.
    pub fn drop_ended(&mut self) -> Vec<ContainerId> {
        let mut ended = Vec::new();
        self.containers.retain(|container| {
            if !container.alive {
                ended.extend(container.id);
            }
            container.alive
        });
        ended
    }

    /// Makes the next pass read this container's limits.
    pub fn limits_changed(&mut self, id: ContainerId) {
        if let Some(container) = self.containers.iter_mut().find(|container| container.id == Some(id)) {
            container.limits_version = None;
        }
    }

    /// Reads all containers and the host, until the deadline.
    pub fn read(&mut self, pass: Pass<'_>, now: Instant) -> Timing {
        let mut progress = self.begin(pass, now);
        self.advance(&mut progress, pass);
        self.finish(&progress, pass)
    }

    /// Begins a pass: reads the values that are read for all containers at once.
    pub fn begin(&mut self, pass: Pass<'_>, now: Instant) -> Progress {
        let mut timing = Timing::start();
        if self.labels.trim() {
            self.devices.forget();
        }
        let wants_network = pass.collectors.has(Collector::Network) || pass.collectors.has(Collector::Tcp);
        self.namespaces.begin(wants_network.then_some(&*self.procfs), self.live, self.containers.len());
        self.namespaces.is_partial = !pass.ids.is_all();
        if !self.disks.begin(pass.wants_disks(&self.plan), pass.ids.has_host(), now) {
            timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        }
        self.read_ebpf_maps(pass, now, &mut timing);
        if pass.families.intersects(&self.plan.needs.devices) {
            self.begin_devices();
        }
        let mut containers = std::mem::take(&mut self.containers);
        self.take_snapshot(&mut containers, pass, &mut timing);
        self.begin_network(&mut containers, pass, now, &mut timing);
        self.containers = containers;
        Progress { now, next: 0, next_other: 0, disks: false, sockets: SocketTurns::default(), timing }
    }

    /// Reads the next containers until the deadline of the pass. Returns whether all are read.
    pub fn advance(&mut self, progress: &mut Progress, pass: Pass<'_>) -> bool {
        let mut containers = std::mem::take(&mut self.containers);
        let Progress { now, next, next_other, disks, sockets, timing } = progress;
        timing.resume();
        while *next < containers.len() && pass.deadline.is_none_or(|deadline| timing.last() < deadline) {
            if containers.get(*next).is_some_and(|container| pass.wants(container)) {
                self.read_container(&mut containers, *next, pass, *now, timing);
            }
            *next += 1;
        }
        self.containers = containers;
        if *next < self.containers.len() || !self.advance_others(next_other, pass, *now, timing) {
            return false;
        }
        if !std::mem::replace(disks, true) {
            self.end_disks(pass, *now, timing);
        }
        self.advance_sockets(sockets, pass, timing)
    }

    /// Makes the samples of an unfinished pass fit to be exposed: clears the values of earlier passes. Returns the time so far.
    pub fn interim(&mut self, progress: &Progress, pass: Pass<'_>) -> Timing {
        let unread = self.containers.get_mut(progress.next..).unwrap_or_default();
        let mut timing = progress.timing.clone();
        if !unread.is_empty() {
            timing.fail(pass.collectors);
            self.namespaces.unsettle();
        }
        for container in unread {
            container.sample.clear();
        }
        if self.clear_unread_others(progress.next_other) {
            timing.fail(pass.collectors);
        }
        self.host.sample.clear();
        if progress.sockets.lacks(self.containers.len()) {
            timing.fail(CollectorSet::EMPTY.with(Collector::Tcp));
        }
        timing
    }

    /// Ends a pass, even if not all containers are read, and reads the host's own values.
    pub fn finish(&mut self, progress: &Progress, pass: Pass<'_>) -> Timing {
        let mut timing = self.interim(progress, pass);
        if !pass.ids.is_all() {
            // A pass over some containers may miss the first reporter of a shared namespace.
            self.namespaces.unsettle();
        }
        self.end_sockets(&progress.sockets, pass);
        let pid = std::process::id();
        let others = || self.containers.iter().any(|container| !container.pids.contains(&pid));
        let no_host_pidns = !self.is_host_pidns && !self.namespaces.host_pidns_visible && others();
        if pass.collectors.has(Collector::Network) {
            self.links.end(no_host_pidns);
            if no_host_pidns {
                self.report_hidden_processes(&mut timing);
            }
        }
        self.read_paths.publish(&self.self_metrics);
        if pass.ids.has_host() {
            self.read_host(pass, no_host_pidns, progress.now, &mut timing);
        }
        timing
    }

    /// Reads everything of one container.
    fn read_container(
        &mut self,
        containers: &mut [Container],
        index: usize,
        pass: Pass<'_>,
        now: Instant,
        timing: &mut Timing,
    ) {
        let Some(container) = containers.get_mut(index) else { return };
        container.sample.clear();
        let tasks = self.snapshots.as_mut().and_then(|snapshots| snapshots.refresh_container(container));
        if pass.families.intersects(&self.plan.needs.limits) {
            self.refresh_limits(container, pass.names, now);
        }
        let taken = self.read_files(container, pass.families, timing);
        self.read_paths.count(taken);
        self.fill_ebpf_values(index, container, timing);
        let wants = |collector| pass.collectors.has(collector);
        let by_process = [Collector::Network, Collector::Tcp, Collector::Process, Collector::Disk];
        let by_thread = self.counts_threads_by_files(pass.collectors);
        let lists =
            by_thread || pass.families.intersects(&self.plan.needs.processes) || by_process.into_iter().any(wants);
        if container.alive && lists {
            self.list_processes(container, pass, tasks, now);
            timing.attribute_time_to(Collector::Pids);
            if wants(Collector::Network) || wants(Collector::Tcp) {
                self.report_network(containers, index, pass);
                timing.attribute_time_to(Collector::Network);
            }
            let Some(container) = containers.get_mut(index) else { return };
            if by_thread {
                self.read_threads(container, now, timing);
                timing.attribute_time_to(Collector::Tasks);
            }
            if wants(Collector::Process) {
                self.read_descriptors(container, timing);
                timing.attribute_time_to(Collector::Process);
            }
            if pass.wants_disks(&self.plan) {
                if !self.disks.request(container, index, now) {
                    timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
                }
                timing.attribute_time_to(Collector::Disk);
            }
            container.process.take_if(|process| process.permit.is_none());
        }
    }

    /// Fills the sizes of layers and filesystems, once all containers are read.
    fn end_disks(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        if !pass.wants_disks(&self.plan) || self.plan.disks.is_empty() {
            return;
        }
        if !self.disks.finish(&mut self.containers, now) {
            timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        }
        for container in self.containers.iter_mut().filter(|container| pass.wants(container)) {
            let values = self.disks.values(container);
            let Container { disk: Some(disk), sample, fs_stats, .. } = container else { continue };
            *fs_stats = None;
            fill_filesystem(disk.label_source(), values, &self.plan, &mut self.devices, &mut self.labels, sample);
        }
        timing.attribute_time_to(Collector::Disk);
    }

    /// Moves the eBPF programs and the snapshots out, for the next reader.
    pub fn take_ebpf(&mut self) -> (Option<Probes>, Option<Snapshots>) {
        (self.probes.take(), self.snapshots.take())
    }

    /// Sets the snapshots of the kernel's counters to read values from.
    #[must_use]
    pub fn with_snapshots(self, snapshots: Option<Snapshots>) -> Self {
        Self { snapshots, ..self }
    }

    /// Sets the disk walker.
    #[must_use]
    pub fn with_walker(self, walker: Option<Walker>) -> Self {
        Self { disks: Disks::new(&self.procfs, self.live, walker, self.self_metrics.clone()), ..self }
    }

    /// Reads the values of the host: the root cgroup's files, interfaces, threads and filesystems.
    fn read_host(&mut self, pass: Pass<'_>, no_host_pidns: bool, now: Instant, timing: &mut Timing) {
        let mut host = std::mem::replace(&mut self.host, Container::new(None, 0, String::new(), &Plan::default()));
        host.sample.clear();
        for (idle, file) in self.idle_alternatives.iter_mut().zip(&self.plan.files) {
            *idle &= !file.families.intersects(&pass.families);
        }
        self.read_files(&mut host, pass.families, timing);
        if pass.collectors.has(Collector::Network) && !no_host_pidns {
            self.read_host_network(&mut host, now);
            timing.attribute_time_to(Collector::Network);
        }
        self.fill_host_threads(&mut host);
        self.disks.fill_host(&self.plan, &mut self.devices, &mut self.labels, &mut host.sample);
        host.alive = true;
        self.host = host;
    }

    /// Counts a failed reading in the exporter's own metrics.
    pub(super) fn count_error(&self, file: &str, reason: &str) {
        self.self_metrics.count_read_error(file, reason);
    }

    /// Returns whether this is the first failure of a collector, which is logged.
    pub(super) fn is_first(&mut self, collector: Collector) -> bool {
        let first = !self.logged.has(collector);
        self.logged = self.logged.with(collector);
        first
    }
}
