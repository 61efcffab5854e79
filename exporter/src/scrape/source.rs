//! The source of values: kernel files or the engine's stats API. A pass reads it in steps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::info;

use super::api::{self, Api};
use super::cgroups::{Cgroups, Setup};
use super::exposed_set::ExposedSet;
use crate::discover::IdFilter;
use crate::docker::Engines;
use crate::metrics::CollectorSet;
use crate::name::{Moment, Names};
use crate::read::{self, Labels, Pass, Row, Sample, Timing};
use crate::render::Exposed;

/// The source of values.
#[derive(Debug)]
pub(super) enum Source {
    /// Kernel files.
    Cgroups(Box<Cgroups>),
    /// The engine's stats API.
    Api(Box<Api>),
}

/// A running pass.
#[derive(Debug)]
pub(super) enum Progress {
    Cgroups(Box<read::Progress>),
    Api(api::Progress),
}

impl Source {
    /// Begins a pass over all present containers. `pass.deadline` is the latest deadline of the waiting scrapes.
    pub(super) fn begin(&mut self, pass: Pass<'_>, engines: &Engines, now: Instant) -> Progress {
        match self {
            Self::Cgroups(cgroups) => {
                cgroups.limits_changed(pass.names, &engines.take_updated());
                Progress::Cgroups(Box::new(cgroups.begin(pass, now)))
            }
            Self::Api(api) => Progress::Api(api.begin(pass, now)),
        }
    }

    /// Continues until `pass.deadline`. Returns whether everything is read.
    pub(super) fn advance(&mut self, progress: &mut Progress, pass: Pass<'_>) -> bool {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups(progress)) => cgroups.reader().advance(progress, pass),
            (Self::Api(api), Progress::Api(progress)) => api.advance(progress, pass),
            _ => true,
        }
    }

    /// Publishes the samples of a running pass. Returns the time it has taken so far.
    pub(super) fn interim(&mut self, progress: &Progress, pass: Pass<'_>) -> Timing {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups(progress)) => cgroups.reader().interim(progress, pass),
            (_, Progress::Api(progress)) => Api::interim(progress, pass),
            (Self::Api(_), Progress::Cgroups(_)) => Timing::start(),
        }
    }

    /// Ends a pass, complete or not. Returns its timing, and the time at which the source itself cut it, if it did.
    pub(super) fn finish(&mut self, progress: Progress, pass: Pass<'_>) -> (Timing, Option<Instant>) {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups(progress)) => (cgroups.reader().finish(&progress, pass), None),
            (Self::Api(api), Progress::Api(progress)) => api.finish(progress, pass),
            _ => (Timing::start(), None),
        }
    }

    /// Updates the exposed set by the present containers.
    pub(super) fn update(&self, exposed_set: &mut ExposedSet, names: &Names, now: Moment) {
        match self {
            Self::Cgroups(cgroups) => exposed_set.update(cgroups.live(), names, now, true),
            Self::Api(api) => exposed_set.update(api.live(), names, now, false),
        }
    }

    /// Returns all exposed containers.
    pub(super) fn exposed<'a>(
        &'a self,
        exposed_set: &'a ExposedSet,
        names: &'a Names,
        ids: &'a IdFilter,
    ) -> Vec<Exposed<'a>> {
        match self {
            Self::Cgroups(cgroups) => {
                let mut exposed = exposed_set.exposed(cgroups.live(), names, ids);
                exposed.extend(cgroups.others(ids));
                exposed
            }
            Self::Api(api) => exposed_set.exposed(api.live(), names, ids),
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        match self {
            Self::Cgroups(cgroups) => cgroups.rows(),
            Self::Api(api) => api.rows(),
        }
    }

    pub(super) fn labels(&self) -> &Labels {
        match self {
            Self::Cgroups(cgroups) => cgroups.labels(),
            Self::Api(api) => api.labels(),
        }
    }

    pub(super) fn host(&self) -> &Sample {
        match self {
            Self::Cgroups(cgroups) => cgroups.host(),
            Self::Api(api) => api.host(),
        }
    }

    pub(super) fn live_count(&self) -> usize {
        match self {
            Self::Cgroups(cgroups) => cgroups.live().count(),
            Self::Api(api) => api.live().count(),
        }
    }

    /// Returns the collectors that have rows on this host. eBPF collectors may have none.
    pub(super) fn collectors(&self) -> CollectorSet {
        self.rows().iter().map(|row| row.family.collector).collect()
    }
}

/// Findings on this host for the live page: terms and descriptions.
pub(super) type Findings = Vec<(String, String)>;

/// Changes from the stats API to kernel files once containers appear. An exporter in a guest or beside a nested engine may
/// start before any cgroup but its own exists.
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
