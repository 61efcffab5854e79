//! The table: each metric once, with its name, help, type, unit and source per cgroup version.
//!
//! A row is data. The reader's plan ([`crate::read::Plan`]), the exposition, `docs/METRICS.md` and the table tests follow
//! from it, so a new metric is one row in the file of its collector. This module knows of no file system and no engine.

mod blkio;
mod collector;
mod cpu;
mod disk;
mod docker_stats;
mod ebpf;
mod escape;
mod family;
mod family_set;
mod host;
mod hugetlb;
mod machine;
mod markdown;
mod memory;
mod memory_detail;
mod network;
mod numa;
mod percpu;
mod pids;
mod pressure;
mod probed;
mod process;
mod self_metrics;
mod self_process;
mod source;
mod state;
mod tasks;
mod tcp;
#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorSet};
pub use escape::escape_label;
pub use family::{Exponents, Family, Kind, Series, Unit, Zero};
pub use family_set::FamilySet;
pub use markdown::{Column, help, markdown};
pub use probed::{BlockCount, BlockOperation, Bounds, IpFamily, Probed, TaskState, TrafficCount};
pub use self_metrics::{EngineUp, SelfMetrics};
pub use source::{
    Controller, Dimension, DiskFact, DiskField, EngineFact, File, HostFact, Limit, MachineFact, ProcessFact,
    SocketCount, Source,
};

/// Every family of the cAdvisor-compatible schema, in the order of the exposition.
pub const FAMILIES: &[&[Family]] = &[
    percpu::FAMILIES, // shares its name with the first one of cpu: the two are one family in the exposition
    cpu::FAMILIES,
    memory::FAMILIES,
    memory_detail::FAMILIES,
    hugetlb::FAMILIES,
    numa::FAMILIES,
    pressure::FAMILIES,
    blkio::FAMILIES,
    disk::FAMILIES,
    network::FAMILIES,
    ebpf::FAMILIES,
    tcp::FAMILIES,
    pids::FAMILIES,
    tasks::FAMILIES,
    process::FAMILIES,
    state::FAMILIES,
    machine::FAMILIES,
    host::FAMILIES, // shares names with the rows of containers: rows of one name are one family in the exposition
];

/// Every family of the predecessor's `docker_stats_*` schema.
pub const DOCKER_STATS_FAMILIES: &[&[Family]] = &docker_stats::FAMILIES;
