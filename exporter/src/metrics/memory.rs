//! Memory: the rows of the collectors `memory`, `memory_detail`, `hugetlb` and `numa`, in this order.
//!
//! Kernel documentation: `cgroup-v2.rst` (memory, hugetlb), `cgroup-v1/memory.rst`, `cgroup-v1/hugetlb.rst`.

use super::Source::{Absent, Difference, FirstOf, Flat, HugePages, Json, Node, OomKills, Single, Sum};
use super::{Collector, Controller, Family, File, HostFact, Limit, Series, Source};

pub(super) const STAT: File = File::new(Controller::Memory, "memory.stat");
pub(super) const EVENTS: File = File::new(Controller::Memory, "memory.events");
pub(super) const OOM_CONTROL: File = File::new(Controller::Memory, "memory.oom_control");
/// Pages on v1, bytes on v2 (Linux 5.10).
const NUMA_STAT: File = File::new(Controller::Memory, "memory.numa_stat");

const CURRENT: Source = Single(File::new(Controller::Memory, "memory.current"));
const USAGE_IN_BYTES: Source = Single(File::new(Controller::Memory, "memory.usage_in_bytes"));
const FAILCNT: Source = Single(File::new(Controller::Memory, "memory.failcnt"));
const PEAK: Source = Single(File::new(Controller::Memory, "memory.peak"));
const MAX_USAGE: Source = Single(File::new(Controller::Memory, "memory.max_usage_in_bytes"));
const SWAP_CURRENT: Source = Single(File::new(Controller::Memory, "memory.swap.current"));
const KMEM_USAGE: Source = Single(File::new(Controller::Memory, "memory.kmem.usage_in_bytes"));

/// Kernel memory on v2: the key `kernel` of `memory.stat` (Linux 5.18), or on older kernels the sum of the parts that they show:
/// `kernel_stack` and `slab` (4.6), `percpu` (5.9), `pagetables` (5.11). `slab` contains `slab_reclaimable` and
/// `slab_unreclaimable`. `sock` is outside `kernel`; `vmalloc` is as new as `kernel`.
pub(super) const KERNEL: Source = FirstOf(&[
    Flat(STAT, "kernel"),
    Sum(&[Flat(STAT, "kernel_stack"), Flat(STAT, "pagetables"), Flat(STAT, "percpu"), Flat(STAT, "slab")]),
]);

/// A series from `memory.stat`: its keys on v2 and on v1.
const fn stat(v2: &'static str, v1: &'static str, api: Source) -> Series {
    Series::new(Flat(STAT, v2), Flat(STAT, v1), api)
}

/// A key of the engine's `memory_stats.stats`, which is the container's `memory.stat`: one name on v2, another on v1.
macro_rules! either {
    ($v2:literal, $v1:literal) => {
        FirstOf(&[Json(concat!("/memory_stats/stats/", $v1)), Json(concat!("/memory_stats/stats/", $v2))])
    };
}

/// The v1 source of a row of `memory_detail`: a key of `memory.stat`.
const fn v1(key: &'static str) -> Source {
    Flat(STAT, key)
}

const fn limit(limit: Limit) -> Series {
    Series::everywhere(Source::Limit(limit))
}

/// A kind of memory event: a key of `memory.events`, and its source on v1.
const fn event(labels: &'static str, key: &'static str, v1: Source) -> Series {
    Series::new(Flat(EVENTS, key), v1, Absent).labels(labels)
}

/// A series per NUMA node, in pages of 4 KiB as cAdvisor counts them. The file has bytes on v2.
const fn pages(labels: &'static str, v2: &'static str, v1: &'static str) -> Series {
    Series::new(Node(NUMA_STAT, v2, 4096), Node(NUMA_STAT, v1, 1), Absent).labels(labels)
}

/// A size of the collector `memory_detail`: a key of `memory.stat`.
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

/// A counter of the collector `memory_detail`.
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

