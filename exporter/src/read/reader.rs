//! The pass.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::container::Container;
use super::devices::Devices;
use super::disk::{Place, figure};
use super::file::{Files, Handle, Outcome};
use super::fill::{fill_interfaces, parse, pids_below, read_pids};
use super::limits::Limits;
use super::network::Namespaces;
use super::plan::Plan;
use super::process::{Process, count_processes, count_sockets};
use super::sample::Labels;
use super::timing::{Timing, lap};
use crate::discover::{Changes, ContainerId, Hierarchy};
use crate::metrics::{Collector, CollectorSet, Controller, Dimension, DiskFact, Own};
use crate::name::Names;

/// Longest time for which a changed limit goes unnoticed where no event of the engine tells of it. Reading the limits
/// of a container costs as much as reading all its counters: every 30 seconds, scrapes 15 seconds apart took twice as long.
pub const LIMITS_INTERVAL: Duration = Duration::from_mins(5);

/// Limits are written, and files appear, while a container starts: both are looked at once more when that is surely over.
const SETTLED: Duration = Duration::from_secs(30);

/// Groups of containers whose limits are read in different scrapes.
const LIMITS_TURNS: u32 = 16;
/// Processes that are tried before a container goes without network metrics for this scrape.
const CANDIDATES: usize = 8;

/// Reads the containers of one host.
#[derive(Debug)]
pub struct Reader {
    plan: Plan,
    hierarchy: Hierarchy,
    pub(super) procfs: PathBuf,
    pub(super) live: bool,
    files: Files,
    labels: Labels,
    devices: Devices,
    containers: Vec<Container>,
    host: Container,
    own: Own,
    pub(super) namespaces: Namespaces,
    path: PathBuf,
    /// Whether procfs is surely the host's: its kernel threads are in it. A capture is taken at its word.
    host_pids: bool,
    told_foreign: bool,
    told_descriptors: bool,
    told_disk: bool,
    limits_turn: u32,
}

/// What is asked of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The collectors whose values are wanted.
    pub collectors: CollectorSet,
    /// What the engine says of the containers.
    pub names: &'a Names,
    /// When to stop.
    pub deadline: Option<Instant>,
}

impl Reader {
    /// A reader of `hierarchy` that follows `plan`; `live` where trees are kernel file systems and not captures.
    #[must_use]
    pub fn new(plan: Plan, hierarchy: Hierarchy, procfs: &Path, live: bool, own: Own) -> Self {
        Self {
            host: Container::new(None, "/".to_owned(), &plan),
            plan,
            hierarchy,
            procfs: procfs.to_owned(),
            live,
            files: Files::new(live),
            labels: Labels::default(),
            devices: Devices::new(Some(procfs)),
            containers: Vec::new(),
            own,
            namespaces: Namespaces::default(),
            path: PathBuf::new(),
            host_pids: !live || super::host::is_host_s(procfs),
            told_foreign: false,
            told_descriptors: false,
            told_disk: false,
            limits_turn: 0,
        }
    }

    /// The containers, in the order of their paths, with the values of the last pass.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// The host as a whole.
    #[must_use]
    pub fn host(&self) -> &Container {
        &self.host
    }

    /// The trees that are read.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The labels that samples refer to.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Takes new containers in and lets ended ones go.
    pub fn apply(&mut self, changes: Changes) {
        if changes.added.is_empty() && changes.removed.is_empty() {
            return;
        }
        for container in &mut self.containers {
            if container.id.is_some_and(|id| changes.removed.contains(&id)) {
                container.alive = false;
            }
        }
        self.drop_ended();
        let new = changes.added.into_iter().map(|(id, path)| Container::new(Some(id), path, &self.plan));
        self.containers.extend(new);
        self.containers.sort_by(|one, other| one.path.cmp(&other.path));
    }

    /// Lets go of containers whose files have vanished under the last pass, and tells which.
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

    /// Limits of this container are read anew with the next pass.
    pub fn limits_changed(&mut self, id: ContainerId) {
        if let Some(container) = self.containers.iter_mut().find(|container| container.id == Some(id)) {
            container.limits_due = None;
        }
    }

