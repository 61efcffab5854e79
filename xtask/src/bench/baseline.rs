//! The baseline: the files that a scrape reads, read into one buffer, and nothing else done.
//!
//! In the loop: one `pread` per cgroup file that the exporter's plan names and that is there, one of `cgroup.procs`, both through
//! open descriptors, and `net/dev` of one process of the container, opened relative to that process' directory, read and closed, as
//! the exporter must (an open one would keep the container's network namespace alive). No path is built, nothing is parsed.
//!
//! Where the limit of descriptors does not allow all containers, as many as it allows are read, and the time is scaled to all.

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

/// Descriptors for everything else.
const RESERVE: usize = 200;

/// The open files of the containers.
#[derive(Debug)]
pub(super) struct Baseline {
    containers: Vec<Container>,
    /// Of all containers to those that are read.
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
    /// Opens what can be opened.
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

    /// CPU time of one round over all containers, in nanoseconds.
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
    /// A container that has just ended reads as nothing.
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
