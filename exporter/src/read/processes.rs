//! What is read of a container through its processes: their number, one of them to read the network through, what they hold open,
//! and the filesystem they live on.

use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

use super::container::Container;
use super::disk::Place;
use super::file::{Handle, Outcome};
use super::fill::{pids_below, read_pids};
use super::host::HiddenProcesses;
use super::measure::Question;
use super::process::{Process, count_processes};
use super::reader::{Pass, Reader, reason};
use super::renewal::{TURNS, in_turns};
use super::timing::Timing;
use crate::metrics::{Collector, CollectorSet, Dimension, DiskFact};
use crate::name::Names;

/// Processes that are tried before a container goes without network metrics for this scrape.
const CANDIDATES: usize = 8;

/// How old the list of a container's processes may be while the number of its tasks stays the same: then it is wrong only where a
/// process has come in the place of a thread. Listed each minute it was a third of all that a scrape every 15 seconds took.
const LISTED_ANEW: Duration = Duration::from_mins(5);

impl Reader {
    /// The list of processes, read anew where the snapshot tells of another number of tasks, and now and then.
    pub(super) fn list_processes(
        &mut self,
        container: &mut Container,
        pass: Pass<'_>,
        tasks: Option<u64>,
        now: Instant,
    ) {
        // Those who look into the processes themselves want to know which these are.
        let looks_inside =
            [Collector::Process, Collector::Disk].into_iter().any(|collector| pass.collectors.has(collector));
        let is_known = container.listed.is_some_and(|(before, due)| tasks == Some(before) && now < due)
            && !looks_inside
            && container.process.is_some();
        if is_known {
            self.namespaces.see(container.process.as_ref());
            self.count_listed(container);
            return;
        }
        self.read_processes(container, pass.names);
        let turn = u32::try_from(container.life % u64::from(TURNS)).unwrap_or(0);
        container.listed = tasks.map(|tasks| (tasks, now + in_turns(LISTED_ANEW, turn)));
        if tasks.is_some() {
            container.procs.close();
            container.directory = None;
        }
    }

    /// The list of processes: their number, and one of them to read the network through.
    pub(super) fn read_processes(&mut self, container: &mut Container, names: &Names) {
        container.pids.clear();
        container.process_count = None;
        let Some(tree) = self.hierarchy.searched().get(container.home) else { return };
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
        let mut all_listed = true;
        if container.has_children(&tree.path, &mut self.path, &mut self.files) {
            container.file_path(&tree.path, "", &mut self.path);
            let below;
            (below, all_listed) = pids_below(&self.path, &mut self.files, &mut container.pids);
            malformed += below;
        }
        if !all_listed {
            self.own.count_read_error("cgroup.procs", "too_many");
        }
        // A v1 kernel leaves processes of other pid namespaces out (v2 writes 0 for each): an empty list is no count.
        let is_count = all_listed && !container.pids.is_empty();
        container.process_count = is_count.then_some(container.pids.len() as u64);
        for _ in 0..malformed {
            self.own.count_read_error("cgroup.procs", "malformed");
        }
        self.count_listed(container);
        self.choose_process(container, names);
    }

    fn count_listed(&self, container: &mut Container) {
        if let Some((slot, count)) = self.plan.process_count.zip(container.process_count) {
            container.sample.set(slot, count);
        }
    }

    /// Keeps the process that was chosen before while it lives in the container, else takes the first that does.
    pub(super) fn choose_process(&mut self, container: &mut Container, names: &Names) {
        if container.id.is_none() {
            return;
        }
        let visible = container.pids.iter().any(|pid| *pid != 0);
        if container.process.as_ref().is_some_and(|process| !visible || container.pids.contains(&process.pid)) {
            self.namespaces.visible = true;
            return;
        }
        // The engine's first process stands for the container; a helper that was executed into it may be elsewhere. It is
        // also the only way where the list hides its processes from us, if procfs is the host's.
        let engine = container.meta(names).and_then(|meta| meta.pid);
        let known = engine.filter(|pid| !visible || container.pids.contains(pid));
        // Without the engine, the oldest: it has the lowest number.
        container.pids.sort_unstable();
        let candidates = known.into_iter().chain(container.pids.iter().copied().filter(|pid| *pid != 0));
        container.process = candidates
            .take(CANDIDATES)
            .find_map(|pid| Process::open(&self.procfs, pid, &container.path, self.live).ok());
        if let Some(process) = &mut container.process {
            process.counted = self.files.count();
        }
        self.namespaces.see(container.process.as_ref());
    }

