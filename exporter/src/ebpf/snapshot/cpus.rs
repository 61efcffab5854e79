//! Finds where each CPU keeps its own copies of variables, by a variable of our own: nothing that all kernels have tells it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use exporter_ebpf::snapshot::{CPUS, LAST_CPU, MAP_WORDS};

use super::link::{Link, OBJECT, Order};
use crate::ebpf::cpus::Present;
use crate::ebpf::error::Unsupported;
use crate::ebpf::loader::{Loader, mapped_for_now, refused};

const PROGRAM: &str = "snapshot_cpus";

/// Offsets from an address that all CPUs share to each CPU's copy. Present CPUs that are offline still have what they counted; CPUs
/// that may yet be plugged in have counted nothing.
#[derive(Debug)]
pub(super) struct CpuOffsets {
    /// By the numbers of the CPUs.
    offsets: Vec<u64>,
    present: Present,
}

impl CpuOffsets {
    /// Finds them out.
    ///
    /// # Errors
    /// What the kernel refused or does not tell.
    pub(super) fn find(loader: &mut Loader, tree: &Path) -> Result<Self, Unsupported> {
        let present = Present::read()?;
        let pointer = loader.offset("bpf_array", "pptrs")?;
        let mut object = loader.load(OBJECT)?;
        let program = loader.iterate(&mut object, PROGRAM)?;
        let addresses = mapped_for_now(&mut object, "SNAPSHOT_CPUS", CPUS)?;
        let description = mapped_for_now(&mut object, "SNAPSHOT_PROBE_MAP", MAP_WORDS)?;
        let run = File::open(tree)
            .and_then(|cgroup| Link::new(program.as_fd(), &cgroup, Order::SelfOnly))
            .and_then(|link| link.run());
        run.map_err(|error| refused(PROGRAM, &error))?;
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let shared = usize::try_from(pointer / 8).ok().and_then(|index| description.words().get(index)).map_or(0, load);
        let addresses = addresses.words().iter().map(load).take_while(|address| *address != 0);
        let offsets: Vec<u64> = addresses.map(|address| address.wrapping_sub(shared)).collect();
        if shared == 0 || offsets.is_empty() {
            return Err(Unsupported::new(
                "the kernel does not tell where its CPUs keep variables",
                "please report it with its version",
            ));
        }
        Ok(Self { offsets, present })
    }

    /// Returns how many CPUs there can be; 0 where some that are present have numbers that the program does not reach.
    pub(super) fn len(&self) -> usize {
        let is_known = |cpu: &u32| usize::try_from(*cpu).is_ok_and(|cpu| cpu < self.offsets.len());
        if self.present.cpus().iter().all(is_known) { self.offsets.len() } else { 0 }
    }

    /// Writes the table of the program, if CPUs were plugged in since the last call.
    pub(super) fn refresh(&mut self, table: &[AtomicU64]) {
        if self.present.has_changed() {
            self.write(table);
        }
    }

    /// Writes the table of the program.
    pub(super) fn write(&self, table: &[AtomicU64]) {
        let present = self.present.cpus().iter().filter_map(|cpu| self.offsets.get(usize::try_from(*cpu).ok()?));
        let ended = present.copied().chain(std::iter::repeat(LAST_CPU));
        table.iter().zip(ended).for_each(|(entry, offset)| entry.store(offset, Ordering::Relaxed));
    }
}
