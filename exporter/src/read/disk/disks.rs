//! The disks of the containers and of the host in a pass: what to request at its beginning, and which answers belong to whom.
//!
//! Containers usually share a filesystem, so that one of them requests its size for all. Another container requests it if that
//! one fails, because the failure may be its own: a process may have changed its root.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::discover::{ContainerId, IdFilter};
use crate::metrics::{DiskFact, SelfMetrics};
use crate::read::container::Container;
use crate::read::disk::host::{FIRST_INDEX, HostFilesystems};
use crate::read::disk::layers::LayerSizes;
use crate::read::disk::mounts::{ContainerDisk, HostMounts};
use crate::read::disk::statfs::{FsStats, Request, StatfsThreads, Target, is_timeout, reason};
use crate::read::diskstats::Devices;
use crate::read::files::format::Device;
use crate::read::host::is_live;
use crate::read::plan::Plan;
use crate::read::process::Process;
use crate::read::sample::fill::fill_filesystem;
use crate::read::sample::{Labels, Sample};
use crate::walker::Walker;

/// Age up to which a container without known directories is looked at again: its first process may still have the mounts of
/// the host when it is first seen.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Maximum number of threads that one shared filesystem may block, each by the request of another container.
const MAX_BLOCKED: usize = 2;
/// Maximum number of shared filesystems. With more, the next pass begins without any.
const MAX_SHARED: usize = 1024;

/// State of all disks. Its collections keep their memory from pass to pass.
#[derive(Debug)]
pub(crate) struct Disks {
    procfs: PathBuf,
    /// Whether the files of a running host are read, and not a capture, whose disks are not here.
    is_live: bool,
    self_metrics: SelfMetrics,
    threads: StatfsThreads,
    layers: LayerSizes,
    host: HostFilesystems,
    /// The mounts of the host, once a container of this pass needs them.
    mounts: Option<HostMounts>,
    /// Filesystems with one size for all containers on them.
    shared: HashMap<Device, SharedFilesystem>,
    /// Reused memory for the answers.
    answers: Vec<(usize, io::Result<FsStats>)>,
    /// Whether a failure other than a timeout was logged.
    has_warned: bool,
}

/// A filesystem whose size one container requests for all.
#[derive(Debug, Default)]
struct SharedFilesystem {
    is_requested: bool,
    /// Indices of the other containers on it.
    others: Vec<usize>,
    /// Number of those that have requested it in place of the first.
    tried: usize,
    /// Generations of the containers whose request timed out and still blocks a thread.
    blocked: Vec<u64>,
}

impl SharedFilesystem {
    /// Requests the filesystem by the next of the other containers. Returns false if there is none left.
    fn request_next(&mut self, threads: &StatfsThreads, procfs: &Path, containers: &[Container]) -> bool {
        while let (true, Some(&index)) = (self.blocked.len() < MAX_BLOCKED, self.others.get(self.tried)) {
            self.tried += 1;
            if containers.get(index).is_some_and(|container| request_root(threads, procfs, container, index)) {
                return true;
            }
        }
        false
    }
}

/// Requests the filesystem of a container's root. Returns false if an earlier request for the container is still blocked.
fn request_root(threads: &StatfsThreads, procfs: &Path, container: &Container, index: usize) -> bool {
    let Some(disk) = &container.disk else { return false };
    // Not every container holds its process open until the end of the pass.
    let reopen = || Process::open(procfs, *container.pids.first()?, &container.path, true).ok();
    let reopened = if container.process.is_none() { reopen() } else { None };
    let target = Target::Root(disk.root(container.process.as_ref().or(reopened.as_ref())));
    threads.request(Request { index, generation: container.generation, target }, container.disk_has_timed_out)
}

impl Disks {
    pub(crate) fn new(procfs: &Path, is_live: bool, walker: Option<Walker>, self_metrics: SelfMetrics) -> Self {
        Self {
            procfs: procfs.to_owned(),
            is_live,
            layers: LayerSizes::new(walker, self_metrics.clone()),
            self_metrics,
            threads: StatfsThreads::default(),
            host: HostFilesystems::default(),
            mounts: None,
            shared: HashMap::new(),
            answers: Vec::new(),
            has_warned: false,
        }
    }

