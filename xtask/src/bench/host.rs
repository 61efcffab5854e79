//! What is measured: cgroups made for it, or real containers of an engine.

use std::path::Path;

use super::containers::Containers;
use super::population::{CGROUPS, Population};

/// The containers of a run.
#[derive(Debug)]
pub(super) enum Host {
    /// Under a root of their own.
    Cgroups(Population),
    /// Under the host's root: its other containers are read, too, by the exporter and by the loop.
    Docker(Containers),
}

impl Host {
    /// No containers yet.
    pub(super) fn new(docker: bool) -> anyhow::Result<Self> {
        Ok(if docker { Self::Docker(Containers::new()?) } else { Self::Cgroups(Population::new()?) })
    }

    /// Adds containers up to `size`.
    pub(super) fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        match self {
            Self::Cgroups(population) => population.grow(size),
            Self::Docker(containers) => containers.grow(size),
        }
    }

    /// What the exporter takes for the root of cgroups.
    pub(super) fn root(&self) -> &Path {
        match self {
            Self::Cgroups(population) => &population.root,
            Self::Docker(_) => Path::new(CGROUPS),
        }
    }

    /// Whether there is an engine that knows their names.
    pub(super) fn has_names(&self) -> bool {
        matches!(self, Self::Docker(_))
    }

    /// Gives the kernel something to add up for each of them, where they are ours alone.
    pub(super) fn touch(&self) -> anyhow::Result<()> {
        match self {
            Self::Cgroups(population) => population.touch(),
            Self::Docker(containers) => containers.touch(),
        }
    }
}
