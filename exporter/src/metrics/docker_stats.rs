//! The predecessor's schema (`docker_stats_*`): file names as metric names, values as the kernel gives them.
//!
//! On v2 the same names are filled from the v2 files, in the unit that they had on v1.

use super::Source::{
    Absent, Flat, Interface, Json, JsonDevice, JsonInterface, JsonPerCore, Limit as Limited, Nested, Operation,
    PerCore, Single,
};
use super::cpu::{CPU_STAT, CPUACCT_STAT, USAGE_PERCPU, V1_CPU_STAT};
use super::disk::IO_STAT;
use super::memory::{EVENTS, KERNEL, OOM_CONTROL, STAT};
use super::{Collector, Controller, EngineFact, Family, File, Limit, Series, Source, Unit};

const fn memory(name: &'static str) -> Source {
    Single(File::new(Controller::Memory, name))
}

const fn stat(key: &'static str) -> Source {
    Flat(STAT, key)
}

const fn v1_cpu(name: &'static str) -> Source {
    Single(File::new(Controller::Cpu, name))
}

const fn cpuacct(name: &'static str) -> Source {
    Single(File::new(Controller::Cpuacct, name))
}

const fn v2_time(key: &'static str) -> Source {
    Flat(CPU_STAT, key)
}

/// A family of one series.
macro_rules! family {
    ($collector:ident $name:expr, $series:expr) => {
        Family::untyped(Collector::$collector, concat!("docker_stats_", $name), &[$series])
    };
}

/// A family that only cgroup files give.
macro_rules! file {
    ($collector:ident $name:expr, $v2:expr, $v1:expr) => {
        family!($collector $name, Series::new($v2, $v1, Absent))
    };
}

/// A time in nanoseconds, from microseconds on v2.
macro_rules! nanoseconds {
    ($name:expr, $v2:expr, $v1:expr) => {
        family!(Cpu $name, Series::new($v2, $v1, Absent).exponents(6, 9, 0)).unit(Unit::Nanoseconds)
    };
}

/// A fact of the engine.
macro_rules! engine {
    ($name:expr, $fact:ident) => {
        family!(State $name, Series::everywhere(Source::Engine(EngineFact::$fact)))
    };
}

/// A family that only the engine's stats give.
macro_rules! api {
    ($collector:ident $name:expr, $source:expr) => {
        family!($collector $name, Series::new(Absent, Absent, $source))
    };
}

/// Keys of `memory.stat`. v1 has each twice: of the cgroup alone, and as `total_` with the cgroups below it. v2 has the total alone, which
/// both names show.
macro_rules! memory_stat {
    ($($key:literal $v2:expr;)*) => {
        &[$(
            file!(Memory concat!("memory_stat_", $key), $v2, Flat(STAT, $key)),
            file!(Memory concat!("memory_stat_total_", $key), $v2, Flat(STAT, concat!("total_", $key))),
        )*]
    };
}

macro_rules! api_memory_stats {
    ($($key:literal)*) => {
        &[$(api!(Memory concat!("memory_stats_", $key), Json(concat!("/memory_stats/stats/", $key))),)*]
    };
}

/// A file of v1 with a line per device and operation, and a total at its end.
macro_rules! operations {
    ($name:literal, $file:literal $($operation:literal $label:literal $v2:expr;)*) => {
        &[$(file!(
            Blkio concat!("blkio_", $name, "_", $label),
            $v2, Operation(&[File::new(Controller::Io, concat!("blkio.", $file))], $operation)
        ),)*
        file!(
            Blkio concat!("blkio_", $name, "_total"),
            Absent, Flat(File::new(Controller::Io, concat!("blkio.", $file)), "Total")
        )]
    };
}

/// The same for files that have no counterpart on v2.
macro_rules! v1_operations {
    ($name:literal, $file:literal) => {
        operations!($name, $file
            "Read" "read" Absent;
            "Write" "write" Absent;
            "Discard" "discard" Absent;
            "Sync" "sync" Absent;
            "Async" "async" Absent;
        )
    };
}

/// The total at the end of a file of the BFQ scheduler. The lines per device are there only where BFQ is in use.
macro_rules! bfq_total {
    ($file:literal) => {
        file!(
            Blkio concat!("blkio_bfq_", $file, "_total"),
            Absent, Flat(File::new(Controller::Io, concat!("blkio.bfq.", $file)), "Total")
        )
    };
}

