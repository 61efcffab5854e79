//! Changes from the stats API to kernel files once containers appear.
//!
//! An exporter in a guest or beside a nested engine may start before any cgroup but its own exists.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::info;

use super::cgroups::{Cgroups, Setup};
use super::source::Source;

/// Findings on this host: term and description.
pub(super) type Findings = Vec<(String, String)>;

/// Settings for kernel files, and the findings to replace.
#[derive(Debug)]
pub(super) struct Standby {
    pub(super) setup: Setup,
    /// Findings that the live page shows.
    pub(super) findings: Arc<Mutex<Findings>>,
}

impl Standby {
    /// Returns kernel files and the host's procfs once a container has appeared.
    pub(super) fn retry(&self) -> Option<(Source, PathBuf)> {
        let cgroups = Cgroups::appeared(&self.setup)?;
        info!(
            cgroups = %self.setup.root.display(),
            "containers have appeared in the cgroup tree: values come from kernel files from now on; eBPF programs and snapshots are \
             decided on at start alone, restart the exporter to have them"
        );
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = cgroups.findings();
        Some((Source::Cgroups(Box::new(cgroups)), self.setup.procfs.clone()))
    }
}
