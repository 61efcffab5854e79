//! A container, or another cgroup, and its state between two scrapes.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::discover::{ContainerId, cgroup};
use crate::ebpf::{ContainerRef, LoadAverage};
use crate::name::{ContainerInfo, Names};
use crate::read::disk::mounts::ContainerDisk;
use crate::read::disk::statfs::FsStats;
use crate::read::files::format::Device;
use crate::read::files::limits::{Limits, LimitsVersion};
use crate::read::files::open_files::{FdPermit, FileState, Files};
use crate::read::network::interfaces::Interfaces;
use crate::read::network::sockets::SocketState;
use crate::read::plan::Plan;
use crate::read::process::Process;
use crate::read::sample::Sample;
use crate::read::snapshot::record::ContainerRecord;

/// A container with its open files and its last values. The host and cgroups that are not containers have the same state.
#[derive(Debug)]
pub struct Container {
    /// Id of the container; none for the host and for a cgroup that is not a container.
    pub id: Option<ContainerId>,
    /// Whether the engine's report for this id describes this cgroup.
    pub named: bool,
    /// Unique number of the container in its reader.
    pub generation: u64,
    /// Cgroup path with a leading slash; `/` for the host.
    pub path: String,
    /// Values of the last pass.
    pub sample: Sample,
    /// Its limits, as last read.
    pub limits: Limits,
    /// Whether its cgroup existed at the last visit.
    pub alive: bool,
    /// Version of the limits; none if they have to be read.
    pub(super) limits_version: Option<LimitsVersion>,
    /// When it was first visited.
    pub(super) first_seen: Option<Instant>,
    /// State of each planned file; empty until one is read.
    pub(super) files: Vec<FileState>,
    /// State of `cgroup.procs`.
    pub(super) procs: FileState,
    /// Index of the searched tree that lists its processes.
    pub(super) home: usize,
    /// Its directory in that tree, whose link count shows whether there are cgroups below.
    pub(super) directory: Option<(File, FdPermit)>,
    /// The process through which its network and its disk are read.
    pub(super) process: Option<Process>,
    /// Its interfaces, as last read.
    pub(super) interfaces: Interfaces,
    pub(super) sockets: SocketState,
    /// Where its files are on disk.
    pub(super) disk: Option<ContainerDisk>,
    /// Whether its filesystem ever failed to answer in time.
    pub(super) disk_has_timed_out: bool,
    /// Values of its filesystem in this pass, until they are in the sample.
    pub(super) fs_stats: Option<FsStats>,
    /// Numbers of its processes when they were last listed.
    pub(super) pids: Vec<u32>,
    /// Number of its processes, if all could be listed.
    pub(super) process_count: Option<u64>,
    /// Devices whose values come from the eBPF program, because the files had none when the container was first seen to use them.
    pub(super) probe_fed: Vec<Device>,
    /// Its record in snapshots of the kernel's counters.
    pub(super) record: ContainerRecord,
    /// Number of its tasks when its processes were last listed, and the time at which they are listed again.
    pub(super) listed: Option<(u64, Instant)>,
    /// Its load average, if threads are counted by files.
    pub(super) load: LoadAverage,
    /// When its threads were last counted for the load average.
    pub(super) load_counted: Option<Instant>,
}

impl Container {
    pub(super) fn new(id: Option<ContainerId>, generation: u64, path: String, plan: &Plan) -> Self {
        Self {
            id,
            named: true,
            generation,
            path,
            sample: Sample::new(plan.slots, plan.columns),
            limits: Limits::default(),
            alive: true,
            limits_version: None,
            first_seen: None,
            files: Vec::new(),
            procs: FileState::New,
            home: 0,
            directory: None,
            process: None,
            interfaces: Interfaces::default(),
            sockets: SocketState::default(),
            disk: None,
            disk_has_timed_out: false,
            fs_stats: None,
            pids: Vec::new(),
            process_count: None,
            probe_fed: Vec::new(),
            record: ContainerRecord::default(),
            listed: None,
            load: LoadAverage::default(),
            load_counted: None,
        }
    }

    /// Builds the path of one of its files in `path`, whose memory is reused.
    pub(super) fn file_path(&self, tree: &Path, name: &str, path: &mut PathBuf) {
        path.as_mut_os_string().clear();
        path.push(tree);
        path.push(self.path.trim_start_matches('/'));
        path.push(name);
    }

    /// Returns whether it is the host, whose files are those of the root cgroup.
    pub(super) fn is_host(&self) -> bool {
        self.id.is_none() && self.path == "/"
    }

    /// Returns whether there are cgroups below its own, by the link count of its directory.
    pub(super) fn has_children(&mut self, tree: &Path, path: &mut PathBuf, files: &mut Files) -> bool {
        if let Some((directory, _)) = &self.directory {
            return !is_leaf(directory.metadata());
        }
        self.file_path(tree, "", path);
        let Some(permit) = files.permit() else { return !is_leaf(path.metadata()) };
        self.directory = File::open(path.as_path()).ok().map(|directory| (directory, permit));
        !self.directory.as_ref().is_some_and(|(directory, _)| is_leaf(directory.metadata()))
    }

    /// Returns whether its last list of processes was empty.
    #[must_use]
    pub fn seems_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// Returns the engine's report on it.
    pub(super) fn info<'a>(&self, names: &'a Names) -> Option<&'a ContainerInfo> {
        let id = self.id.filter(|_| self.named)?;
        names.containers.get(&id).map(|info| &**info)
    }

    /// Makes the next visit try absent files again. Some appear later than the directory, or when a controller is enabled.
    pub(super) fn retry_absent(&mut self) {
        self.files.iter_mut().chain([&mut self.procs]).for_each(FileState::retry);
    }
}

fn is_leaf(directory: std::io::Result<Metadata>) -> bool {
    directory.is_ok_and(|metadata| cgroup::is_leaf(&metadata))
}

/// Returns the containers in the form that the eBPF programs take.
pub(super) fn holders(containers: &[Container]) -> impl Iterator<Item = ContainerRef<'_>> + Clone {
    containers.iter().filter_map(|container| {
        Some(ContainerRef { id: container.id?, generation: container.generation, path: &container.path })
    })
}

#[cfg(test)]
mod tests {
    use super::{Container, Files, Plan};

    #[test]
    fn the_directory_counts_among_the_held_descriptors() {
        let tree = tempfile::tempdir().unwrap();
        let mut files = Files::new(true);
        let mut container = Container::new(None, 0, "/".to_owned(), &Plan::default());
        assert!(!container.has_children(tree.path(), &mut std::path::PathBuf::new(), &mut files));
        assert_eq!(files.descriptors().1, 1);
        assert!(!container.has_children(tree.path(), &mut std::path::PathBuf::new(), &mut files));
        assert_eq!(files.descriptors().1, 1);
        drop(container);
        assert_eq!(files.descriptors().1, 0);
    }
}
