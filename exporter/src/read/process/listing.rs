//! Lists the processes of a container, chooses the one through which its network is read, and counts open files and threads.
//!
//! Threads are counted by files only where no eBPF program does, at about 10 µs per thread.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::discover::walk::{BELOW_CONTAINER, Next, walk};
use crate::metrics::{Collector, CollectorSet, Probed, TaskState};
use crate::name::Names;
use crate::read::container::Container;
use crate::read::files::format::{lines, number};
use crate::read::files::open_files::{FileState, Files, Outcome, count_malformed, reason};
use crate::read::host::HiddenProcesses;
use crate::read::process::{Process, count_processes, unless_gone};
use crate::read::reader::{Pass, Reader};
use crate::read::timing::{Timing, stagger_group, staggered};

/// Maximum number of processes that are tried before a container has no network metrics in this scrape.
const CANDIDATES: usize = 8;

/// Maximum number of threads that are read of one container, which may have any number of them.
const MAX_THREADS: usize = 10_000;

/// Maximum age of a list of processes while the number of tasks stays the same. The list is wrong only if a process has replaced
/// a thread. Listing each minute takes a third of a scrape every 15 seconds.
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
        // Both read every process.
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
        count_malformed("cgroup.procs", malformed, &self.self_metrics);
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
        // The first process, which the engine reports, is in the container's namespaces; one that was executed in the container
        // later may be in others. It is also the only choice if the list hides the processes and procfs is the host's.
        let engine = container.info(names).and_then(|info| info.pid);
        let known = engine.filter(|pid| !shows_pids || container.pids.contains(pid));
        // Without the engine the oldest process is chosen, which has the lowest number.
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

    /// Counts open files and sockets of the processes. If one process cannot be read, there is no sum.
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

/// Parses process numbers, one per line. Returns the number of malformed lines.
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

/// Lists the processes in the cgroups below a container's own, such as those of a container that runs systemd or an engine. Returns the number of malformed lines, and whether all cgroups were read.
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

/// Threads by state. Procfs does not show waiting for I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct States {
    sleeping: u64,
    running: u64,
    stopped: u64,
    uninterruptible: u64,
}

impl States {
    fn get(self, state: TaskState) -> Option<u64> {
        match state {
            TaskState::Sleeping => Some(self.sleeping),
            TaskState::Running => Some(self.running),
            TaskState::Stopped => Some(self.stopped),
            TaskState::Uninterruptible => Some(self.uninterruptible),
            TaskState::IoWaiting => None,
        }
    }

    /// Counts a thread by the letter that procfs shows.
    fn add(&mut self, letter: u8) {
        match letter {
            b'S' | b'I' => self.sleeping += 1,
            b'R' => self.running += 1,
            b'T' | b't' => self.stopped += 1,
            b'D' => self.uninterruptible += 1,
            // A zombie or dead thread.
            _ => {}
        }
    }
}

impl Reader {
    /// Fills the states of the threads of a container, whose processes are listed, and its load average.
    pub(crate) fn read_threads(&self, container: &mut Container, now: Instant, timing: &mut Timing) {
        let pids = container.pids.as_slice();
        let states = match states(&self.procfs, pids) {
            Ok(Some(states)) => states,
            Ok(None) => return,
            Err(error) => {
                self.self_metrics.count_read_error("task", reason(&error));
                timing.fail(CollectorSet::EMPTY.with(Collector::Tasks));
                return;
            }
        };
        let since_last = container.load_counted.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        container.load.add(states.running, since_last);
        for (what, slot) in &self.plan.probes {
            let value = match *what {
                Probed::Threads(state) => states.get(state),
                Probed::Load => container.load.thousandths(),
                _ => None,
            };
            if let Some(value) = value {
                container.sample.set(*slot, value);
            }
        }
    }
}

/// Returns the states of all threads of these processes. None if one of them is in a pid namespace that procfs does not show (its
/// number is 0), or if all have ended.
///
/// # Errors
/// A process that cannot be read, or more than [`MAX_THREADS`], because the sum of a part would be wrong.
fn states(procfs: &Path, pids: &[u32]) -> io::Result<Option<States>> {
    if pids.contains(&0) {
        return Ok(None);
    }
    let (mut states, mut count) = (States::default(), 0);
    for pid in pids {
        let Some(threads) = unless_gone(fs::read_dir(procfs.join(pid.to_string()).join("task")))? else { continue };
        for thread in threads {
            let Some(thread) = unless_gone(thread)? else { break };
            let Some(text) = unless_gone(fs::read(thread.path().join("stat")))? else { continue };
            count += 1;
            if count > MAX_THREADS {
                return Err(io::Error::other("more threads than are read of one container"));
            }
            if let Some(letter) = letter(&text) {
                states.add(letter);
            }
        }
    }
    Ok((count > 0).then_some(states))
}

/// Returns the letter of the state, which stands after the name. The name may contain any character.
fn letter(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::{States, states};

    #[test]
    fn threads_are_counted_by_letter_and_names_do_not_matter() {
        let procfs = tempfile::tempdir().unwrap();
        let stats = ["(a) S 1", "(b) R 2) I 1", "(c) R 1", "(d) D 1", "(e) T 1", "(f) t 1", "(g) Z 1", "(h) X"];
        for (thread, stat) in stats.iter().enumerate() {
            let directory = procfs.path().join(format!("7/task/{thread}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("stat"), format!("{thread} {stat}")).unwrap();
        }
        let expected = States { sleeping: 2, running: 1, stopped: 2, uninterruptible: 1 };
        assert_eq!(states(procfs.path(), &[7, 8]).unwrap(), Some(expected), "one that has ended counts for nothing");
        assert_eq!(states(procfs.path(), &[7, 0]).unwrap(), None);
        assert_eq!(states(procfs.path(), &[8]).unwrap(), None, "absent is no 0");
    }
}
