//! The machine: `/proc/cpuinfo`, `/proc/meminfo` and versions.

use super::{Collector, Family, MachineFact, Series, Source};

const fn machine(fact: MachineFact) -> Series {
    Series::everywhere(Source::Machine(fact))
}

pub(super) const FAMILIES: &[Family] = &[
    Family::gauge(Collector::Machine, "machine_cpu_cores", "Logical CPUs of the host.", &[machine(MachineFact::Cores)]),
    Family::gauge(
        Collector::Machine,
        "machine_cpu_physical_cores",
        "Physical CPU cores of the host.",
        &[machine(MachineFact::PhysicalCores)],
    ),
    Family::gauge(
        Collector::Machine,
        "machine_cpu_sockets",
        "CPU packages of the host.",
        &[machine(MachineFact::Sockets)],
    ),
    Family::gauge(Collector::Machine, "machine_memory_bytes", "Memory of the host.", &[machine(MachineFact::Memory)])
        .bytes(),
    Family::gauge(Collector::Machine, "machine_swap_bytes", "Swap of the host.", &[machine(MachineFact::Swap)]).bytes(),
    Family::gauge(
        Collector::Machine,
        "cadvisor_version_info",
        "Versions of kernel, operating system, Docker and this exporter, where cAdvisor's dashboards look for them.",
        &[machine(MachineFact::VersionInfo)],
    ),
    Family::gauge(
        Collector::Machine,
        "container_scrape_error",
        "1 where a collector could not read all it wanted in this scrape.",
        &[machine(MachineFact::ScrapeError)],
    ),
];