    /// Begins a pass, and requests the host's filesystems if `with_host`. Returns false if one of them is still blocked by an
    /// earlier request.
    pub(crate) fn begin(&mut self, is_wanted: bool, with_host: bool, now: Instant) -> bool {
        self.threads.begin();
        self.mounts = None;
        if self.shared.len() > MAX_SHARED {
            self.shared.clear();
        }
        for shared in self.shared.values_mut() {
            (shared.is_requested, shared.tried) = (false, 0);
            shared.others.clear();
            shared.blocked.retain(|generation| self.threads.is_running(*generation));
        }
        if !is_wanted {
            return true;
        }
        self.layers.receive(now);
        !(self.is_live && with_host) || self.host.request(&self.threads, now, &self.self_metrics)
    }

    /// Requests the sizes of a container's layer and of its filesystem. `index` is the index of the container in the slice
    /// that [`Disks::finish`] gets. Returns false if one of them cannot be requested.
    pub(crate) fn request(&mut self, container: &mut Container, index: usize, now: Instant) -> bool {
        // A cgroup that is not a container has neither.
        if container.id.is_none() {
            return true;
        }
        let is_young = now.saturating_duration_since(*container.first_seen.get_or_insert(now)) < SETTLE_TIME;
        let is_known = container.disk.as_ref().is_some_and(|disk| !disk.paths().is_empty() || !is_young);
        if let (false, Some(process)) = (is_known, &container.process) {
            let read = || HostMounts::read(&self.procfs, &self.self_metrics);
            let mounts = self.mounts.get_or_insert_with(read);
            container.disk = Some(ContainerDisk::find(process, container.id, mounts, &self.self_metrics));
        }
        let Some(disk) = container.disk.as_ref().filter(|_| self.is_live) else { return true };
        let has_layer = self.layers.request(container.generation, disk, &container.path, now);
        has_layer & self.request_filesystem(container, index)
    }

    fn request_filesystem(&mut self, container: &mut Container, index: usize) -> bool {
        let Some(disk) = container.disk.as_ref().filter(|_| container.process.is_some()) else { return true };
        if disk.device.is_none() {
            return false;
        }
        let Some(device) = disk.shared_device() else {
            let is_requested = request_root(&self.threads, &self.procfs, container, index);
            if !is_requested {
                self.report(container, &io::ErrorKind::TimedOut.into());
            }
            return is_requested;
        };
        let shared = self.shared.entry(device).or_default();
        // A container whose request timed out before comes after those whose request did not.
        let is_first = !shared.is_requested && !container.disk_has_timed_out && shared.blocked.len() < MAX_BLOCKED;
        if is_first && request_root(&self.threads, &self.procfs, container, index) {
            shared.is_requested = true;
        } else {
            shared.others.push(index);
        }
        true
    }

    /// Ends a pass: waits for the answers, for a bounded time, and stores them in the containers. Returns false if a filesystem
    /// could not be measured.
    pub(crate) fn finish(&mut self, containers: &mut [Container], now: Instant) -> bool {
        self.layers.send();
        let mut is_whole = self.request_rest(containers);
        let mut answers = std::mem::take(&mut self.answers);
        // A failure makes another container request the filesystem.
        loop {
            self.threads.answers(|index, answer| answers.push((index, answer)));
            if answers.is_empty() {
                break;
            }
            for (index, answer) in answers.drain(..) {
                is_whole &= self.store(containers, index, answer);
            }
        }
        self.answers = answers;
        self.layers.receive(now);
        let disks = containers.iter().filter_map(|container| Some((container.generation, container.disk.as_ref()?)));
        self.layers.finish(disks, now);
        is_whole
    }

