//! The pass.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::container::Container;
use super::devices::Devices;
use super::file::{Files, Outcome};
use super::format::{self, Single};
use super::limits::Limits;
use super::network::Namespaces;
use super::plan::{Format, Plan, PlannedFile};
use super::process::{Process, count_processes, count_sockets};
use super::sample::{Labels, Sample};
use crate::discover::{Changes, ContainerId, Hierarchy};
use crate::metrics::{Collector, CollectorSet, Controller, Dimension, Own};
use crate::name::Names;

/// Longest time for which a changed limit goes unnoticed where no event of the engine tells of it.
pub const LIMITS_INTERVAL: Duration = Duration::from_secs(30);

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
    told_foreign: bool,
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

/// Time per collector, and who did not finish.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    spent: [Duration; Collector::ALL.len()],
    failed: CollectorSet,
}

impl Timing {
    /// Time that a collector took.
    #[must_use]
    pub fn spent(&self, collector: Collector) -> Duration {
        self.spent.get(collector.index()).copied().unwrap_or_default()
    }

    /// Whether a collector read all it wanted.
    #[must_use]
    pub fn success(&self, collector: Collector) -> bool {
        !self.failed.has(collector)
    }

    /// Whether any collector of a set did not.
    #[must_use]
    pub fn any_failed(&self, collectors: CollectorSet) -> bool {
        !self.failed.intersection(collectors).is_empty()
    }

    /// Adds to a collector's time.
    pub fn add(&mut self, collector: Collector, spent: Duration) {
        if let Some(total) = self.spent.get_mut(collector.index()) {
            *total += spent;
        }
    }

