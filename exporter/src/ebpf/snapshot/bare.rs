//! The least that snapshots can cost: iterators over all cgroups of a host that store their ids and nothing else.

use std::path::PathBuf;

use super::{COUNTED, Snapshots, Wanted};
use crate::discover::Hierarchy;
use crate::ebpf::facts::{Facts, Obstacle};
use crate::ebpf::loader::Loader;

/// Snapshots that hold nothing but ids. `cargo xtask bench` compares ours with them.
#[derive(Debug)]
pub struct BareSnapshots(Snapshots);

impl BareSnapshots {
    /// Loads a program for each tree that has counters of containers, with room for so many cgroups, and has them iterate
    /// over the cgroups that are directly below the root of each, and all below these.
    ///
    /// # Errors
    /// What this host lacks, or the kernel refused.
    pub fn start(hierarchy: &Hierarchy, cgroups: usize) -> Result<Self, Obstacle> {
        let facts = Facts::gather(hierarchy);
        facts.allow_tracing()?;
        let mut trees: Vec<PathBuf> = Vec::new();
        for tree in COUNTED.into_iter().filter_map(|controller| hierarchy.tree(controller)) {
            if !trees.contains(&tree.path) {
                trees.push(tree.path.clone());
            }
        }
        let walked = hierarchy.walked().map(|tree| tree.path.clone()).unwrap_or_default();
        let below = std::fs::read_dir(&walked).into_iter().flatten().filter_map(Result::ok);
        let parents: Vec<String> = below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| Some(format!("/{}", entry.file_name().to_str()?)))
            .collect();
        let wanted: Vec<(PathBuf, Wanted)> = trees.into_iter().map(|tree| (tree, Wanted::default())).collect();
        let mut snapshots = Snapshots::start(Loader::new(facts), &wanted, cgroups)?;
        snapshots.follow(&parents)?;
        Ok(Self(snapshots))
    }

    /// Has every iterator run, and gives the number of cgroups that they met.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn take(&mut self) -> Result<usize, Obstacle> {
        self.0.take().map(|()| self.0.entries())
    }
}
