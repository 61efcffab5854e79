//! Reads how long the tasks of every cgroup have waited for a CPU, and keeps the table free of those who are gone.
//!
//! Memory: the table of slots is 384 KiB per CPU, for 2,048 cgroups each; the overflow map takes what finds no slot, about
//! 260 bytes for each entry that is in it, at most 4 MiB.

use std::collections::{HashMap, HashSet};

use aya::maps::{HashMap as KernelMap, MapData, PerCpuArray};
use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::latency::Histogram;
use exporter_ebpf::sched::{Layout, Offsets, Slot};

use super::Program;
use super::facts::Obstacle;
use super::loader::{Loader, map, mapped};
use super::slots::{Slots, histogram, total};

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/sched.o"));

/// 1,024 sets of two per CPU.
const SET_BITS: u32 = 10;
/// Cgroups that the overflow map takes. It holds memory only for those that are in it.
const OVERFLOW: u32 = 16_384;

const WORDS: usize = size_of::<Slot>() / size_of::<u64>();

/// The program, attached, and its maps.
pub(super) struct Sched {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    slots: Slots,
    overflow: KernelMap<MapData, u64, Histogram>,
    refused: PerCpuArray<MapData, u64>,
    /// As of the last [`Sched::read`].
    totals: HashMap<u64, Histogram>,
}

impl Sched {
    /// Loads and attaches the program.
    ///
    /// # Errors
    /// What the kernel refused or does not have.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Obstacle> {
        let offsets = Offsets {
            task_queued: loader.offset("task_struct", "sched_info.last_queued")?,
            task_queue: loader.offset("task_struct", "se.cfs_rq")?,
            queue_rq: loader.offset("cfs_rq", "rq")?,
            rq_clock: loader.offset("rq", "clock")?,
            task_cgroups: loader.offset("task_struct", "cgroups")?,
            set_cgroup: loader.offset("css_set", "dfl_cgrp")?,
            cgroup_kn: loader.offset("cgroup", "kn")?,
            kn_id: loader.offset("kernfs_node", "id")?,
        };
        let layout = Layout { cpus: u32::try_from(super::loader::cpus()?).unwrap_or(1), set_bits: SET_BITS };
        loader.set("SCHED_OFFSETS", offsets);
        loader.set("SCHED_LAYOUT", layout);
        loader.size("SCHED_SLOTS", layout.slots());
        loader.size("SCHED_OVERFLOW", OVERFLOW);
        let mut object = loader.load(OBJECT)?;
        loader.trace(&mut object, Program::SchedLatency, "sched_switch")?;
        let slots = Slots::new(mapped(&mut object, "SCHED_SLOTS", layout.slots() as usize * WORDS)?, WORDS);
        let overflow = map(&mut object, "SCHED_OVERFLOW")?;
        let refused = map(&mut object, "SCHED_REFUSED")?;
        Ok(Self { object, slots, overflow, refused, totals: HashMap::new() })
    }

    /// Adds up what every cgroup has waited so far.
    pub(super) fn read(&mut self) {
        self.slots.free_retired();
        self.totals.clear();
        let held = self.slots.held().map(|(_, cgroup, slot)| (cgroup, histogram(slot, 1)));
        for (cgroup, more) in held.chain(self.overflow.iter().filter_map(Result::ok)) {
            self.totals.entry(cgroup).or_default().add(&more);
        }
    }

    /// What a cgroup has waited, as of the last [`Sched::read`].
    pub(super) fn counted(&self, cgroup: u64) -> Option<&Histogram> {
        self.totals.get(&cgroup)
    }

    /// The cgroups that have waited, as of the last [`Sched::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().copied()
    }

    /// Entries in use.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Switches that were not counted, as no entry was left.
    pub(super) fn refused(&self) -> u64 {
        total(&self.refused)
    }

    /// Gives the entries of ended cgroups back.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>) {
        self.slots.retire(ended);
        for cgroup in ended {
            // Most never had one.
            self.overflow.remove(cgroup).unwrap_or_default();
        }
    }
}
