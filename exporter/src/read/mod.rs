//! One pass over the kernel's files: every container's values into its [`Sample`].
//!
//! Synchronous and single-threaded by intent: two threads on these files are slower than one. Nothing is allocated per
//! container once each has been read a first time.

mod api;
#[cfg(test)]
mod blkio_tests;
mod container;
mod devices;
mod disk;
mod file;
mod fill;
mod format;
mod host;
mod limits;
mod links;
mod measure;
mod netlink;
mod network;
mod plan;
mod planner;
mod probed;
mod proc_text;
mod process;
mod processes;
mod reader;
mod real_interfaces;
mod renewal;
mod sample;
mod snapshot;
mod sockets;
#[cfg(test)]
mod tests;
mod tiers;
mod timing;
mod wanted;

pub use api::{fill_from_stats, fill_host};
pub use container::Container;
pub use devices::Devices;
pub use file::Files;
pub use host::{HiddenProcesses, HostFacts, Machine};
pub use limits::Limits;
pub use links::{Refusal, can_dump_links};
pub use plan::{Plan, PlannedFile, Row, Value};
pub use planner::{for_api, for_cgroups};
pub use reader::{Pass, Progress, Reader};
pub use sample::{LabelId, LabelPool, Labels, Sample, Table};
pub use snapshot::{Snapshot, can_be_taken};
pub use timing::Timing;

pub use crate::ebpf::Histogram;