/// Columns of `/proc/PID/net/dev`, counted from 0.
macro_rules! network {
    ($($direction:literal $field:literal $column:literal;)*) => {
        &[$(file!(Network concat!("net_", $direction, "_", $field), Interface($column), Interface($column)),)*]
    };
}

macro_rules! api_network {
    ($($field:literal)*) => {
        &[$(api!(Network concat!("network_", $field), JsonInterface($field)),)*]
    };
}

/// Every family: a list for each file or JSON object that the predecessor reads.
pub(super) const ROWS: [&[Family]; 13] = [
    LIFE,
    CPU,
    MEMORY,
    MEMORY_STATS,
    operations!("throttle_io_service_bytes", "throttle.io_service_bytes"
        "Read" "read" Nested(IO_STAT, "rbytes");
        "Write" "write" Nested(IO_STAT, "wbytes");
        "Discard" "discard" Nested(IO_STAT, "dbytes");
        "Sync" "sync" Absent;
        "Async" "async" Absent;
    ),
    operations!("throttle_io_serviced", "throttle.io_serviced"
        "Read" "read" Nested(IO_STAT, "rios");
        "Write" "write" Nested(IO_STAT, "wios");
        "Discard" "discard" Nested(IO_STAT, "dios");
        "Sync" "sync" Absent;
        "Async" "async" Absent;
    ),
    v1_operations!("throttle_io_service_bytes_recursive", "throttle.io_service_bytes_recursive"),
    v1_operations!("throttle_io_serviced_recursive", "throttle.io_serviced_recursive"),
    SETTINGS,
    network! {
        "receive" "bytes" 0;
        "receive" "packets" 1;
        "receive" "errs" 2;
        "receive" "drop" 3;
        "receive" "fifo" 4;
        "receive" "frame" 5;
        "receive" "compressed" 6;
        "receive" "multicast" 7;
        "transmit" "bytes" 8;
        "transmit" "packets" 9;
        "transmit" "errs" 10;
        "transmit" "drop" 11;
        "transmit" "fifo" 12;
        "transmit" "colls" 13;
        "transmit" "carrier" 14;
        "transmit" "compressed" 15;
    },
    API,
    API_MEMORY_STATS,
    api_network!["rx_bytes" "rx_packets" "rx_errors" "rx_dropped" "tx_bytes" "tx_packets" "tx_errors" "tx_dropped"],
];

/// The keys of the engine's `memory_stats.stats`, of either cgroup version.
const API_MEMORY_STATS: &[Family] = api_memory_stats![
    "active_anon" "active_file" "cache" "dirty" "hierarchical_memory_limit" "hierarchical_memsw_limit"
    "inactive_anon" "inactive_file" "mapped_file" "pgfault" "pgmajfault" "pgpgin" "pgpgout" "rss" "rss_huge"
    "total_active_anon" "total_active_file" "total_cache" "total_dirty" "total_inactive_anon" "total_inactive_file"
    "total_mapped_file" "total_pgfault" "total_pgmajfault" "total_pgpgin" "total_pgpgout" "total_rss"
    "total_rss_huge" "total_swap" "total_unevictable" "total_writeback" "unevictable" "writeback" "swap"
    "anon" "anon_thp" "file" "file_dirty" "file_mapped" "file_writeback" "kernel_stack" "pgactivate" "pgdeactivate"
    "pglazyfree" "pglazyfreed" "pgrefill" "pgscan" "pgsteal" "shmem" "slab" "slab_reclaimable" "slab_unreclaimable"
    "sock" "thp_collapse_alloc" "thp_fault_alloc" "workingset_activate" "workingset_nodereclaim"
    "workingset_refault"
];

const LIFE: &[Family] = &[engine!("last_seen", Seen), engine!("is_up", IsUp), engine!("healthy", Healthy)];

