//! The host: facts of the machine (the rows of the collector `machine`), and what the kernel counts for the host alone.

use super::ebpf::{READ_TIME, SECTORS_READ, SECTORS_WRITTEN, WEIGHTED_TIME, WRITE_TIME};
use super::{Collector, DiskField, Family, HostFact, MachineFact, Series, Source, Unit};

const fn machine(fact: MachineFact) -> Series {
    Series::everywhere(Source::Machine(fact))
}

/// The rows of the collector `machine`.
pub(super) const FACTS: &[Family] = &[
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

const fn host(fact: HostFact) -> Series {
    Series::everywhere(Source::Absent).host(fact)
}

/// A row each: collector, type, unit, name, source for the host, help.
macro_rules! families {
    ($($collector:ident $kind:ident $unit:ident $name:literal $fact:expr, $help:expr;)*) => {
        &[$(Family::$kind(Collector::$collector, $name, $help, &[host($fact)]).unit(Unit::$unit),)*]
    };
}

const SCANNED: &[&str] = &["pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgscan_proactive"];
const STOLEN: &[&str] = &["pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgsteal_proactive"];

/// The rows that only the host as a whole (`id="/"`) has in their collector. They are in collectors that are on by default, as each costs
/// one file of `/proc`, whatever the number of containers. Containers have many of these names by collectors that are off by default or
/// need eBPF.
pub(super) const HOST_ONLY: &[Family] = families! {
    Memory gauge Bytes "container_memory_file_dirty_bytes" HostFact::Meminfo("Dirty"), "Page cache that waits to be written.";
    Memory gauge Bytes "container_memory_file_writeback_bytes" HostFact::Meminfo("Writeback"), "Page cache being written.";
    Memory gauge Bytes "container_memory_total_active_file_bytes" HostFact::Meminfo("Active(file)"), "Active page cache.";
    Memory gauge Bytes "container_memory_total_inactive_file_bytes" HostFact::Meminfo("Inactive(file)"), "Inactive page cache.";
    Memory counter None "container_memory_pgscan_total" HostFact::Vmstat(SCANNED), "Pages that reclaim looked at.";
    Memory counter None "container_memory_pgsteal_total" HostFact::Vmstat(STOLEN), "Pages that reclaim took.";
    Memory counter None "container_memory_workingset_refault_file_total" HostFact::Vmstat(&["workingset_refault_file"]),
        "Page cache pages read again soon after they were taken (Linux 5.9).";
    Memory counter None "container_memory_workingset_refault_anon_total" HostFact::Vmstat(&["workingset_refault_anon"]),
        "Anonymous pages read again soon after they were taken (Linux 5.9).";
    Blkio counter None "container_fs_reads_merged_total" HostFact::Disk(DiskField::ReadsMerged),
        "Reads that were merged into others before the disk got them.";
    Blkio counter None "container_fs_writes_merged_total" HostFact::Disk(DiskField::WritesMerged),
        "Writes that were merged into others before the disk got them.";
    Blkio counter None "container_fs_sector_reads_total" HostFact::Disk(DiskField::SectorsRead), SECTORS_READ;
    Blkio counter None "container_fs_sector_writes_total" HostFact::Disk(DiskField::SectorsWritten), SECTORS_WRITTEN;
    Blkio counter Seconds "container_fs_read_seconds_total" HostFact::Disk(DiskField::ReadTime), READ_TIME;
    Blkio counter Seconds "container_fs_write_seconds_total" HostFact::Disk(DiskField::WriteTime), WRITE_TIME;
    Blkio gauge None "container_fs_io_current" HostFact::Disk(DiskField::InFlight),
        "Operations that the disk has not completed yet.";
    Blkio counter Seconds "container_fs_io_time_seconds_total" HostFact::Disk(DiskField::BusyTime),
        "Time in which the device had something to do.";
    Blkio counter Seconds "container_fs_io_time_weighted_seconds_total" HostFact::Disk(DiskField::WeightedTime), WEIGHTED_TIME;
};