    /// Requests the shared filesystems that no container has requested yet: the requests of all of them timed out before.
    fn request_rest(&mut self, containers: &[Container]) -> bool {
        let mut is_whole = true;
        let rest = self.shared.values_mut().filter(|shared| !shared.is_requested && !shared.others.is_empty());
        for shared in rest {
            shared.is_requested = shared.request_next(&self.threads, &self.procfs, containers);
            if !shared.is_requested {
                self.self_metrics.count_read_error("root", "hangs");
                is_whole = false;
            }
        }
        is_whole
    }

    /// Stores an answer in the container that has requested it and in those that share its filesystem. Returns false if it is
    /// an error.
    fn store(&mut self, containers: &mut [Container], index: usize, answer: io::Result<FsStats>) -> bool {
        if index >= FIRST_INDEX {
            return self.host.store(index, answer, &self.self_metrics);
        }
        let Some(container) = containers.get_mut(index) else { return true };
        let device = container.disk.as_ref().and_then(ContainerDisk::shared_device);
        match answer {
            Ok(stats) => {
                container.fs_stats = Some(stats);
                let shared = device.and_then(|device| self.shared.get_mut(&device));
                for other in shared.into_iter().flat_map(|shared| shared.others.drain(..)) {
                    if let Some(container) = containers.get_mut(other) {
                        container.fs_stats = Some(stats);
                    }
                }
                true
            }
            Err(error) => {
                self.report(container, &error);
                let generation = container.generation;
                if let Some(shared) = device.and_then(|device| self.shared.get_mut(&device)) {
                    shared.blocked.extend(is_timeout(&error).then_some(generation));
                    shared.request_next(&self.threads, &self.procfs, containers);
                }
                false
            }
        }
    }

    /// Counts that a container's filesystem could not be measured, and logs it: a timeout once for each container, any other
    /// failure once.
    fn report(&mut self, container: &mut Container, error: &io::Error) {
        self.self_metrics.count_read_error("root", reason(error));
        if is_timeout(error) {
            if !std::mem::replace(&mut container.disk_has_timed_out, true) {
                warn!(
                    container = %container.path,
                    "the filesystem of this container does not answer statfs: its size is left out until it does (look for a FUSE or \
                     network mount whose server is stopped or cannot be reached)"
                );
            }
        } else if !std::mem::replace(&mut self.has_warned, true) {
            warn!(
                %error, container = %container.path,
                "the size of this container's filesystem cannot be read: run the exporter on the host, or with --sandbox=off and \
                 CAP_SYS_PTRACE (--cap-add=SYS_PTRACE), or leave --collector.disk out"
            );
        }
    }

    /// Returns what is known of a container's disk after [`Disks::finish`]: the size of its layer, and values of its filesystem.
    pub(crate) fn values(&self, container: &Container) -> impl Fn(DiskFact) -> Option<u64> + use<> {
        let disk = container.disk.as_ref();
        let usage = disk.and_then(|disk| self.layers.known(container.generation, disk));
        let stats = container.fs_stats;
        move |fact| if fact == DiskFact::Usage { usage } else { stats.and_then(|stats| stats.get(fact)) }
    }

    /// Fills the host's filesystems into its sample.
    pub(crate) fn fill_host(&self, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        self.host.fill(plan, devices, labels, sample);
    }
}

/// The disks of the containers that engines list, for values from an engine's stats API: that reports neither filesystems nor
/// the size of a layer on disk.
///
/// Both are found as for containers with readable cgroups, by the mounts of the first process, whose number the engine reports.
#[derive(Debug)]
pub struct ListedDisks {
    disks: Disks,
    /// Containers without files of a cgroup: `pids` has their first process.
    containers: Vec<Container>,
    indices: HashMap<ContainerId, usize>,
    generations: u64,
    is_whole: bool,
    spent: Duration,
}

impl ListedDisks {
    /// Returns none if procfs is a capture, because this machine does not have its disks.
    #[must_use]
    pub fn new(procfs: &Path, walker: Option<Walker>, self_metrics: SelfMetrics) -> Option<Self> {
        is_live(procfs).then(|| Self {
            disks: Disks::new(procfs, true, walker, self_metrics),
            containers: Vec::new(),
            indices: HashMap::new(),
            generations: 0,
            is_whole: true,
            spent: Duration::ZERO,
        })
    }

