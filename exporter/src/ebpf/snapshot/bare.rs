//! The least that snapshots can cost: iterators over all cgroups of a host that store their ids and nothing else.

use super::{Snapshots, Wanted, counted};
use crate::discover::Hierarchy;
use crate::ebpf::facts::{Facts, Obstacle};
use crate::ebpf::loader::Loader;

/// Snapshots that hold nothing but ids, of each tree one. `cargo xtask bench` compares ours with them.
#[derive(Debug)]
pub struct BareSnapshots(Vec<Snapshots>);

impl BareSnapshots {
    /// Loads a program for each tree that has counters of containers, with room for so many cgroups, and has them iterate
    /// over the cgroups that are directly below the root of each, and all below these.
    ///
    /// # Errors
    /// What this host lacks, or the kernel refused.
    pub fn start(hierarchy: &Hierarchy, cgroups: usize) -> Result<Self, Obstacle> {
        let facts = Facts::gather(hierarchy);
        facts.allow_tracing()?;
        let walked = hierarchy.walked().map(|tree| tree.path.clone()).unwrap_or_default();
        let below = std::fs::read_dir(&walked).into_iter().flatten().filter_map(Result::ok);
        let parents: Vec<String> = below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| Some(format!("/{}", entry.file_name().to_str()?)))
            .collect();
        let start = |(controller, tree)| {
            let wanted = [Wanted::nothing(tree, controller)];
            let mut snapshots = Snapshots::start(Loader::new(facts.clone()), &wanted, cgroups)?;
            snapshots.follow(&parents)?;
            Ok(snapshots)
        };
        counted(hierarchy).into_iter().map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Has every iterator run, and gives the number of cgroups that they met.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn take(&mut self) -> Result<usize, Obstacle> {
        self.0.iter_mut().try_fold(0, |met, snapshots| snapshots.take().map(|()| met + snapshots.entries()))
    }
}
