//! Memory per NUMA node: `memory.numa_stat` (pages on v1, bytes on v2 since Linux 5.10).

use super::Source::{Absent, Node};
use super::{Collector, Controller, Family, File, Series};

const NUMA_STAT: File = File::new(Controller::Memory, "memory.numa_stat");
/// v2 gives bytes; the family counts pages of this size, as cAdvisor's does on the machines that it supports.
const PAGE: u64 = 4096;

const fn pages(labels: &'static str, v2: &'static str, v1: &'static str) -> Series {
    Series::new(Node(NUMA_STAT, v2, PAGE), Node(NUMA_STAT, v1, 1), Absent).labels(labels)
}

pub(super) const FAMILIES: &[Family] = &[Family::gauge(
    Collector::Numa,
    "container_memory_numa_pages",
    "Memory per NUMA node in pages of 4 KiB, the cgroups below included.",
    &[
        pages(r#"scope="hierarchy",type="file""#, "file", "hierarchical_file"),
        pages(r#"scope="hierarchy",type="anon""#, "anon", "hierarchical_anon"),
        pages(r#"scope="hierarchy",type="unevictable""#, "unevictable", "hierarchical_unevictable"),
    ],
)];