pub(super) const ROWS: &[Family] = &[
    Family::gauge(
        Collector::Memory,
        "container_memory_usage_bytes",
        "Memory charged to the container, page cache included.",
        &[Series::new(CURRENT, USAGE_IN_BYTES, Json("/memory_stats/usage")).host(HostFact::MemoryUsed)],
    )
    .bytes(),
    Family::gauge(
        Collector::Memory,
        "container_memory_working_set_bytes",
        "Memory charged to the container less inactive page cache: what the kernel cannot easily take back.",
        &[Series::new(
            Difference(&CURRENT, &Flat(STAT, "inactive_file")),
            Difference(&USAGE_IN_BYTES, &Flat(STAT, "total_inactive_file")),
            Difference(&Json("/memory_stats/usage"), &either!("inactive_file", "total_inactive_file")),
        )
        .host(HostFact::MemoryWorkingSet)],
    )
    .bytes(),
    Family::gauge(
        Collector::Memory,
        "container_memory_rss",
        "Anonymous memory in bytes (huge pages included), not the sum of the processes' resident sets.",
        &[stat("anon", "total_rss", either!("anon", "total_rss")).host(HostFact::Meminfo("AnonPages"))],
    ),
    Family::gauge(
        Collector::Memory,
        "container_memory_cache",
        "Page cache in bytes, shared memory included.",
        &[stat("file", "total_cache", either!("file", "total_cache")).host(HostFact::Meminfo("Cached"))],
    ),
    Family::gauge(
        Collector::Memory,
        "container_memory_swap",
        "Swap in use, in bytes.",
        &[Series::new(SWAP_CURRENT, Flat(STAT, "total_swap"), Json("/memory_stats/stats/total_swap"))
            .host(HostFact::SwapUsed)],
    ),
    Family::gauge(
        Collector::Memory,
        "container_memory_mapped_file",
        "Mapped page cache in bytes.",
        &[stat("file_mapped", "total_mapped_file", either!("file_mapped", "total_mapped_file"))
            .host(HostFact::Meminfo("Mapped"))],
    ),
    Family::gauge(
        Collector::Memory,
        "container_memory_kernel_usage",
        "Kernel memory in bytes. On cgroup v2 before Linux 5.18 the sum of those parts that the kernel shows: stacks, slab, \
         per-CPU data (5.9) and page tables (5.11).",
        &[Series::new(KERNEL, KMEM_USAGE, Json("/memory_stats/stats/kernel")).host(HostFact::KernelMemory)],
    ),
    Family::gauge(
        Collector::Memory,
        "container_memory_max_usage_bytes",
        "Highest memory usage so far. On cgroup v2 since Linux 5.19.",
        &[Series::new(PEAK, MAX_USAGE, Json("/memory_stats/max_usage")).host(HostFact::Cgroup)],
    )
    .bytes(),
    Family::counter(
        Collector::Memory,
        "container_memory_failcnt",
        "Times that usage hit the memory limit.",
        &[Series::new(Flat(EVENTS, "max"), FAILCNT, Json("/memory_stats/failcnt")).host(HostFact::Cgroup)],
    ),
    Family::counter(
        Collector::Memory,
        "container_memory_failures_total",
        "Page faults of the container and the cgroups below it.",
        &[
            stat("pgfault", "total_pgfault", either!("pgfault", "total_pgfault"))
                .labels(r#"failure_type="pgfault",scope="hierarchy""#)
                .host(HostFact::Vmstat(&["pgfault"])),
            stat("pgmajfault", "total_pgmajfault", either!("pgmajfault", "total_pgmajfault"))
                .labels(r#"failure_type="pgmajfault",scope="hierarchy""#)
                .host(HostFact::Vmstat(&["pgmajfault"])),
        ],
    ),
    Family::counter(
        Collector::Memory,
        "container_memory_events_total",
        "Memory events of the container and the cgroups below it, by kind; each but oom_kill from the first one on. \
         On cgroup v1 only oom_kill.",
        &[
            event(r#"event="low""#, "low", Absent).omit_zero(),
            event(r#"event="high""#, "high", Absent).omit_zero(),
            event(r#"event="max""#, "max", Absent).omit_zero(),
            event(r#"event="oom""#, "oom", Absent).omit_zero(),
            event(r#"event="oom_kill""#, "oom_kill", Flat(OOM_CONTROL, "oom_kill")),
            event(r#"event="oom_group_kill""#, "oom_group_kill", Absent).omit_zero(),
        ],
    ),
    Family::counter(
        Collector::Memory,
        "container_oom_events_total",
        "Processes killed for lack of memory, over all runs of the container since the exporter's start: what the kernel counted \
         in each run (cgroup v1: Linux 4.13), or the engine's oom events if a run that has ended had more.",
        &[Series::new(
            OomKills(&Flat(EVENTS, "oom_kill")),
            OomKills(&Flat(OOM_CONTROL, "oom_kill")),
            OomKills(&Absent),
        )
        .host(HostFact::Vmstat(&["oom_kill"]))],
    ),
    Family::gauge(
        Collector::Memory,
        "container_spec_memory_limit_bytes",
        "Memory limit; 0 where not limited. Of the host its memory.",
        &[limit(Limit::Memory).host(HostFact::Meminfo("MemTotal"))],
    )
    .bytes(),
    Family::gauge(
        Collector::Memory,
        "container_spec_memory_swap_limit_bytes",
        "Swap limit, memory not included; 0 where not limited or no swap is allowed. Of the host its swap.",
        &[limit(Limit::Swap).host(HostFact::Meminfo("SwapTotal"))],
    )
    .bytes(),
    Family::gauge(
        Collector::Memory,
        "container_spec_memory_reservation_limit_bytes",
        "Memory that reclaim leaves to the container; 0 where none is reserved.",
        &[limit(Limit::MemoryReservation)],
    )
    .bytes(),
    bytes!("anon", "anon", v1("total_rss"), "Anonymous memory."),
    bytes!("file", "file", v1("total_cache"), "Page cache, shared memory included."),
    bytes!("kernel_stack", "kernel_stack", Absent, "Kernel stacks."),
    bytes!("pagetables", "pagetables", Absent, "Page tables (Linux 5.11)."),
    bytes!("percpu", "percpu", Absent, "Per-CPU kernel data (Linux 5.9)."),
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
    // Per page size: `pagesize="2MB"`.
    Family::gauge(
        Collector::Hugetlb,
        "container_hugetlb_usage_bytes",
        "Huge pages in use, in bytes.",
        &[Series::new(HugePages("current", None), HugePages("usage_in_bytes", None), Absent)],
    )
    .bytes(),
    Family::gauge(
        Collector::Hugetlb,
        "container_hugetlb_max_usage_bytes",
        "Most huge pages in use so far, in bytes. Cgroup v1 only.",
        &[Series::new(Absent, HugePages("max_usage_in_bytes", None), Absent)],
    )
    .bytes(),
    Family::counter(
        Collector::Hugetlb,
        "container_hugetlb_failcnt",
        "Times that a huge page was refused because of the limit.",
        &[Series::new(HugePages("events", Some("max")), HugePages("failcnt", None), Absent)],
    ),
    Family::gauge(
        Collector::Numa,
        "container_memory_numa_pages",
        "Memory per NUMA node in pages of 4 KiB, the cgroups below included.",
        &[
            pages(r#"scope="hierarchy",type="file""#, "file", "hierarchical_file"),
            pages(r#"scope="hierarchy",type="anon""#, "anon", "hierarchical_anon"),
            pages(r#"scope="hierarchy",type="unevictable""#, "unevictable", "hierarchical_unevictable"),
        ],
    ),
];
