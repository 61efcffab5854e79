//! `memory.stat` in detail: what the memory is made of, and what reclaim does to it.

use super::Source::{Absent, Flat};
use super::memory::STAT;
use super::{Collector, Controller, Family, File, Series, Source};

const EVENTS: File = File::new(Controller::Memory, "memory.events");

macro_rules! bytes {
    ($name:literal, $v2:literal, $v1:expr, $help:literal) => {
        Family::gauge(
            Collector::MemoryDetail,
            concat!("container_memory_", $name, "_bytes"),
            $help,
            &[Series::new(Flat(STAT, $v2), $v1, Absent)],
        )
        .bytes()
    };
}

macro_rules! events {
    ($name:literal, $v2:expr, $v1:expr, $help:literal) => {
        Family::counter(
            Collector::MemoryDetail,
            concat!("container_memory_", $name, "_total"),
            $help,
            &[Series::new($v2, $v1, Absent)],
        )
    };
}

const fn v1(key: &'static str) -> Source {
    Flat(STAT, key)
}

pub(super) const FAMILIES: &[Family] = &[
    bytes!("anon", "anon", v1("total_rss"), "Anonymous memory."),
    bytes!("file", "file", v1("total_cache"), "Page cache, shared memory included."),
    bytes!("kernel_stack", "kernel_stack", Absent, "Kernel stacks."),
    bytes!("pagetables", "pagetables", Absent, "Page tables (Linux 5.11)."),
    bytes!("percpu", "percpu", Absent, "Per-CPU kernel data (Linux 5.10)."),
    bytes!("sock", "sock", Absent, "Network buffers."),
    bytes!("vmalloc", "vmalloc", Absent, "Kernel memory mapped by vmalloc (Linux 5.19)."),
    bytes!("shmem", "shmem", v1("total_shmem"), "Shared memory and tmpfs."),
    bytes!("slab_reclaimable", "slab_reclaimable", Absent, "Kernel slab that can be taken back, such as dentries."),
    bytes!("slab_unreclaimable", "slab_unreclaimable", Absent, "Kernel slab that cannot be taken back."),
    bytes!("file_dirty", "file_dirty", v1("total_dirty"), "Page cache that waits to be written."),
    bytes!("file_writeback", "file_writeback", v1("total_writeback"), "Page cache being written."),
    bytes!("swapcached", "swapcached", v1("total_swapcached"), "Memory that is in swap and in core (Linux 5.12)."),
    bytes!("anon_thp", "anon_thp", v1("total_rss_huge"), "Anonymous memory in transparent huge pages."),
    bytes!("inactive_anon", "inactive_anon", v1("total_inactive_anon"), "Inactive anonymous memory."),
    bytes!("active_anon", "active_anon", v1("total_active_anon"), "Active anonymous memory."),
    bytes!("unevictable", "unevictable", v1("total_unevictable"), "Memory that cannot be taken back."),
    bytes!("total_active_file", "active_file", v1("total_active_file"), "Active page cache."),
    bytes!("total_inactive_file", "inactive_file", v1("total_inactive_file"), "Inactive page cache."),
    events!("pgscan", Flat(STAT, "pgscan"), Absent, "Pages that reclaim looked at."),
    events!("pgsteal", Flat(STAT, "pgsteal"), Absent, "Pages that reclaim took."),
    events!(
        "workingset_refault_file",
        Flat(STAT, "workingset_refault_file"),
        v1("total_workingset_refault_file"),
        "Page cache pages read again soon after they were taken (Linux 5.9)."
    ),
    events!(
        "workingset_refault_anon",
        Flat(STAT, "workingset_refault_anon"),
        v1("total_workingset_refault_anon"),
        "Anonymous pages read again soon after they were taken (Linux 5.9)."
    ),
    events!("events_high", Flat(EVENTS, "high"), Absent, "Times that usage went above memory.high."),
    events!("events_max", Flat(EVENTS, "max"), Absent, "Times that usage hit memory.max."),
];
