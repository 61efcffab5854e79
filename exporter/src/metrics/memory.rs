//! Memory: usage, faults, events and limits. Kernel documentation: `cgroup-v2.rst` (memory), `cgroup-v1/memory.rst`.

use super::Source::{Absent, Difference, FirstOf, Flat, Json, OomKills, Single, Sum};
use super::{Collector, Controller, Family, File, HostFact, Limit, Series, Source};

pub(super) const STAT: File = File::new(Controller::Memory, "memory.stat");
const EVENTS: File = File::new(Controller::Memory, "memory.events");
const OOM_CONTROL: File = File::new(Controller::Memory, "memory.oom_control");

const CURRENT: Source = Single(File::new(Controller::Memory, "memory.current"));
const USAGE_IN_BYTES: Source = Single(File::new(Controller::Memory, "memory.usage_in_bytes"));
const FAILCNT: Source = Single(File::new(Controller::Memory, "memory.failcnt"));
const PEAK: Source = Single(File::new(Controller::Memory, "memory.peak"));
const MAX_USAGE: Source = Single(File::new(Controller::Memory, "memory.max_usage_in_bytes"));
const SWAP_CURRENT: Source = Single(File::new(Controller::Memory, "memory.swap.current"));
const KMEM_USAGE: Source = Single(File::new(Controller::Memory, "memory.kmem.usage_in_bytes"));

/// `memory.stat` has `kernel` since Linux 5.18; before, the parts that the kernel shows are added up: `kernel_stack` and
/// `slab` (4.6), `percpu` (5.9), `pagetables` (5.11). `slab` contains `slab_reclaimable` and `slab_unreclaimable`. `sock` is
/// no part of `kernel`, and `vmalloc` came with it.
pub(super) const KERNEL: Source = FirstOf(&[
    Flat(STAT, "kernel"),
    Sum(&[Flat(STAT, "kernel_stack"), Flat(STAT, "pagetables"), Flat(STAT, "percpu"), Flat(STAT, "slab")]),
]);

const fn stat(v2: &'static str, v1: &'static str, api: Source) -> Series {
    Series::new(Flat(STAT, v2), Flat(STAT, v1), api)
}

/// The engine passes on `memory.stat` as it is, so the key tells its cgroup version.
macro_rules! either {
    ($v2:literal, $v1:literal) => {
        FirstOf(&[Json(concat!("/memory_stats/stats/", $v1)), Json(concat!("/memory_stats/stats/", $v2))])
    };
}

const fn limit(limit: Limit) -> Series {
    Series::everywhere(Source::Limit(limit))
}

const fn event(labels: &'static str, key: &'static str, v1: Source) -> Series {
    Series::new(Flat(EVENTS, key), v1, Absent).labels(labels)
}

pub(super) const FAMILIES: &[Family] = &[
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
];
