//! Families that the kernel counts for the host as a whole (`id="/"`) and that containers have by other collectors.
//! They cost one file of `/proc` each, whatever the number of containers, so they are on by default.

use super::ebpf::{READ_TIME, SECTORS_READ, SECTORS_WRITTEN, WEIGHTED_TIME, WRITE_TIME};
use super::{Collector, DiskField, Family, HostFact, Series, Source, Unit};

const fn host(fact: HostFact) -> Series {
    Series::everywhere(Source::Absent).host(fact)
}

macro_rules! families {
    ($($collector:ident $kind:ident $unit:ident $name:literal $fact:expr, $help:expr;)*) => {
        &[$(Family::$kind(Collector::$collector, $name, $help, &[host($fact)]).unit(Unit::$unit),)*]
    };
}

const SCANNED: &[&str] = &["pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgscan_proactive"];
const STOLEN: &[&str] = &["pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgsteal_proactive"];

pub(super) const FAMILIES: &[Family] = families! {
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
