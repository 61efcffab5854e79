//! Reads the kernel's files: a pass of the [`Reader`] fills the values of every container into its [`Sample`].
//!
//! A pass runs on one thread, because two threads on these files are slower than one. It allocates nothing per container after
//! the first reading of the container.
//!
//! - `plan` decides at start which files are read and where each value goes; `files` reads and parses them.
//! - `reader` has the pass. `cgroup`, `snapshot`, `process`, `network`, `disk` and `ebpf_values` fill the values of containers.
//! - `host`, `machine` and `diskstats` have values of the host.

mod cgroup;
mod container;
mod disk;
mod diskstats;
mod ebpf_values;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod machine;
mod network;
mod plan;
mod process;
mod reader;
mod sample;
mod snapshot;
#[cfg(test)]
mod tests;
mod timing;

pub use container::Container;
pub use disk::disks::ListedDisks;
pub use diskstats::Devices;
pub use files::limits::Limits;
pub use files::open_files::Files;
pub use host::{HiddenProcesses, HostFacts, HostFiles, shows_all_processes};
pub use machine::Machine;
pub use network::namespaces::{LinkError, can_dump_links};
pub use plan::planner::{for_api, for_cgroups};
pub use plan::{Plan, PlannedFile, Row, Value};
pub use reader::{Pass, Progress, Reader};
pub use sample::fill::{fill_from_stats, fill_host};
pub use sample::{LabelId, LabelPool, Labels, Sample, Table};
pub use snapshot::{Snapshots, can_snapshot};
pub use timing::Timing;

pub use crate::ebpf::Histogram;
