//! The baseline: a loop that only reads the files of a scrape into one buffer.
//!
//! The loop makes one `pread` for each existing cgroup file of the exporter's plan and one for `cgroup.procs`, both through
//! open descriptors. It opens, reads and closes `net/dev` of one process of the container relative to that process's
//! directory, as the exporter must (an open file would keep the container's network namespace alive). It builds no path and
//! parses nothing.
//!
//! If the limit of descriptors does not allow all containers, the loop reads as many as possible, and the time is scaled.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, ensure};
use docker_stats_exporter::discover::{Hierarchy, find_all};
use docker_stats_exporter::metrics::{CollectorSet, FAMILIES, FamilySet};
use docker_stats_exporter::read::for_cgroups;
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::figures::{float, thread_ns};
use super::fixtures::CGROUPS;

/// Number of descriptors for other purposes.
const RESERVE: usize = 200;

/// The open files of the containers.
#[derive(Debug)]
pub(super) struct Baseline {
    containers: Vec<Container>,
    /// Ratio of all containers to those that are read.
    scale: f64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Container {
    files: Vec<File>,
    /// The directory of one of its processes.
    process: Option<File>,
}

impl Baseline {
    /// Opens the files of as many containers as possible.
    pub(super) fn open() -> anyhow::Result<Self> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
            .context("cannot raise the descriptor limit")?;
        let hierarchy = Hierarchy::detect(Path::new(CGROUPS))?;
        let (plan, _) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, CollectorSet::defaults()));
        let procs = hierarchy.searched().first().context("no tree lists processes")?.clone();
        let found = find_all(hierarchy.searched());
        let room = usize::try_from(maximum.unwrap_or(u64::MAX))?.saturating_sub(RESERVE);
        let open = |(_, path): &(_, String)| {
            let path = path.trim_start_matches('/');
            let planned = plan.files.iter().filter_map(|file| {
                let names = [Some(&*file.name), file.fallback];
                names.into_iter().flatten().find_map(|name| File::open(file.tree.join(path).join(name)).ok())
            });
            let list = procs.path.join(path).join("cgroup.procs");
            let first = fs::read_to_string(&list).ok().and_then(|pids| Some(pids.lines().next()?.to_owned()));
            let process = first.and_then(|pid| File::open(Path::new("/proc").join(pid)).ok());
            Container { files: planned.chain(File::open(&list)).collect(), process }
        };
        let mut used = 0;
        let containers: Vec<Container> = found
            .iter()
            .map(open)
            .take_while(|container| {
                used += container.files.len() + 1;
                used <= room
            })
            .collect();
        ensure!(!containers.is_empty(), "there is no container that could be read");
        let scale = float(found.len() as u64) / float(containers.len() as u64);
        Ok(Self { containers, scale, buffer: vec![0; 16 * 1024] })
    }

    /// Reads all files once. Returns the CPU time in nanoseconds, scaled to all containers.
    pub(super) fn round(&mut self) -> u64 {
        let before = thread_ns();
        for container in &self.containers {
            container.read(&mut self.buffer);
        }
        let spent = thread_ns().saturating_sub(before);
        std::time::Duration::from_nanos(spent).mul_f64(self.scale).as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

impl Container {
    /// Reads all files. Those of a container that has just ended are empty.
    fn read(&self, buffer: &mut [u8]) {
        for file in &self.files {
            file.read_at(buffer, 0).unwrap_or_default();
        }
        let net_dev = self.process.as_ref().and_then(|directory| open_net_dev(directory).ok());
        net_dev.and_then(|file| file.read_at(buffer, 0).ok()).unwrap_or_default();
    }
}

fn open_net_dev(directory: &File) -> io::Result<File> {
    Ok(openat(directory, "net/dev", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}
