//! Snapshots: the counters of all cgroups below the containers' parents, copied in the kernel by one iterator per tree and
//! parent, and read without a system call. What they mean, and when they serve, is `read`'s to decide.
//!
//! Memory: for each cgroup 64 to 256 bytes per tree, by what is wanted of it, 768 where `memory.stat` is wanted, and on v2 232
//! for block devices; with room for a sixteenth more cgroups than there are, and 32.

mod bare;
mod cpus;
mod link;
mod numbers;
mod plan;
mod record;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use crate::ebpf::facts::Obstacle;
use crate::ebpf::loader::Loader;
use crate::metrics::Controller;

pub use bare::BareSnapshots;
pub(crate) use numbers::Number;
use plan::TreePlan;
pub(crate) use plan::Wanted;
pub(crate) use record::DeviceUse;
pub(crate) use tree::Record;
use tree::Tree;

/// Controllers whose trees have counters of containers.
pub(crate) const COUNTED: [Controller; 6] =
    [Controller::Memory, Controller::Cpuacct, Controller::Cpu, Controller::Pids, Controller::Io, Controller::Core];

/// What is read of a parent to have the kernel add up: its text is thrown away.
const BUFFER: usize = 16 * 1024;

/// The snapshots of a host.
pub(crate) struct Snapshots {
    trees: Vec<Tree>,
    /// Loads a program anew when there are more cgroups than it has room for.
    loader: Loader,
    parents: Vec<String>,
    buffer: Vec<u8>,
}

impl Snapshots {
    /// Loads a program for each of the trees, with room for so many cgroups.
    ///
    /// # Errors
    /// What the kernel does not have or refused.
    pub(in crate::ebpf) fn start(
        mut loader: Loader,
        wanted: &[(PathBuf, Wanted)],
        cgroups: usize,
    ) -> Result<Self, Obstacle> {
        let cpus = match wanted.iter().find(|(_, wanted)| wanted.cpus) {
            Some((tree, _)) => cpus::bases(&mut loader, tree)?,
            None => Vec::new(),
        };
        let mut trees = Vec::new();
        for (path, wanted) in wanted {
            let plan = TreePlan::new(wanted, loader.types()?, &cpus)?;
            let mut tree = Tree::new(path, plan);
            tree.load(&mut loader, cgroups)?;
            trees.push(tree);
        }
        loader.forget_types();
        Ok(Self { trees, loader, parents: Vec::new(), buffer: vec![0; BUFFER] })
    }

    /// How many counters behind `memory.stat` there are in a tree; 0 where they are not copied.
    pub(crate) fn stats(&self, tree: usize) -> usize {
        self.trees.get(tree).map_or(0, |tree| tree.plan.stats())
    }

    /// Takes snapshots of all trees below these parents from now on.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn follow(&mut self, parents: &[String]) -> Result<(), Obstacle> {
        self.parents.clear();
        self.parents.extend_from_slice(parents);
        self.trees.iter_mut().try_for_each(|tree| tree.follow(&self.parents))
    }

    /// Takes a snapshot of every tree. Where the last one had no room for all cgroups, it is made first.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn take(&mut self) -> Result<(), Obstacle> {
        let failed = |tree: &Path, error: &io::Error| {
            Obstacle::new(
                format!("a snapshot of {} failed: {error}", tree.display()),
                "values come from files meanwhile; please report it with the kernel's version",
            )
        };
        for tree in &mut self.trees {
            if let Some(met) = tree.outgrown() {
                tree.load(&mut self.loader, met)?;
                tree.follow(&self.parents)?;
            }
            tree.take(&mut self.buffer).map_err(|error| failed(&tree.path, &error))?;
        }
        Ok(())
    }

    /// The place of a cgroup in the last snapshot of a tree; none where it is not in it. `before` is where it was.
    pub(crate) fn find(&mut self, tree: usize, id: u64, before: u32) -> Option<u32> {
        self.trees.get_mut(tree)?.find(id, before)
    }

    /// What the last snapshot of a tree tells at a place.
    pub(crate) fn record(&self, tree: usize, place: u32) -> Option<Record<'_>> {
        self.trees.get(tree)?.record(place)
    }

    /// Cgroups that the last snapshots met, of all trees together.
    pub(crate) fn entries(&self) -> usize {
        self.trees.iter().map(Tree::met).sum()
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> usize {
        self.trees.iter().map(Tree::bytes).sum()
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("parents", &self.parents).finish_non_exhaustive()
    }
}
