//! Where each CPU keeps its own copies of variables: found out by a variable of our own, as nothing that all kernels have
//! tells it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use exporter_ebpf::snapshot::{CPUS, MAP_WORDS};

use super::link::{Link, Order};
use super::walk::OBJECT;
use crate::ebpf::facts::Obstacle;
use crate::ebpf::loader::{Loader, cpus, mapped_for_now, refused};

const PROGRAM: &str = "snapshot_cpus";

/// What is to be added to an address that all CPUs share, for each of them.
///
/// # Errors
/// What the kernel refused or does not tell.
pub(super) fn bases(loader: &mut Loader, tree: &Path) -> Result<Vec<u64>, Obstacle> {
    let count = cpus()?.min(CPUS);
    let pointer = loader.offset("bpf_array", "pptrs")?;
    let mut object = loader.load(OBJECT)?;
    let program = loader.iterate(&mut object, PROGRAM)?;
    let told = mapped_for_now(&mut object, "SNAPSHOT_CPUS", CPUS)?;
    let description = mapped_for_now(&mut object, "SNAPSHOT_PROBE_MAP", MAP_WORDS)?;
    let run = File::open(tree)
        .and_then(|cgroup| Link::new(program.as_fd(), &cgroup, Order::SelfOnly))
        .and_then(|link| link.run());
    run.map_err(|error| refused(PROGRAM, &error))?;
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let shared = usize::try_from(pointer / 8).ok().and_then(|place| description.words().get(place)).map_or(0, load);
    if shared == 0 {
        return Err(Obstacle::new(
            "the kernel does not tell where its CPUs keep variables",
            "please report it with its version",
        ));
    }
    Ok(told.words().iter().take(count).map(|place| load(place).wrapping_sub(shared)).collect())
}
