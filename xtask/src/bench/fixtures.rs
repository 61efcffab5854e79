//! The containers that are measured: cgroups made for it, or real containers of an engine. They are removed whatever happens.

use super::cgroups::Cgroups;
use super::cleanup::Cleanup;
use super::containers::Containers;

/// The host's cgroup root. Its other containers are read, too, by the exporters and by the baseline.
pub(super) const CGROUPS: &str = super::cgroups::ROOT;

/// The containers of a run.
#[derive(Debug)]
pub(super) struct Fixtures {
    pub(super) containers: Kind,
    /// The last to go, after the processes.
    _cleanup: Cleanup,
}

/// Where they come from.
#[derive(Debug)]
pub(super) enum Kind {
    /// We make their cgroups.
    Cgroups(Cgroups),
    /// An engine makes them.
    Docker(Containers),
}

impl Fixtures {
    /// No containers yet. Removes what an earlier run has left.
    pub(super) fn new(docker: bool) -> anyhow::Result<Self> {
        let cleanup = Cleanup::start(docker)?;
        let containers = if docker { Kind::Docker(Containers::new()?) } else { Kind::Cgroups(Cgroups::new()?) };
        Ok(Self { containers, _cleanup: cleanup })
    }

    /// Adds containers up to `size`.
    pub(super) fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        match &mut self.containers {
            Kind::Cgroups(cgroups) => cgroups.grow(size),
            Kind::Docker(containers) => containers.grow(size),
        }
    }

    /// Stops each of them for a moment and lets it go on: the kernel has something to add up for each.
    pub(super) fn touch(&self) -> anyhow::Result<()> {
        match &self.containers {
            Kind::Cgroups(cgroups) => cgroups.touch(),
            Kind::Docker(containers) => containers.touch(),
        }
    }
}
