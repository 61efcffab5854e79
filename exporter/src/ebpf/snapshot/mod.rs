//! Copies of the counters of all cgroups below the containers' parents, made in the kernel by one iterator per parent and read
//! without a system call. What they mean, and when they serve, is decided in `read`.
//!
//! Where a host has several trees, one of them is iterated over. The cgroups in the others are those of the processes of the
//! cgroup, so that of a cgroup without processes of its own only the iterated tree is known.
//!
//! Memory: for each cgroup 384 bytes, 768 more where `memory.stat` is copied, and on v2 232 for block devices; with capacity for
//! twice as many cgroups as there are at start, and for 1,024 at least;
//! never for more than four times the containers and 4,096.

mod bare;
mod cpus;
mod iter_reader;
pub(super) mod link;
mod numbers;
mod plan;
mod record;

use crate::discover::{Hierarchy, Tree};
use crate::metrics::Controller;

pub use bare::BareSnapshots;
pub(crate) use iter_reader::IterReader;
pub(crate) use numbers::Number;
pub(crate) use plan::TreeRequest;
pub(crate) use record::{DeviceUse, Record};

/// Controllers whose trees have counters of containers.
const COUNTED: [Controller; 6] =
    [Controller::Memory, Controller::Cpuacct, Controller::Cpu, Controller::Pids, Controller::Io, Controller::Core];

/// Returns the trees of a host that have counters of containers, each with a controller that is in it.
pub(crate) fn counted(hierarchy: &Hierarchy) -> Vec<(Controller, Tree)> {
    let mut counted: Vec<(Controller, Tree)> = Vec::new();
    for controller in COUNTED {
        if let Some(tree) = hierarchy.tree(controller)
            && !counted.iter().any(|(_, known)| known == tree)
        {
            counted.push((controller, tree.clone()));
        }
    }
    counted
}
