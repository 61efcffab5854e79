//! The table: each metric once, with its name, help, type, unit and source per cgroup version.
//!
//! A row is data. The reader's plan ([`crate::read::Plan`]), the exposition, `docs/METRICS.md` and the table tests follow from it, so a new
//! metric is one row beside those of its collector. This module reads no file and asks no engine.
//!
//! | file | rows of the collectors |
//! |---|---|
//! | `cpu.rs` | `cpu`, `percpu` |
//! | `memory.rs` | `memory`, `memory_detail`, `hugetlb`, `numa` |
//! | `pressure.rs` | `pressure` |
//! | `disk.rs` | `blkio`, `disk` |
//! | `network.rs` | `network`, `tcp` |
//! | `ebpf.rs` | `ebpf_network`, `ebpf_blkio`, `blkio_detail`, `ebpf_sched` |
//! | `process.rs` | `pids`, `tasks`, `process` |
//! | `state.rs` | `state` |
//! | `machine.rs` | `machine`; of `memory` and `blkio` what only the host has |
//! | `docker_stats.rs` | all names of the predecessor's schema |

mod collector;
mod cpu;
mod disk;
mod docker_stats;
mod ebpf;
mod family;
mod machine;
mod markdown;
mod memory;
mod network;
mod pressure;
mod probed;
mod process;
mod self_metrics;
mod self_process;
mod source;
mod state;
#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorSet};
pub use family::{Exponents, Family, FamilySet, Kind, Series, Unit, Zero, escape_label, push_label};
pub use markdown::{Column, help, markdown};
pub use probed::{BlockCount, BlockOperation, Bounds, IpFamily, Probed, TaskState, TrafficCount};
pub use self_metrics::{EngineUp, SelfMetrics};
pub use source::{
    Controller, Dimension, DiskFact, DiskField, EngineFact, File, HostFact, Limit, MachineFact, ProcessFact,
    SocketCount, Source,
};

/// Every family of the cAdvisor-compatible schema, in the order of the exposition. Families of one name are exposed as one, in the place
/// of the first.
pub const FAMILIES: &[&[Family]] = &[
    cpu::ROWS,
    memory::ROWS,
    pressure::ROWS,
    disk::ROWS,
    network::INTERFACES,
    ebpf::ROWS,
    network::SOCKETS,
    process::ROWS,
    state::ROWS,
    machine::FACTS,
    machine::HOST_ONLY,
];

/// Every family of the predecessor's `docker_stats_*` schema.
pub const DOCKER_STATS_FAMILIES: &[&[Family]] = &docker_stats::ROWS;