    /// Reads everything that is wanted of every container and of the host.
    pub fn read(&mut self, pass: Pass<'_>, now: Instant) -> Timing {
        let mut timing = Timing::default();
        if self.labels.trim() {
            self.devices.forget();
        }
        self.devices.begin();
        self.namespaces.begin(&self.procfs, self.live);
        let mut containers = std::mem::take(&mut self.containers);
        for place in 0..containers.len() {
            if pass.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                // What was read before this pass must not stand as if it were of now.
                containers.iter_mut().skip(place).for_each(|container| container.sample.clear());
                timing.fail(pass.collectors);
                break;
            }
            self.read_container(&mut containers, place, pass, now, &mut timing);
        }
        self.containers = containers;
        let own = std::process::id();
        let others = || self.containers.iter().any(|container| !container.pids.contains(&own));
        let foreign = !self.host_pids && !self.namespaces.visible && others();
        if foreign && pass.collectors.has(Collector::Network) {
            self.tell_foreign(&mut timing);
        }
        self.read_host(pass, foreign, &mut timing);
        timing
    }

    fn read_container(
        &mut self,
        containers: &mut [Container],
        place: usize,
        pass: Pass<'_>,
        now: Instant,
        timing: &mut Timing,
    ) {
        let Some(container) = containers.get_mut(place) else { return };
        container.sample.clear();
        self.refresh_limits(container, pass.names, now);
        self.read_files(container, pass.collectors, timing);
        let wants = |collector| pass.collectors.has(collector);
        let by_process = [Collector::Pids, Collector::Network, Collector::Tcp, Collector::Process, Collector::Disk];
        if container.alive && by_process.into_iter().any(wants) {
            let mut clock = Instant::now();
            self.read_processes(container, pass.names);
            lap(&mut clock, Collector::Pids, timing);
            if wants(Collector::Network) || wants(Collector::Tcp) {
                self.read_network(containers, place, pass, timing);
            }
            let Some(container) = containers.get_mut(place) else { return };
            if wants(Collector::Process) {
                self.read_descriptors(container, timing);
                lap(&mut clock, Collector::Process, timing);
            }
            if wants(Collector::Disk) {
                self.read_disk(container, pass.names, timing);
                lap(&mut clock, Collector::Disk, timing);
            }
            container.process.take_if(|process| process.counted.is_none());
        }
    }

    fn refresh_limits(&mut self, container: &mut Container, names: &Names, now: Instant) {
        // A capture is small, and may be edited under us.
        if container.limits_due.is_some_and(|due| self.live && now < due) {
            return;
        }
        let interval = if container.limits_due.is_none() { SETTLED } else { LIMITS_INTERVAL };
        let engine = container.id.and_then(|id| names.containers.get(&id)).map(|meta| &meta.limits);
        let own = &self.own;
        let problem = |file: &str, reason| own.count_read_error(file, reason);
        container.limits = Limits::read(&self.hierarchy, &container.path, engine, &mut self.files, problem);
        // Containers found together take turns afterwards, so that no scrape reads the limits of all of them.
        self.limits_turn = (self.limits_turn + 1) % LIMITS_TURNS;
        container.limits_due = Some(now + interval * (LIMITS_TURNS + self.limits_turn) / (2 * LIMITS_TURNS));
        container.retry_absent();
    }

    /// The files of the container's cgroup.
    fn read_files(&mut self, container: &mut Container, wanted: CollectorSet, timing: &mut Timing) {
        let mut clock = Instant::now();
        let mut timed = Collector::State;
        let mut handles = std::mem::take(&mut container.handles);
        for (file, handle) in self.plan.files.iter().zip(&mut handles) {
            if file.collectors.intersection(wanted).is_empty() {
                continue;
            }
            // A collector's files follow each other: one look at the clock serves them all.
            let collector = file.collectors.iter().next().unwrap_or(Collector::State);
            if collector != timed {
                lap(&mut clock, timed, timing);
                timed = collector;
            }
            let untried = !matches!(handle, Handle::Absent);
            if !matches!(handle, Handle::Open(_)) {
                container.file_path(&file.tree, &file.name, &mut self.path);
            }
            let mut outcome = self.files.read(handle, &self.path);
            // A file that is opened each time and goes by its other name seems to have vanished under its first.
            if let (Outcome::Absent | Outcome::Vanished, Some(fallback), true) = (&outcome, file.fallback, untried) {
                container.file_path(&file.tree, fallback, &mut self.path);
                handle.retry();
                outcome = self.files.read(handle, &self.path);
            }
            match outcome {
                Outcome::Text(text) => {
                    let malformed = parse(file, text, &mut container.sample, &mut self.labels, &mut self.devices);
                    for _ in 0..malformed {
                        self.own.count_read_error(&file.name, "malformed");
                    }
                    if malformed > 0 {
                        debug!(cgroup = %container.path, file = %file.name, malformed, "values left out: not in the kernel's form");
                    }
                }
                Outcome::Absent => {}
                Outcome::Vanished => {
                    self.own.count_read_error(&file.name, "vanished");
                    // In a capture a file may go alone; under a kernel it goes with its cgroup.
                    container.alive = !self.live;
                }
                Outcome::Failed(error) => {
                    self.own.count_read_error(&file.name, reason(&error));
                    debug!(cgroup = %container.path, file = %file.name, %error, "values left out");
                    timing.fail(file.collectors);
                }
            }
            if !container.alive {
                break;
            }
        }
        lap(&mut clock, timed, timing);
        container.handles = handles;
    }

    /// The list of processes: their number, and one of them to read the network through.
    fn read_processes(&mut self, container: &mut Container, names: &Names) {
        container.pids.clear();
        let Some(tree) = self.hierarchy.tree(Controller::Procs) else { return };
        if !matches!(container.procs, Handle::Open(_)) {
            container.file_path(&tree.path, "cgroup.procs", &mut self.path);
        }
        let mut malformed = 0;
        match self.files.read(&mut container.procs, &self.path) {
            Outcome::Text(text) => malformed = read_pids(text, &mut container.pids),
            Outcome::Absent => return,
            Outcome::Vanished => {
                self.own.count_read_error("cgroup.procs", "vanished");
                container.alive = !self.live;
                return;
            }
            Outcome::Failed(error) => self.own.count_read_error("cgroup.procs", reason(&error)),
        }
        if container.has_children(&tree.path, &mut self.path, &mut self.files) {
            container.file_path(&tree.path, "", &mut self.path);
            malformed += pids_below(&self.path.clone(), &mut self.files, &mut container.pids);
        }
        for _ in 0..malformed {
            self.own.count_read_error("cgroup.procs", "malformed");
        }
        // A v1 kernel leaves processes of other pid namespaces out of the list (v2 writes 0 for each): an empty list is no count.
        if let Some(slot) = self.plan.process_count.filter(|_| !container.pids.is_empty()) {
            container.sample.set(slot, container.pids.len() as u64);
        }
        self.choose_process(container, names);
    }

    /// Keeps the process that was chosen before while it lives in the container, else takes the first that does.
    fn choose_process(&mut self, container: &mut Container, names: &Names) {
        let Some(id) = container.id else { return };
        let visible = container.pids.iter().any(|pid| *pid != 0);
        if container.process.as_ref().is_some_and(|process| !visible || container.pids.contains(&process.pid)) {
            self.namespaces.visible = true;
            return;
        }
        // The engine's first process stands for the container; a helper that was executed into it may be elsewhere. It is
        // also the only way where the list hides its processes from us, if procfs is the host's.
        let engine = names.containers.get(&id).and_then(|meta| meta.pid);
        let known = engine.filter(|pid| !visible || container.pids.contains(pid));
        let candidates = known.into_iter().chain(container.pids.iter().copied().filter(|pid| *pid != 0));
        container.process =
            candidates.take(CANDIDATES).find_map(|pid| Process::open(&self.procfs, pid, id, self.live).ok());
        if let Some(process) = &mut container.process {
            process.counted = self.files.count();
        }
        self.namespaces.visible |= container.process.as_ref().is_some_and(|process| process.pid != std::process::id());
    }

    /// Without the host's pid namespace, network and process counts are missing: said once, and to be seen in the
    /// collectors' success.
    fn tell_foreign(&mut self, timing: &mut Timing) {
        timing.fail(CollectorSet::EMPTY.with(Collector::Network).with(Collector::Pids));
        if !std::mem::replace(&mut self.told_foreign, true) {
            warn!(
                procfs = %self.procfs.display(),
                "the containers' processes are outside of our pid namespace: their number and their network cannot be read; run the \
                 exporter with --pid=host"
            );
        }
    }

    fn read_network(&mut self, containers: &mut [Container], place: usize, pass: Pass<'_>, timing: &mut Timing) {
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

    fn read_sockets(&self, container: &mut Container) {
        let Some(process) = container.process.as_ref() else { return };
        let mut table: Option<(&str, Vec<u8>)> = None;
        for (name, count, slot) in &self.plan.sockets {
            if table.as_ref().is_none_or(|(known, _)| known != name) {
                table = process.socket_table(name).ok().map(|text| (*name, text));
            }
            if let Some((_, text)) = &table {
                container.sample.set(*slot, count_sockets(text, *count));
            }
        }
    }

    /// What the processes hold open. Without the right to look into them all there is no sum.
    fn read_descriptors(&mut self, container: &mut Container, timing: &mut Timing) {
        for (fact, slot) in &self.plan.processes {
            match count_processes(&self.procfs, &container.pids, *fact) {
                Ok(Some(value)) => container.sample.set(*slot, value),
                Ok(None) => {}
                Err(error) => {
                    self.own.count_read_error("fd", reason(&error));
                    timing.fail(CollectorSet::EMPTY.with(Collector::Process));
                    if !std::mem::replace(&mut self.told_descriptors, true) {
                        warn!(
                            %error, container = %container.path,
                            "open files and sockets of this container cannot be counted: give the exporter CAP_SYS_PTRACE \
                             (--cap-add=SYS_PTRACE), or leave --collector.process out"
                        );
                    }
                }
            }
        }
    }

    /// The size of the writable layer, as the engine has told it, and of the filesystem that it is on.
    fn read_disk(&mut self, container: &mut Container, names: &Names, timing: &mut Timing) {
        if let (None, Some(process)) = (&container.disk, &container.process) {
            container.disk = Some(Place::find(process, &self.procfs));
        }
        let place = container.disk.clone().unwrap_or_default();
        let figures = container.process.as_ref().filter(|_| self.live).map(|process| place.measure(process));
        if let Some(Err(error)) = &figures {
            self.lacks_disk(container, error, timing);
        }
        let figures = figures.and_then(Result::ok);
        let size = container.id.and_then(|id| names.sizes.get(&id)).copied();
        let key = self.devices.place(place.device, place.source.as_deref(), self.labels.of_mut(Dimension::Device));
        for (fact, column) in &self.plan.disks {
            let value =
                if *fact == DiskFact::Usage { size } else { figures.as_ref().and_then(|all| figure(*fact, all)) };
            if let Some(value) = value {
                container.sample.table_mut(Dimension::Device).set(key, *column, value);
            }
        }
    }

    fn lacks_disk(&mut self, container: &Container, error: &std::io::Error, timing: &mut Timing) {
        self.own.count_read_error("root", reason(error));
        timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        if !std::mem::replace(&mut self.told_disk, true) {
            warn!(
                %error, container = %container.path,
                "the size of this container's filesystem cannot be read: give the exporter CAP_SYS_PTRACE (--cap-add=SYS_PTRACE), or \
                 leave --collector.disk out"
            );
        }
    }

    /// The root cgroup's own files, and the host's interfaces.
    fn read_host(&mut self, pass: Pass<'_>, foreign: bool, timing: &mut Timing) {
        let mut host = std::mem::replace(&mut self.host, Container::new(None, String::new(), &Plan::default()));
        host.sample.clear();
        self.read_files(&mut host, pass.collectors, timing);
        if pass.collectors.has(Collector::Network) && !foreign {
            let mut outcome = self.files.read_once(&self.procfs.join("1/net/dev"));
            if !matches!(outcome, Outcome::Text(_)) {
                outcome = self.files.read_once(&self.procfs.join("net/dev"));
            }
            if let Outcome::Text(text) = outcome {
                fill_interfaces(text, &self.plan, &mut host.sample, &mut self.labels, super::host::is_physical);
            }
        }
        host.alive = true;
        self.host = host;
    }

    /// Counts a failure in our own metrics.
    pub(super) fn count_error(&self, file: &str, reason: &str) {
        self.own.count_read_error(file, reason);
    }
}

/// The word under which a failure is counted.
pub(super) fn reason(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "denied",
        std::io::ErrorKind::FileTooLarge => "too_large",
        _ => "io",
    }
}
