//! CPU time, bandwidth and weight: the rows of the collectors `cpu` and `percpu`.
//!
//! Kernel documentation: `cgroup-v2.rst` (cpu.stat), `cgroup-v1/cpuacct.rst`, `sched-bwc.rst`.

use super::Source::{Absent, Flat, Json, JsonPerCpu, PerCpu, Single};
use super::{Collector, Controller, Dimension, Family, File, HostFact, Limit, Series, Source, Unit};

/// `cpu.stat` of v2. Every cgroup has its times; the throttling keys need the cpu controller.
pub(super) const CPU_STAT: File = File::new(Controller::Cpuacct, "cpu.stat");
pub(super) const V1_CPU_STAT: File = File::new(Controller::Cpu, "cpu.stat");
pub(super) const CPUACCT_STAT: File = File::new(Controller::Cpuacct, "cpuacct.stat");
pub(super) const USAGE_PERCPU: File = File::new(Controller::Cpuacct, "cpuacct.usage_percpu");
const CPUACCT_USAGE: File = File::new(Controller::Cpuacct, "cpuacct.usage");

const fn limit(limit: Limit) -> Series {
    Series::everywhere(Source::Limit(limit))
}

/// A time: a key of `cpu.stat` in microseconds on v2, the source on v1 with its decimal places, and nanoseconds of the engine.
const fn time(v2: &'static str, v1: Source, v1_exponent: u8, api: &'static str) -> Series {
    Series::new(Flat(CPU_STAT, v2), v1, Json(api)).exponents(6, v1_exponent, 9)
}

pub(super) const ROWS: &[Family] = &[
    // cgroup v2 has no file with the time of each core.
    Family::counter(
        Collector::Percpu,
        "container_cpu_usage_seconds_total",
        "CPU time consumed, summed over all cores.",
        &[Series::new(Absent, PerCpu(USAGE_PERCPU), JsonPerCpu("/cpu_stats/cpu_usage/percpu_usage"))
            .exponents(0, 9, 9)],
    )
    .seconds(),
    Family::counter(
        Collector::Cpu,
        "container_cpu_usage_seconds_total",
        "CPU time consumed, summed over all cores.",
        &[time("usage_usec", Single(CPUACCT_USAGE), 9, "/cpu_stats/cpu_usage/total_usage")
            .labels(r#"cpu="total""#)
            .unless(Dimension::Cpu)
            .host(HostFact::CpuBusy)],
    )
    .seconds(),
    Family::counter(
        Collector::Cpu,
        "container_cpu_user_seconds_total",
        "CPU time consumed in user mode. On cgroup v1 in steps of 10 ms.",
        &[time("user_usec", Flat(CPUACCT_STAT, "user"), 2, "/cpu_stats/cpu_usage/usage_in_usermode")
            .host(HostFact::CpuUser)],
    )
    .seconds(),
    Family::counter(
        Collector::Cpu,
        "container_cpu_system_seconds_total",
        "CPU time consumed in the kernel. On cgroup v1 in steps of 10 ms.",
        &[time("system_usec", Flat(CPUACCT_STAT, "system"), 2, "/cpu_stats/cpu_usage/usage_in_kernelmode")
            .host(HostFact::CpuSystem)],
    )
    .seconds(),
    Family::counter(
        Collector::Cpu,
        "container_cpu_cfs_periods_total",
        "CFS periods in which the container wanted to run. Only with a CPU quota.",
        &[Series::new(
            Flat(CPU_STAT, "nr_periods"),
            Flat(V1_CPU_STAT, "nr_periods"),
            Json("/cpu_stats/throttling_data/periods"),
        )],
    )
    .given(Limit::CpuQuota),
    Family::counter(
        Collector::Cpu,
        "container_cpu_cfs_throttled_periods_total",
        "CFS periods in which the container used up its quota. Only with a CPU quota.",
        &[Series::new(
            Flat(CPU_STAT, "nr_throttled"),
            Flat(V1_CPU_STAT, "nr_throttled"),
            Json("/cpu_stats/throttling_data/throttled_periods"),
        )],
    )
    .given(Limit::CpuQuota),
    Family::counter(
        Collector::Cpu,
        "container_cpu_cfs_throttled_seconds_total",
        "Time for which the container's run queues were throttled. Only with a CPU quota.",
        &[time("throttled_usec", Flat(V1_CPU_STAT, "throttled_time"), 9, "/cpu_stats/throttling_data/throttled_time")],
    )
    .seconds()
    .given(Limit::CpuQuota),
    Family::counter(
        Collector::Cpu,
        "container_cpu_cfs_burst_periods_total",
        "CFS periods in which the container ran beyond its quota. Only with a CPU quota, and from the first burst on.",
        &[Series::new(Flat(CPU_STAT, "nr_bursts"), Flat(V1_CPU_STAT, "nr_bursts"), Absent).omit_zero()],
    )
    .given(Limit::CpuQuota),
    Family::counter(
        Collector::Cpu,
        "container_cpu_cfs_burst_seconds_total",
        "CPU time beyond the quota. Only with a CPU quota, and from the first burst on.",
        &[Series::new(Flat(CPU_STAT, "burst_usec"), Flat(V1_CPU_STAT, "burst_time"), Absent)
            .exponents(6, 9, 0)
            .omit_zero()],
    )
    .seconds()
    .given(Limit::CpuQuota),
    Family::gauge(
        Collector::Cpu,
        "container_spec_cpu_quota",
        "CPU time that the container may use per period, in microseconds. Absent where not limited.",
        &[limit(Limit::CpuQuota).exponents(6, 6, 6)],
    )
    .unit(Unit::Microseconds),
    Family::gauge(
        Collector::Cpu,
        "container_spec_cpu_period",
        "Length of a CFS period in microseconds.",
        &[limit(Limit::CpuPeriod).exponents(6, 6, 6)],
    )
    .unit(Unit::Microseconds),
    Family::gauge(
        Collector::Cpu,
        "container_spec_cpu_shares",
        "CPU shares: 1024 where nothing was asked for. On cgroup v2 computed back from cpu.weight.",
        &[limit(Limit::CpuShares)],
    ),
];
