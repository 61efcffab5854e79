//! The least that snapshots can cost: iterators over all cgroups of a host that store their ids and nothing else.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use aya::include_bytes_aligned;

use super::counted;
use super::link::{Link, Order};
use crate::discover::Hierarchy;
use crate::ebpf::error::Unsupported;
use crate::ebpf::facts::Facts;
use crate::ebpf::loader::{Loader, mapped_for_now, refused};
use crate::ebpf::mapped::Mapped;

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/empty.o"));
const PROGRAM: &str = "empty_walk";
/// Cgroups that there may be beside containers.
const OTHERS: usize = 1000;

/// Iterators that store ids, over the cgroups of each tree. `cargo xtask bench` compares snapshots with them.
pub struct BareSnapshots(Vec<Tree>);

struct Tree {
    met: Mapped,
    links: Vec<Link>,
}

impl BareSnapshots {
    /// Loads a program for each tree that has counters of containers, with room for so many of these, and has them iterate
    /// over the cgroups that are directly below the root of each, and all below these.
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
            .map(|(_, tree)| Tree::start(&mut loader, &tree.path, containers))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Has every iterator run, and gives the number of cgroups that they met.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn take(&mut self) -> Result<u64, Unsupported> {
        self.0.iter().try_fold(0, |met, tree| Ok(met + tree.take()?))
    }
}

impl Tree {
    fn start(loader: &mut Loader, root: &Path, containers: usize) -> Result<Self, Unsupported> {
        loader.set("EMPTY_ID_OFFSETS", loader.cgroup_id_offsets()?);
        loader.size("EMPTY_IDS", u32::try_from(containers + OTHERS).unwrap_or(u32::MAX));
        let mut object = loader.load(OBJECT)?;
        let program = loader.iterate(&mut object, PROGRAM)?;
        let met = mapped_for_now(&mut object, "EMPTY_VISITED", 1)?;
        let below = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        let cgroups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let links = cgroups.filter_map(|cgroup| File::open(cgroup.path()).ok()).map(|cgroup| {
            Link::new(program.as_fd(), &cgroup, Order::DescendantsPre).map_err(|error| refused(PROGRAM, &error))
        });
        Ok(Self { met, links: links.collect::<Result<_, _>>()? })
    }

    fn take(&self) -> Result<u64, Unsupported> {
        let Some(met) = self.met.words().first() else { return Ok(0) };
        met.store(0, Ordering::Relaxed);
        self.links.iter().try_for_each(Link::run).map_err(|error| refused(PROGRAM, &error))?;
        Ok(met.load(Ordering::Acquire))
    }
}

impl std::fmt::Debug for BareSnapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareSnapshots").field("trees", &self.0.len()).finish_non_exhaustive()
    }
}
