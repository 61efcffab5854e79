//! CPU time per core: a file of cgroup v1 only (v2 has none; the eBPF collectors will).

use super::{Collector, Controller, Family, File, Series, Source};

const USAGE_PERCPU: File = File::new(Controller::Cpuacct, "cpuacct.usage_percpu");

pub(super) const FAMILIES: &[Family] = &[Family::counter(
    Collector::Percpu,
    "container_cpu_usage_seconds_total",
    "CPU time consumed, summed over all cores.",
    &[Series::new(
        Source::Absent,
        Source::PerCpu(USAGE_PERCPU),
        Source::JsonPerCpu("/cpu_stats/cpu_usage/percpu_usage"),
    )
    .exponents(0, 9, 9)],
)
.seconds()];
