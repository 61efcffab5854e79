//! Copies of the kernel's counters of all cgroups below the containers' parents. One iterator per parent makes them in
//! the kernel; they are read without a system call. `read` decides what they mean and when they are used.
//!
//! On a host with several trees, one of them is iterated over. The cgroups in the other trees are found by the
//! processes of the cgroup that is visited. A cgroup without processes of its own has numbers of the iterated tree
//! only.
//!
//! Memory: 384 bytes for each cgroup, 768 more if `memory.stat` is copied, and 232 more for block devices on v2. There
//! is room for twice the number of cgroups at start, but for 1,024 at least; never for more than 4,096 and four times
//! the number of containers.
//!
//! | file | what it does |
//! |---|---|
//! | `numbers` | the counters by the names of the kernel's structures |
//! | `plan` | what the program copies and where to; one record of a copy |
//! | `iter_reader` | loads the program, runs the iterators, finds records |

mod iter_reader;
mod numbers;
mod plan;

use std::fmt;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use aya::include_bytes_aligned;

use super::facts::Facts;
use super::loader::{Loader, map_array_until_dropped, refused};
use super::sys::{Link, MappedWords, Order};
use super::unsupported::Unsupported;
use crate::discover::{Hierarchy, Tree};
use crate::metrics::Controller;

pub(crate) use iter_reader::IterReader;
pub(crate) use numbers::Number;
pub(crate) use plan::{DeviceUse, Record, TreeRequest};

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

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/empty.o"));
const PROGRAM: &str = "empty_walk";
/// Maximum number of cgroups beside containers.
const OTHERS: usize = 1000;

/// Iterators over all cgroups of a host that store only their ids. `cargo xtask bench` compares the time of snapshots
/// with theirs, which is the least that any snapshot can take.
pub struct BareSnapshots(Vec<BareTree>);

/// The iterators over one tree.
struct BareTree {
    /// Number of visited cgroups.
    visited: MappedWords,
    links: Vec<Link>,
}

impl BareSnapshots {
    /// Loads a program for each tree that has counters of containers, with room for this number of containers. There is
    /// one iterator for each cgroup directly below the root of a tree.
    ///
    /// # Errors
    /// What this host lacks, or the kernel refused.
    pub fn start(hierarchy: &Hierarchy, containers: usize) -> Result<Self, Unsupported> {
        let facts = Facts::gather(hierarchy);
        facts.allow_tracing()?;
        let mut loader = Loader::new(facts);
        let trees = counted(hierarchy);
        trees
            .iter()
            .map(|(_, tree)| BareTree::start(&mut loader, &tree.path, containers))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Runs every iterator. Returns the number of visited cgroups.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn take(&mut self) -> Result<u64, Unsupported> {
        self.0.iter().try_fold(0, |visited, tree| Ok(visited + tree.take()?))
    }
}

impl BareTree {
    fn start(loader: &mut Loader, root: &Path, containers: usize) -> Result<Self, Unsupported> {
        loader.set_constant("EMPTY_ID_OFFSETS", loader.cgroup_id_offsets()?);
        loader.set_map_size("EMPTY_IDS", u32::try_from(containers + OTHERS).unwrap_or(u32::MAX));
        let mut object = loader.load(OBJECT)?;
        let program = loader.load_cgroup_iterator(&mut object, PROGRAM)?;
        let visited = map_array_until_dropped(&mut object, "EMPTY_VISITED", 1)?;
        let below = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        let cgroups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let links = cgroups.filter_map(|cgroup| File::open(cgroup.path()).ok()).map(|cgroup| {
            Link::over_cgroups(program.as_fd(), &cgroup, Order::DescendantsPre)
                .map_err(|error| refused(PROGRAM, &error))
        });
        Ok(Self { visited, links: links.collect::<Result<_, _>>()? })
    }

    fn take(&self) -> Result<u64, Unsupported> {
        let Some(visited) = self.visited.words().first() else { return Ok(0) };
        visited.store(0, Ordering::Relaxed);
        self.links.iter().try_for_each(Link::run).map_err(|error| refused(PROGRAM, &error))?;
        Ok(visited.load(Ordering::Acquire))
    }
}

impl fmt::Debug for BareSnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BareSnapshots").field("trees", &self.0.len()).finish_non_exhaustive()
    }
}