const CPU: &[Family] = &[
    file!(Cpu "cpu_cfs_period_us", Limited(Limit::CpuPeriod), Limited(Limit::CpuPeriod)),
    file!(Cpu "cpu_cfs_quota_us", Limited(Limit::CpuQuota), Limited(Limit::CpuQuota)),
    file!(Cpu "cpu_shares", Limited(Limit::CpuShares), Limited(Limit::CpuShares)),
    file!(Cpu "cpu_stat_nr_periods", v2_time("nr_periods"), Flat(V1_CPU_STAT, "nr_periods")),
    file!(Cpu "cpu_stat_nr_throttled", v2_time("nr_throttled"), Flat(V1_CPU_STAT, "nr_throttled")),
    nanoseconds!("cpu_stat_throttled_time", v2_time("throttled_usec"), Flat(V1_CPU_STAT, "throttled_time")),
    file!(Cpu "cpu_stat_nr_bursts", v2_time("nr_bursts"), Flat(V1_CPU_STAT, "nr_bursts")),
    nanoseconds!("cpu_stat_burst_time", v2_time("burst_usec"), Flat(V1_CPU_STAT, "burst_time")),
    family!(Cpu "cpuacct_stat_user", Series::new(v2_time("user_usec"), Flat(CPUACCT_STAT, "user"), Absent)
        .exponents(6, 2, 0))
    .unit(Unit::Ticks),
    family!(Cpu "cpuacct_stat_system", Series::new(v2_time("system_usec"), Flat(CPUACCT_STAT, "system"), Absent)
        .exponents(6, 2, 0))
    .unit(Unit::Ticks),
    nanoseconds!("cpuacct_usage", v2_time("usage_usec"), cpuacct("cpuacct.usage")),
    nanoseconds!("cpuacct_usage_user", v2_time("user_usec"), cpuacct("cpuacct.usage_user")),
    nanoseconds!("cpuacct_usage_sys", v2_time("system_usec"), cpuacct("cpuacct.usage_sys")),
    nanoseconds!("cpuacct_usage_percpu", Absent, PerCore(USAGE_PERCPU)),
];

const MEMORY: &[Family] = &[
    file!(Memory "memory_usage_in_bytes", memory("memory.current"), memory("memory.usage_in_bytes")),
    file!(Memory "memory_limit_in_bytes", memory("memory.max"), memory("memory.limit_in_bytes")),
    file!(Memory "memory_max_usage_in_bytes", memory("memory.peak"), memory("memory.max_usage_in_bytes")),
    file!(Memory "memory_soft_limit_in_bytes", memory("memory.low"), memory("memory.soft_limit_in_bytes")),
    file!(Memory "memory_failcnt", Flat(EVENTS, "max"), memory("memory.failcnt")),
    file!(Memory "memory_memsw_usage_in_bytes", Absent, memory("memory.memsw.usage_in_bytes")),
    file!(Memory "memory_memsw_limit_in_bytes", Absent, memory("memory.memsw.limit_in_bytes")),
    file!(Memory "memory_memsw_max_usage_in_bytes", Absent, memory("memory.memsw.max_usage_in_bytes")),
    file!(Memory "memory_memsw_failcnt", Absent, memory("memory.memsw.failcnt")),
    file!(Memory "memory_kmem_usage_in_bytes", KERNEL, memory("memory.kmem.usage_in_bytes")),
    file!(Memory "memory_kmem_max_usage_in_bytes", Absent, memory("memory.kmem.max_usage_in_bytes")),
    file!(Memory "memory_kmem_failcnt", Absent, memory("memory.kmem.failcnt")),
    file!(Memory "memory_kmem_tcp_usage_in_bytes", stat("sock"), memory("memory.kmem.tcp.usage_in_bytes")),
    file!(Memory "memory_oom_control_oom_kill",
        Flat(EVENTS, "oom_kill"), Flat(OOM_CONTROL, "oom_kill")),
    file!(Memory "memory_oom_control_oom_kill_disable", Absent, Flat(OOM_CONTROL, "oom_kill_disable")),
    file!(Memory "memory_oom_control_under_oom", Absent, Flat(OOM_CONTROL, "under_oom")),
    file!(Memory "memory_stat_hierarchical_memory_limit", Absent, stat("hierarchical_memory_limit")),
    file!(Memory "memory_stat_hierarchical_memsw_limit", Absent, stat("hierarchical_memsw_limit")),
];

