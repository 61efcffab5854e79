//! The program that counts how long the tasks of every cgroup wait for a CPU.
//!
//! Memory: the table of slots takes 384 KiB per CPU, and has room for 2,048 cgroups on each. The overflow map takes
//! entries without a slot: 256 KiB for its index, and about 260 bytes per entry, 4 MiB when full.

use std::collections::{HashMap, HashSet};

use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::latency::Histogram;
use exporter_ebpf::sched::{Offsets, Slot};
use exporter_ebpf::slots::Layout;

use super::Program;
use super::cpus::{self, Late};
use super::loader::Loader;
use super::owners::CgroupOwners;
use super::tables::{Table, TableSpec, ancestors, histogram, table_names};
use super::unsupported::Unsupported;

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/sched.o"));

/// 1,024 sets of two per CPU.
const SET_BITS: u32 = 10;
/// Capacity of the overflow map, in cgroups. It takes memory only for entries in use.
const OVERFLOW: u32 = 16_384;

/// The attached program and its table.
pub(super) struct Sched {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    table: Table<u64, Histogram>,
    /// Counts as of the last [`Sched::read`].
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
        let spec = TableSpec {
            names: table_names!("SCHED"),
            layout: Layout { shards: cpus::count(&online), set_bits: SET_BITS },
            slot_words: size_of::<Slot>() / size_of::<u64>(),
            cgroup_word: 0,
            overflow_entries: OVERFLOW,
        };
        loader.set_constant("SCHED_OFFSETS", offsets);
        loader.set_constant("SCHED_ANCESTORS", ancestors(loader)?);
        loader.set_constant("SCHED_SHARDS", cpus::shards(&online, Late::Overflows));
        spec.prepare(loader);
        let mut object = loader.load(OBJECT)?;
        loader.attach_tracepoint(&mut object, Program::SchedLatency, "sched_switch")?;
        let table = Table::take(&mut object, &spec)?;
        Ok(Self { object, table, totals: HashMap::new() })
    }

    /// Reads the counts of every cgroup: each slot once, and the overflow map.
    pub(super) fn read(&mut self) {
        self.table.free_retired();
        self.totals.clear();
        let held = self.table.held().map(|(_, cgroup, slot)| (cgroup, histogram(slot, 1)));
        for (cgroup, more) in held.chain(self.table.overflowed()) {
            self.totals.entry(cgroup).or_default().add(&more);
        }
    }

    /// Returns the times that tasks of a cgroup have waited, as of the last [`Sched::read`].
    pub(super) fn counted(&self, cgroup: u64) -> Option<&Histogram> {
        self.totals.get(&cgroup)
    }

    /// Returns the cgroups with counts, as of the last [`Sched::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().copied()
    }

    /// Returns the number of entries in use.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Returns the number of switches that were not counted for lack of an entry.
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