    /// Without the host's pid namespace, network and process counts are missing: said once, and to be seen in the
    /// collectors' success.
    pub(super) fn tell_foreign(&mut self, timing: &mut Timing) {
        let hidden = HiddenProcesses::of(&self.procfs);
        let failed = CollectorSet::EMPTY.with(Collector::Network);
        timing.fail(if hidden.is_some() { failed } else { failed.with(Collector::Pids) });
        if !self.is_first(Collector::Network) {
            return;
        }
        if let Some(hidden) = hidden {
            warn!(
                procfs = %self.procfs.display(),
                hint = hidden.hint(),
                "the processes of the containers are hidden, as procfs is {hidden}: their network cannot be read"
            );
        } else {
            warn!(
                procfs = %self.procfs.display(),
                "the containers' processes are outside of our pid namespace: their number and their network cannot be read; run the \
                 exporter with --pid=host"
            );
        }
    }

    /// What the processes hold open. Without the right to look into them all there is no sum.
    pub(super) fn read_descriptors(&mut self, container: &mut Container, timing: &mut Timing) {
        let mut refused = None;
        for (fact, slot) in &self.plan.processes {
            match count_processes(&self.procfs, &container.pids, *fact) {
                Ok(Some(value)) => container.sample.set(*slot, value),
                Ok(None) => {}
                Err(error) => {
                    self.own.count_read_error("fd", reason(&error));
                    refused = Some(error);
                }
            }
        }
        let Some(error) = refused else { return };
        timing.fail(CollectorSet::EMPTY.with(Collector::Process));
        if self.is_first(Collector::Process) {
            warn!(
                %error, container = %container.path,
                "open files and sockets of this container cannot be counted: give the exporter CAP_SYS_PTRACE \
                 (--cap-add=SYS_PTRACE), or leave --collector.process out"
            );
        }
    }

    /// The size of the writable layer, as the engine has told it; asks for that of the filesystem that it is on.
    pub(super) fn begin_disk(&mut self, container: &mut Container, index: usize, names: &Names, timing: &mut Timing) {
        if let (None, Some(process)) = (&container.disk, &container.process) {
            container.disk = Some(Place::find(process, &self.procfs, &self.own));
        }
        if let Some(size) = container.id.filter(|_| container.named).and_then(|id| names.sizes.get(&id)).copied() {
            self.fill_disk(container, |fact| (fact == DiskFact::Usage).then_some(size));
        }
        let (Some(process), Some(place)) = (container.process.as_ref().filter(|_| self.live), &container.disk) else {
            return;
        };
        let question = Question { index, life: container.life, root: place.root(process) };
        if !self.measure.ask(question, container.disk_has_hung) {
            self.lacks_disk(container, &io::ErrorKind::TimedOut.into(), timing);
        }
    }

    /// The sizes of the filesystems, of those that answer in time.
    pub(super) fn end_disks(&mut self, pass: Pass<'_>, timing: &mut Timing) {
        if !pass.collectors.has(Collector::Disk) || self.plan.disks.is_empty() {
            return;
        }
        let mut containers = std::mem::take(&mut self.containers);
        let measure = self.measure.clone();
        measure.answers(|index, answer| {
            let Some(container) = containers.get_mut(index) else { return };
            match answer {
                Ok(figures) => self.fill_disk(container, |fact| figures.get(fact)),
                Err(error) => self.lacks_disk(container, &error, timing),
            }
        });
        self.containers = containers;
        timing.lap(Collector::Disk);
    }

    fn fill_disk(&mut self, container: &mut Container, value: impl Fn(DiskFact) -> Option<u64>) {
        let Container { disk, sample, .. } = container;
        let (device, source) = disk.as_ref().map_or((None, None), |place| (place.device, place.source.as_deref()));
        let key = self.devices.place(device, source, self.labels.of_mut(Dimension::Device));
        for (fact, column) in &self.plan.disks {
            if let Some(value) = value(*fact) {
                sample.table_mut(Dimension::Device).set(key, *column, value);
            }
        }
    }

    fn lacks_disk(&mut self, container: &mut Container, error: &io::Error, timing: &mut Timing) {
        let hangs = error.kind() == io::ErrorKind::TimedOut;
        self.own.count_read_error("root", if hangs { "hangs" } else { reason(error) });
        timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        if hangs && !std::mem::replace(&mut container.disk_has_hung, true) {
            warn!(
                container = %container.path,
                "the filesystem of this container does not answer statfs: its size is left out until it does (look for a FUSE or \
                 network mount whose server is stopped or cannot be reached)"
            );
        }
        if !hangs && self.is_first(Collector::Disk) {
            warn!(
                %error, container = %container.path,
                "the size of this container's filesystem cannot be read: give the exporter CAP_SYS_PTRACE (--cap-add=SYS_PTRACE), or \
                 leave --collector.disk out"
            );
        }
    }

    /// Whether a shortcoming of this collector has not been told yet.
    pub(super) fn is_first(&mut self, collector: Collector) -> bool {
        let first = !self.told.has(collector);
        self.told = self.told.with(collector);
        first
    }
}