    /// Collectors that did not read all they wanted.
    pub fn fail(&mut self, collectors: CollectorSet) {
        self.failed = self.failed.union(collectors);
    }
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
            devices: Devices::new(procfs),
            containers: Vec::new(),
            own,
            namespaces: Namespaces::default(),
            path: PathBuf::new(),
            told_foreign: false,
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
        let files = &mut self.files;
        self.containers.retain_mut(|container| {
            if !container.alive {
                container.close(files);
                ended.extend(container.id);
            }
            container.alive
        });
        ended
    }

    /// Limits of this container are read anew with the next pass.
    pub fn limits_changed(&mut self, id: ContainerId) {
        if let Some(container) = self.containers.iter_mut().find(|container| container.id == Some(id)) {
            container.limits_read = None;
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
        self.read_host(pass, &mut timing);
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
        let by_process = [Collector::Pids, Collector::Network, Collector::Tcp, Collector::Process];
        if container.alive && by_process.into_iter().any(wants) {
            let mut clock = Instant::now();
            self.read_processes(container, pass.names);
            lap(&mut clock, Collector::Pids, timing);
            if wants(Collector::Network) || wants(Collector::Tcp) {
                self.read_network(containers, place, pass, timing);
            }
            let Some(container) = containers.get_mut(place) else { return };
            if wants(Collector::Process) {
                for (fact, slot) in &self.plan.processes {
                    if let Some(value) = count_processes(&self.procfs, &container.pids, *fact) {
                        container.sample.set(*slot, value);
                    }
                }
                lap(&mut clock, Collector::Process, timing);
            }
        }
    }

    fn refresh_limits(&mut self, container: &mut Container, names: &Names, now: Instant) {
        if container.limits_read.is_some_and(|read| now.duration_since(read) < LIMITS_INTERVAL) {
            return;
        }
        let engine = container.id.and_then(|id| names.containers.get(&id)).map(|meta| &meta.limits);
        container.limits = Limits::read(&self.hierarchy, &container.path, engine, &mut self.files);
        container.limits_read = Some(now);
        container.retry_absent();
    }

    /// The files of the container's cgroup.
    fn read_files(&mut self, container: &mut Container, wanted: CollectorSet, timing: &mut Timing) {
        let mut clock = Instant::now();
        let mut handles = std::mem::take(&mut container.handles);
        for (file, handle) in self.plan.files.iter().zip(&mut handles) {
            if file.collectors.intersection(wanted).is_empty() {
                continue;
            }
            let collector = file.collectors.iter().next().unwrap_or(Collector::State);
            container.file_path(&file.tree, &file.name, &mut self.path);
            let mut outcome = self.files.read(handle, &self.path);
            if let (Outcome::Absent, Some(fallback)) = (&outcome, file.fallback) {
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
                        debug!(file = %self.path.display(), malformed, "values left out: not in the kernel's form");
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
                    debug!(file = %self.path.display(), %error, "values left out");
                    timing.fail(file.collectors);
                }
            }
            lap(&mut clock, collector, timing);
            if !container.alive {
                break;
            }
        }
        container.handles = handles;
    }

    /// The list of processes: their number, and one of them to read the network through.
    fn read_processes(&mut self, container: &mut Container, names: &Names) {
        container.pids.clear();
        let Some(tree) = self.hierarchy.tree(Controller::Procs) else { return };
        container.file_path(&tree.path, "cgroup.procs", &mut self.path);
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
        if container.has_children(&tree.path, &mut self.path) {
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
        let engine = names.containers.get(&id).and_then(|meta| meta.pid);
        let hidden = container.pids.is_empty() && engine.is_some();
        let foreign = hidden || container.pids.first() == Some(&0);
        if foreign && container.process.is_none() {
            self.tell_foreign(container);
        }
        if !foreign && container.process.as_ref().is_some_and(|process| container.pids.contains(&process.pid)) {
            return;
        }
        if foreign && container.process.as_ref().map(|process| process.pid) == engine {
            return;
        }
        // The engine's first process stands for the container; a helper that was executed into it may be elsewhere.
        let known = engine.filter(|pid| foreign || container.pids.contains(pid));
        let candidates = known.into_iter().chain(container.pids.iter().copied().filter(|pid| *pid != 0));
        container.process = candidates.take(8).find_map(|pid| Process::open(&self.procfs, pid, id, self.live).ok());
    }

    fn tell_foreign(&mut self, container: &Container) {
        if !self.told_foreign {
            self.told_foreign = true;
            self.namespaces.foreign = true;
            warn!(
                container = %container.path,
                "the kernel shows this container's processes as 0: they are outside of our pid namespace. Network metrics depend on \
                 what the engine says; run the exporter with --pid=host to have them all"
            );
        }
    }

    fn read_network(&mut self, containers: &mut [Container], place: usize, pass: Pass<'_>, timing: &mut Timing) {
        let mut clock = Instant::now();
        let Some(text) = self.open_network(containers, place, pass.names) else {
            lap(&mut clock, Collector::Network, timing);
            return;
        };
        let Some(container) = containers.get_mut(place) else { return };
        if pass.collectors.has(Collector::Network) {
            let malformed =
                fill_interfaces(&text, &self.plan, &mut container.sample, &mut self.labels, |name| name != b"lo");
            for _ in 0..malformed {
                self.own.count_read_error("net/dev", "malformed");
            }
        }
        self.namespaces.buffer = text;
        lap(&mut clock, Collector::Network, timing);
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

    /// The root cgroup's own files, and the host's interfaces.
    fn read_host(&mut self, pass: Pass<'_>, timing: &mut Timing) {
        let mut host = std::mem::replace(&mut self.host, Container::new(None, String::new(), &Plan::default()));
        host.sample.clear();
        self.read_files(&mut host, pass.collectors, timing);
        if pass.collectors.has(Collector::Network) && !self.namespaces.foreign {
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

fn lap(clock: &mut Instant, collector: Collector, timing: &mut Timing) {
    let now = Instant::now();
    timing.add(collector, now.duration_since(*clock));
    *clock = now;
}

fn read_pids(text: &[u8], pids: &mut Vec<u32>) -> u64 {
    let mut malformed = 0;
    for line in format::lines(text) {
        match format::number(line.trim_ascii()).and_then(|pid| u32::try_from(pid).ok()) {
            Some(pid) => pids.push(pid),
            None => malformed += 1,
        }
    }
    malformed
}

/// Processes of the cgroups below a container's own: a container that runs systemd or an engine of its own.
fn pids_below(directory: &Path, files: &mut Files, pids: &mut Vec<u32>) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let mut malformed = 0;
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if let Outcome::Text(text) = files.read_once(&entry.path().join("cgroup.procs")) {
            malformed += read_pids(text, pids);
        }
        malformed += pids_below(&entry.path(), files, pids);
    }
    malformed
}

fn fill_interfaces(
    text: &[u8],
    plan: &Plan,
    sample: &mut Sample,
    labels: &mut Labels,
    wanted: impl Fn(&[u8]) -> bool,
) -> u64 {
    format::interfaces(text, |name, counters| {
        if !wanted(name) {
            return;
        }
        let key = labels.of_mut(Dimension::Interface).label(name);
        for (number, column) in &plan.interfaces {
            if let Some(value) = counters.get(*number) {
                sample.table_mut(Dimension::Interface).set(key, *column, *value);
            }
        }
    })
}

/// Parses one file into a sample. Gives the number of malformed values.
fn parse(file: &PlannedFile, text: &[u8], sample: &mut Sample, labels: &mut Labels, devices: &mut Devices) -> u64 {
    let target = |index: usize| file.targets.get(index).copied().unwrap_or(u16::MAX);
    let keys = &file.keys;
    match file.format {
        Format::Single => match format::single(text) {
            Single::Value(value) => {
                sample.set(target(0), value);
                0
            }
            Single::Max => 0,
            Single::Malformed => 1,
        },
        Format::Flat => format::flat(text, keys, |index, value| sample.set(target(index), value)),
        Format::Psi => format::psi(text, keys, |index, value| sample.set(target(index), value)),
        Format::Nested => format::nested(text, keys, |device, index, value| {
            let key = devices.label(device, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).set(key, target(index), value);
        }),
        Format::Operations => format::operations(text, keys, |device, index, value| {
            let key = devices.label(device, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).set(key, target(index), value);
        }),
        Format::Nodes => format::nodes(text, keys, |node, index, value| {
            let key = labels.of_mut(Dimension::Node).label(node.to_string().as_bytes());
            sample.table_mut(Dimension::Node).set(key, target(index), value / file.divisor.max(1));
        }),
        Format::List(dimension) => format::list(text, |place, value| {
            let label = if dimension == Dimension::Cpu { format!("cpu{place:02}") } else { place.to_string() };
            let key = labels.of_mut(dimension).label(label.as_bytes());
            sample.table_mut(dimension).set(key, target(0), value);
        }),
    }
}

/// Maps kept between passes.
pub(super) type ByNamespace<T> = HashMap<super::process::NetworkNamespace, T>;