/// Settings of v1 beside the limits, and counters that go with them.
const SETTINGS: &[Family] = &[
    file!(Cpu "cpu_cfs_burst_us", Single(File::new(Controller::Cpu, "cpu.max.burst")), v1_cpu("cpu.cfs_burst_us")),
    file!(Cpu "cpu_idle", Single(File::new(Controller::Cpu, "cpu.idle")), v1_cpu("cpu.idle")),
    file!(Cpu "cpu_rt_period_us", Absent, v1_cpu("cpu.rt_period_us")),
    file!(Cpu "cpu_rt_runtime_us", Absent, v1_cpu("cpu.rt_runtime_us")),
    nanoseconds!(
        "cpu_stat_local_throttled_time",
        Flat(File::new(Controller::Cpu, "cpu.stat.local"), "throttled_usec"),
        Flat(File::new(Controller::Cpu, "cpu.stat.local"), "throttled_time")
    ),
    file!(Memory "memory_kmem_limit_in_bytes", Absent, memory("memory.kmem.limit_in_bytes")),
    file!(Memory "memory_kmem_tcp_limit_in_bytes", Absent, memory("memory.kmem.tcp.limit_in_bytes")),
    file!(Memory "memory_kmem_tcp_max_usage_in_bytes", Absent, memory("memory.kmem.tcp.max_usage_in_bytes")),
    file!(Memory "memory_kmem_tcp_failcnt", Absent, memory("memory.kmem.tcp.failcnt")),
    file!(Memory "memory_move_charge_at_immigrate", Absent, memory("memory.move_charge_at_immigrate")),
    file!(Memory "memory_shown_ram_in_bytes", Absent, memory("memory.shown_ram_in_bytes")),
    file!(Memory "memory_swappiness", Absent, memory("memory.swappiness")),
    bfq_total!("io_service_bytes"),
    bfq_total!("io_serviced"),
    bfq_total!("io_service_bytes_recursive"),
    bfq_total!("io_serviced_recursive"),
    file!(Blkio "blkio_bfq_weight", Absent, Single(File::new(Controller::Io, "blkio.bfq.weight"))),
    file!(Blkio "blkio_bfq_weight_device_default", Absent,
        Flat(File::new(Controller::Io, "blkio.bfq.weight_device"), "default")),
];

const MEMORY_STATS: &[Family] = memory_stat! {
    "cache" stat("file");
    "rss" stat("anon");
    "rss_huge" stat("anon_thp");
    "shmem" stat("shmem");
    "mapped_file" stat("file_mapped");
    "dirty" stat("file_dirty");
    "writeback" stat("file_writeback");
    "workingset_refault_anon" stat("workingset_refault_anon");
    "workingset_refault_file" stat("workingset_refault_file");
    "swap" memory("memory.swap.current");
    "swapcached" stat("swapcached");
    "pgpgin" Absent;
    "pgpgout" Absent;
    "pgfault" stat("pgfault");
    "pgmajfault" stat("pgmajfault");
    "inactive_anon" stat("inactive_anon");
    "active_anon" stat("active_anon");
    "inactive_file" stat("inactive_file");
    "active_file" stat("active_file");
    "unevictable" stat("unevictable");
};

const API: &[Family] = &[
    api!(Cpu "cpu_total_usage", Json("/cpu_stats/cpu_usage/total_usage")),
    api!(Cpu "cpu_usage_in_kernelmode", Json("/cpu_stats/cpu_usage/usage_in_kernelmode")),
    api!(Cpu "cpu_usage_in_usermode", Json("/cpu_stats/cpu_usage/usage_in_usermode")),
    api!(Cpu "cpu_percpu_usage", JsonPerCore("/cpu_stats/cpu_usage/percpu_usage")),
    api!(Cpu "system_cpu_usage", Json("/cpu_stats/system_cpu_usage")),
    api!(Memory "memory_stats_usage", Json("/memory_stats/usage")),
    api!(Memory "memory_stats_max_usage", Json("/memory_stats/max_usage")),
    api!(Memory "memory_stats_limit", Json("/memory_stats/limit")),
    api!(Memory "memory_stats_failcnt", Json("/memory_stats/failcnt")),
    api!(Blkio "blkio_stats_io_service_bytes_read", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Read")),
    api!(Blkio "blkio_stats_io_service_bytes_write", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Write")),
    api!(Blkio "blkio_stats_io_service_bytes_sync", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Sync")),
    api!(Blkio "blkio_stats_io_service_bytes_async", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Async")),
    api!(Blkio "blkio_stats_io_service_bytes_discard", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Discard")),
    api!(Blkio "blkio_stats_io_service_bytes_total", JsonDevice("/blkio_stats/io_service_bytes_recursive", "Total")),
];