    /// Begins a pass: requests the disks of the selected containers, and of the host if it is selected. `running` has all
    /// running containers, each with the number of its first process and the path of its cgroup.
    pub fn begin(
        &mut self,
        running: impl Iterator<Item = (ContainerId, u32, String)>,
        selected: &IdFilter,
        now: Instant,
    ) {
        self.is_whole = self.disks.begin(true, selected.has_host(), now);
        self.containers.iter_mut().for_each(|container| container.fs_stats = None);
        let known = self.containers.drain(..).filter_map(|container| Some((container.id?, container)));
        let mut known: HashMap<ContainerId, Container> = known.collect();
        self.indices.clear();
        for (id, pid, path) in running {
            let mut container = known.remove(&id).filter(|container| container.pids == [pid]);
            if selected.has(Some(id), &path) {
                // Where procfs is not the host's, the number is that of another process, or of none.
                let Ok(process) = Process::open(&self.disks.procfs, pid, &path, true) else { continue };
                let container = container.get_or_insert_with(|| {
                    self.generations += 1;
                    Container { pids: vec![pid], ..Container::new(Some(id), self.generations, path, &Plan::default()) }
                });
                container.process = Some(process);
                self.is_whole &= self.disks.request(container, self.containers.len(), now);
                // One descriptor for each container would be too many: the request holds its own.
                container.process = None;
            }
            self.indices.extend(container.is_some().then_some((id, self.containers.len())));
            self.containers.extend(container);
        }
        self.spent = now.elapsed();
    }

    /// Ends a pass: waits for the answers, for a bounded time. Returns the time that the pass has taken, and whether all sizes
    /// could be read.
    pub fn end(&mut self) -> (Duration, bool) {
        let now = Instant::now();
        self.is_whole &= self.disks.finish(&mut self.containers, now);
        (self.spent + now.elapsed(), self.is_whole)
    }

    /// Fills the values of a container into its sample.
    pub fn fill(&self, id: ContainerId, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        let Some(container) = self.indices.get(&id).and_then(|index| self.containers.get(*index)) else { return };
        let Some(disk) = &container.disk else { return };
        fill_filesystem(disk.label_source(), self.disks.values(container), plan, devices, labels, sample);
    }

    /// Fills the host's filesystems into its sample.
    pub fn fill_host(&self, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        self.disks.fill_host(plan, devices, labels, sample);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::discover::{Discovery, Hierarchy, NoEngine};
    use crate::metrics::{Collector, CollectorSet, Dimension, FAMILIES, FamilySet};
    use crate::name::Names;
    use crate::read::for_cgroups;
    use crate::read::reader::{Pass, Reader};

    const DISK: CollectorSet = CollectorSet::EMPTY.with(Collector::Disk);

    /// Creates a host with this number of containers on one disk.
    fn host(containers: u32) -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = host.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("cgroup/cgroup.controllers", "cpu\n");
        for pid in 10..10 + containers {
            let cgroup = format!("/system.slice/docker-{pid:064}.scope");
            write(&format!("cgroup{cgroup}/cgroup.procs"), &format!("{pid}\n"));
            write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
            write(&format!("proc/{pid}/mountinfo"), "31 29 8:1 / / rw - ext4 /dev/sda1 rw\n");
            symlink("/", host.path().join(format!("proc/{pid}/root"))).unwrap();
        }
        host
    }

