//! Reads how long the tasks of every cgroup have waited for a CPU, and keeps the table free of those who are gone.
//!
//! Memory: the table of slots is 384 KiB per CPU, for 2,048 cgroups each; the overflow map takes what finds no slot: 256 KiB
//! for its index, and about 260 bytes for each entry that is in it, at most 4 MiB.

use std::collections::{HashMap, HashSet};

use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::latency::Histogram;
use exporter_ebpf::sched::{Offsets, Slot};
use exporter_ebpf::slots::Layout;

use super::Program;
use super::cpus::{self, Late};
use super::error::Unsupported;
use super::loader::Loader;
use super::owners::CgroupOwners;
use super::quotas::ancestors;
use super::slots::{Table, TableSpec, histogram, names};

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/sched.o"));

/// 1,024 sets of two per CPU.
const SET_BITS: u32 = 10;
/// Cgroups that the overflow map takes. It holds memory only for those that are in it.
const OVERFLOW: u32 = 16_384;

/// The attached program and its maps.
pub(super) struct Sched {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    table: Table<u64, Histogram>,
    /// As of the last [`Sched::read`].
    totals: HashMap<u64, Histogram>,
}

impl Sched {
    /// Loads and attaches the program.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Unsupported> {
        let offsets = Offsets {
            task_queued: loader.offset("task_struct", "sched_info.last_queued")?,
            task_queue: loader.offset("task_struct", "se.cfs_rq")?,
            queue_rq: loader.offset("cfs_rq", "rq")?,
            rq_clock: loader.offset("rq", "clock")?,
            task_cgroups: loader.offset("task_struct", "cgroups")?,
            set_cgroup: loader.offset("css_set", "dfl_cgrp")?,
            id_offsets: loader.cgroup_id_offsets()?,
        };
        let online = cpus::online()?;
        let shape = TableSpec {
            names: names!("SCHED"),
            layout: Layout { shards: cpus::count(&online), set_bits: SET_BITS },
            words: size_of::<Slot>() / size_of::<u64>(),
            cgroup: 0,
            overflow: OVERFLOW,
        };
        loader.set("SCHED_OFFSETS", offsets);
        loader.set("SCHED_ANCESTORS", ancestors(loader)?);
        loader.set("SCHED_SHARDS", cpus::shards(&online, Late::Overflows));
        shape.prepare(loader);
        let mut object = loader.load(OBJECT)?;
        loader.trace(&mut object, Program::SchedLatency, "sched_switch")?;
        let table = Table::take(&mut object, &shape)?;
        Ok(Self { object, table, totals: HashMap::new() })
    }

    /// Adds up what every cgroup has waited so far.
    pub(super) fn read(&mut self) {
        self.table.free_retired();
        self.totals.clear();
        let held = self.table.held().map(|(_, cgroup, slot)| (cgroup, histogram(slot, 1)));
        for (cgroup, more) in held.chain(self.table.overflowed()) {
            self.totals.entry(cgroup).or_default().add(&more);
        }
    }

    /// Returns what a cgroup has waited, as of the last [`Sched::read`].
    pub(super) fn counted(&self, cgroup: u64) -> Option<&Histogram> {
        self.totals.get(&cgroup)
    }

    /// Returns the cgroups that have waited, as of the last [`Sched::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().copied()
    }

    /// Entries in use.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Switches that were not counted, as no entry was left.
    pub(super) fn refused(&self) -> u64 {
        self.table.refused()
    }

    /// Frees the entries of ended cgroups.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners) {
        self.table.retire(ended, owners, |cgroup| *cgroup);
    }

    /// Publishes the containers to the program.
    pub(super) fn publish(&mut self, owners: &CgroupOwners) {
        self.table.quotas().publish(owners.published());
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.table.owner(cgroup)
    }
}
