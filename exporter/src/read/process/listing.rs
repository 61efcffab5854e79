//! Lists the processes of a container: for their number, to choose one for reading the network, and for their open
//! files.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::discover::walk::{BELOW_CONTAINER, Next, walk};
use crate::metrics::{Collector, CollectorSet};
use crate::name::Names;
use crate::read::container::Container;
use crate::read::files::format::{lines, number};
use crate::read::files::open_files::{FileState, Files, Outcome, reason};
use crate::read::host::HiddenProcesses;
use crate::read::process::{Process, count_processes};
use crate::read::reader::{Pass, Reader};
use crate::read::timing::{Timing, stagger_group, staggered};

/// Processes that are tried before a container lacks network metrics in this scrape.
const CANDIDATES: usize = 8;

/// Maximum age of a list of processes while the number of tasks stays the same: it is wrong only if a process has
/// replaced a thread. Listing each minute took a third of a scrape every 15 seconds.
const LIST_INTERVAL: Duration = Duration::from_mins(5);

impl Reader {
    /// Lists the processes again if a snapshot shows another number of tasks, and after [`LIST_INTERVAL`].
    pub(crate) fn list_processes(
        &mut self,
        container: &mut Container,
        pass: Pass<'_>,
        tasks: Option<u64>,
        now: Instant,
    ) {
        // These read every process.
        let looks_inside = pass.collectors.has(Collector::Process) || self.counts_threads_by_files(pass.collectors);
        let is_known = container.listed.is_some_and(|(before, due)| tasks == Some(before) && now < due)
            && !looks_inside
            && container.process.is_some();
        if is_known {
            self.namespaces.record_process(container.process.as_ref());
            self.count_listed(container);
            return;
        }
        self.read_processes(container, pass.names);
        let age = staggered(LIST_INTERVAL, stagger_group(container.generation));
        container.listed = tasks.map(|tasks| (tasks, now + age));
        if tasks.is_some() {
            container.procs.close();
            container.directory = None;
        }
    }

    /// Lists the processes, and chooses one of them to read the network through.
    pub(crate) fn read_processes(&mut self, container: &mut Container, names: &Names) {
        container.pids.clear();
        container.process_count = None;
        let Some(tree) = self.hierarchy.searched().get(container.home) else { return };
        if !matches!(container.procs, FileState::Open(_)) {
            container.file_path(&tree.path, "cgroup.procs", &mut self.path);
        }
        let mut malformed = 0;
        match self.files.read(&mut container.procs, &self.path) {
            Outcome::Text(text) => malformed = read_pids(text, &mut container.pids),
            Outcome::Absent => return,
            Outcome::Vanished => {
                self.self_metrics.count_read_error("cgroup.procs", "vanished");
                container.alive = !self.live;
                return;
            }
            Outcome::Failed(error) => self.self_metrics.count_read_error("cgroup.procs", reason(&error)),
        }
        let mut all_listed = true;
        if container.has_children(&tree.path, &mut self.path, &mut self.files) {
            container.file_path(&tree.path, "", &mut self.path);
            let below;
            (below, all_listed) = pids_below(&self.path, &mut self.files, &mut container.pids);
            malformed += below;
        }
        if !all_listed {
            self.self_metrics.count_read_error("cgroup.procs", "too_many");
        }
        // A v1 kernel omits processes of other pid namespaces (v2 writes 0 for each): an empty list is not a count.
        let is_count = all_listed && !container.pids.is_empty();
        container.process_count = is_count.then_some(container.pids.len() as u64);
        for _ in 0..malformed {
            self.self_metrics.count_read_error("cgroup.procs", "malformed");
        }
        self.count_listed(container);
        self.choose_process(container, names);
    }

    fn count_listed(&self, container: &mut Container) {
        if let Some((slot, count)) = self.plan.process_count.zip(container.process_count) {
            container.sample.set(slot, count);
        }
    }

    /// Keeps the chosen process while it lives in the container, else chooses the first that does.
    pub(crate) fn choose_process(&mut self, container: &mut Container, names: &Names) {
        if container.id.is_none() {
            return;
        }
        let shows_pids = container.pids.iter().any(|pid| *pid != 0);
        if container.process.as_ref().is_some_and(|process| !shows_pids || container.pids.contains(&process.pid)) {
            self.namespaces.host_pidns_visible = true;
            return;
        }
        // The engine's first process represents the container; a helper that was executed in it may be elsewhere. It is
        // also the only choice if the list hides its processes from us and procfs is the host's.
        let engine = container.info(names).and_then(|info| info.pid);
        let known = engine.filter(|pid| !shows_pids || container.pids.contains(pid));
        // Without the engine, chooses the oldest process, which has the lowest number.
        container.pids.sort_unstable();
        let candidates = known.into_iter().chain(container.pids.iter().copied().filter(|pid| *pid != 0));
        container.process = candidates
            .take(CANDIDATES)
            .find_map(|pid| Process::open(&self.procfs, pid, &container.path, self.live).ok());
        if let Some(process) = &mut container.process {
            process.permit = self.files.permit();
        }
        self.namespaces.record_process(container.process.as_ref());
    }

    /// Logs once that network and process counts are missing without the host's pid namespace, and marks the collectors
    /// failed.
    pub(crate) fn report_hidden_processes(&mut self, timing: &mut Timing) {
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

    /// Counts open files and sockets of the processes. There is no sum if one process cannot be read.
    pub(crate) fn read_descriptors(&mut self, container: &mut Container, timing: &mut Timing) {
        let mut refused = None;
        for (fact, slot) in &self.plan.processes {
            match count_processes(&self.procfs, &container.pids, *fact, self.live) {
                Ok(Some(value)) => container.sample.set(*slot, value),
                Ok(None) => {}
                Err(error) => {
                    self.self_metrics.count_read_error("fd", reason(&error));
                    refused = Some(error);
                }
            }
        }
        let Some(error) = refused else { return };
        timing.fail(CollectorSet::EMPTY.with(Collector::Process));
        if self.is_first(Collector::Process) {
            warn!(
                %error, container = %container.path,
                "open files and sockets of this container cannot be counted: give the exporter CAP_SYS_PTRACE, and CAP_DAC_READ_SEARCH if it \
                 does not run as root (--cap-add=SYS_PTRACE), or leave --collector.process out; --sandbox=on rules sockets out"
            );
        }
    }
}

/// Parses process numbers, one a line. Returns the number of malformed lines.
pub(crate) fn read_pids(text: &[u8], pids: &mut Vec<u32>) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        match number(line.trim_ascii()).and_then(|pid| u32::try_from(pid).ok()) {
            Some(pid) => pids.push(pid),
            None => malformed += 1,
        }
    }
    malformed
}

/// Reads the processes of the cgroups below a container's own, such as those of a container that runs systemd or an
/// engine. Returns the number of malformed lines, and whether all cgroups were read.
pub(crate) fn pids_below(directory: &Path, files: &mut Files, pids: &mut Vec<u32>) -> (u64, bool) {
    let mut malformed = 0;
    let missed = walk(directory, BELOW_CONTAINER, |visited| {
        if visited.path != directory
            && let Outcome::Text(text) = files.read_once(&visited.path.join("cgroup.procs"))
        {
            malformed += read_pids(text, pids);
        }
        Next::Descend
    });
    (malformed, !missed.truncated && missed.unreadable.is_none())
}