    /// Returns a reader of the host, and a function that makes a pass and returns the number of containers with a size.
    fn reader(host: &Path) -> (Reader, impl FnMut(&mut Reader) -> usize) {
        let hierarchy = Hierarchy::detect(&host.join("cgroup")).unwrap();
        let mut discovery = Discovery::new(hierarchy.searched(), &host.join("proc"), true, true);
        let (plan, _) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, DISK));
        let reader = Reader::new(plan, hierarchy, &host.join("proc"), true, SelfMetrics::new().unwrap(), None);
        let pass = move |reader: &mut Reader| {
            let now = Instant::now();
            reader.apply(discovery.refresh(now, &NoEngine));
            reader.read(Pass::of_all(DISK, &Names::default()), now);
            let (_, limit) = *reader.plan.disks.iter().find(|(fact, _)| *fact == DiskFact::Limit).unwrap();
            let size =
                |container: &&Container| container.sample.table(Dimension::Device).column(limit).next().is_some();
            reader.containers.iter().filter(size).count()
        };
        (reader, pass)
    }

    #[test]
    fn one_that_hangs_speaks_for_no_other_container() {
        let host = host(3);
        let (mut reader, mut pass) = reader(host.path());
        assert_eq!(pass(&mut reader), 3);
        // The request of the first container is blocked since an earlier pass, and then that of the second.
        for hanging in 0..2 {
            reader.disks.threads.hang(reader.containers[hanging].generation);
            assert_eq!(pass(&mut reader), 3, "the others can be asked");
        }
        // Containers that have timed out do not request it first.
        reader.containers[0].disk_has_timed_out = true;
        reader.containers[1].disk_has_timed_out = true;
        assert_eq!(pass(&mut reader), 3);
        // Without any other container there is no size, and no further thread is blocked.
        reader.disks.threads.hang(reader.containers[2].generation);
        assert_eq!(pass(&mut reader), 0);
    }

    #[test]
    fn those_that_have_hung_are_asked_again_where_no_other_one_is_left() {
        let host = host(2);
        let (mut reader, mut pass) = reader(host.path());
        assert_eq!(pass(&mut reader), 2);
        reader.containers.iter_mut().for_each(|container| container.disk_has_timed_out = true);
        assert_eq!(pass(&mut reader), 2);
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_up_a_bounded_number_of_threads() {
        let host = host(5);
        let (mut reader, mut pass) = reader(host.path());
        assert_eq!(pass(&mut reader), 5);
        let blocked: Vec<u64> =
            reader.containers.iter().take(MAX_BLOCKED).map(|container| container.generation).collect();
        for generation in &blocked {
            reader.disks.threads.hang(*generation);
        }
        reader.disks.shared.values_mut().for_each(|shared| shared.blocked.clone_from(&blocked));
        assert_eq!(pass(&mut reader), 0, "no other one is asked");
        reader.disks.threads = StatfsThreads::default();
        assert_eq!(pass(&mut reader), 5, "it answers again");
    }

    #[test]
    fn listed_containers_are_measured_if_they_are_selected_and_each_may_request_for_the_others() {
        let host = host(2);
        let ids = [10, 11].map(|pid| format!("{pid:064}"));
        let mut listed = ListedDisks {
            disks: Disks::new(&host.path().join("proc"), true, None, SelfMetrics::new().unwrap()),
            containers: Vec::new(),
            indices: HashMap::new(),
            generations: 0,
            is_whole: true,
            spent: Duration::ZERO,
        };
        let mut pass = |selected: &IdFilter, hanging: Option<u64>| {
            listed.disks.threads = StatfsThreads::default();
            if let Some(generation) = hanging {
                listed.disks.threads.hang(generation);
            }
            let running = ids.iter().zip(10..).map(|(id, pid)| {
                (ContainerId::parse(id.as_bytes()).unwrap(), pid, format!("/system.slice/docker-{id}.scope"))
            });
            listed.begin(running, selected, Instant::now());
            listed.end();
            listed.containers.iter().map(|container| container.fs_stats.is_some()).collect::<Vec<_>>()
        };
        let without_host = IdFilter::new(ids.iter().map(String::as_str));
        assert_eq!(pass(&without_host, None), [true, true]);
        assert_eq!(pass(&IdFilter::new([&*ids[1]]), None), [false, true]);
        for generation in [1, 2] {
            assert_eq!(pass(&without_host, Some(generation)), [true, true]);
        }
    }
}
