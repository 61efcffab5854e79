//! Snapshots: the counters of all cgroups below the containers' parents, copied in the kernel by one iterator per parent, and
//! read without a system call. What they mean, and when they serve, is `read`'s to decide.
//!
//! Where a host has several trees, one of them is walked. The cgroups of the others are those in which the processes of the
//! cgroup are, so that one without processes of its own is told of the walked tree alone.
//!
//! Memory: for each cgroup 384 bytes, 768 more where `memory.stat` is wanted, and on v2 232 for block devices; with room for a
//! sixteenth more cgroups than there are, and 32.

mod bare;
mod cpus;
mod link;
mod numbers;
mod plan;
mod record;
mod walk;

use crate::discover::{Hierarchy, Tree};
use crate::ebpf::facts::Obstacle;
use crate::ebpf::loader::Loader;
use crate::metrics::Controller;

pub use bare::BareSnapshots;
use cpus::Bases;
pub(super) use link::invalid_command;
pub(crate) use numbers::Number;
use plan::Plan;
pub(crate) use plan::Wanted;
pub(crate) use record::DeviceUse;
pub(crate) use walk::Record;
use walk::{Walk, cure};

/// Controllers whose trees have counters of containers.
const COUNTED: [Controller; 6] =
    [Controller::Memory, Controller::Cpuacct, Controller::Cpu, Controller::Pids, Controller::Io, Controller::Core];

/// The trees of a host that have counters of containers, each with a controller that is in it.
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

/// The snapshots of a host.
pub(crate) struct Snapshots {
    walk: Walk,
    /// Loads the program anew when there are more cgroups than it has room for.
    loader: Loader,
    parents: Vec<String>,
    /// Whether each of them that there is has its iterator.
    has_followed: bool,
}

impl Snapshots {
    /// Loads a program that copies what is wanted of the trees, with room for so many cgroups.
    ///
    /// # Errors
    /// What the kernel does not have or refused.
    pub(in crate::ebpf) fn start(mut loader: Loader, wanted: &[Wanted], cgroups: usize) -> Result<Self, Obstacle> {
        let wants_cpus = wanted.iter().find(|wanted| wanted.cpus);
        let cpus = wants_cpus.map(|wanted| Bases::find(&mut loader, &wanted.tree.path)).transpose()?;
        let plan = Plan::new(wanted, loader.way()?, loader.types()?, cpus.as_ref().map_or(0, Bases::len))?;
        let mut walk = Walk::new(plan, wanted, cpus);
        walk.load(&mut loader, cgroups)?;
        loader.forget_types();
        Ok(Self { walk, loader, parents: Vec::new(), has_followed: true })
    }

    /// How many counters behind `memory.stat` there are; 0 where they are not copied.
    pub(crate) fn stats(&self) -> usize {
        self.walk.plan.stats
    }

    /// Which of the trees is walked: its cgroups are told whether they have processes or not.
    pub(crate) fn walked(&self) -> usize {
        self.walk.plan.walked
    }

    /// Whether there is anything to take a snapshot of.
    pub(crate) fn has_parents(&self) -> bool {
        !self.parents.is_empty()
    }

    /// Takes snapshots of what is below these parents from now on.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn follow(&mut self, parents: Vec<String>) -> Result<(), Obstacle> {
        self.parents = parents;
        self.has_followed = false;
        self.catch_up()
    }

    fn catch_up(&mut self) -> Result<(), Obstacle> {
        self.walk.follow(&self.parents)?;
        self.has_followed = true;
        Ok(())
    }

    /// Takes a snapshot. Where the last one had no room for all cgroups, or not all parents could be followed, that is made
    /// good first.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn take(&mut self) -> Result<(), Obstacle> {
        if let Some(met) = self.walk.outgrown() {
            self.has_followed = false;
            self.walk.load(&mut self.loader, met)?;
        }
        if !self.has_followed {
            self.catch_up()?;
        }
        self.walk.take().map_err(|error| {
            let root = self.walk.root().display();
            Obstacle::new(
                format!("a snapshot of {root} failed: {error}"),
                cure(&error, "please report it with the kernel's version"),
            )
        })
    }

    /// The place of a cgroup of the walked tree in the last snapshot; none where it is not in it. `before` is where it was.
    pub(crate) fn find(&mut self, id: u64, before: u32) -> Option<u32> {
        self.walk.find(id, before)
    }

    /// What the last snapshot tells at a place.
    pub(crate) fn record(&self, place: u32) -> Option<Record<'_>> {
        self.walk.record(place)
    }

    /// Cgroups that the last snapshot met.
    pub(crate) fn entries(&self) -> usize {
        self.walk.met()
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> usize {
        self.walk.bytes()
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots").field("parents", &self.parents).finish_non_exhaustive()
    }
}
