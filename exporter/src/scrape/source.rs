//! Where values come from, and a pass over it in steps.

use std::time::{Duration, Instant};

use super::api::Api;
use super::cgroups::Cgroups;
use super::roster::Roster;
use crate::metrics::CollectorSet;
use crate::name::{Directory, Moment, Names};
use crate::read::{self, Labels, Pass, Row, Sample, Timing};
use crate::render::Exposed;

/// Where values come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Kernel files.
    Cgroups(Box<Cgroups>),
    /// The engine's stats API.
    Api(Box<Api>),
}

/// A pass that is under way.
#[derive(Debug)]
pub(super) enum Progress {
    Cgroups {
        progress: read::Progress,
        overhead: Duration,
    },
    /// The engine is asked in one step.
    Api {
        timing: Timing,
        cut: Option<Instant>,
    },
}

impl Progress {
    /// Time before the first container was read.
    pub(super) fn overhead(&self) -> Duration {
        match self {
            Self::Cgroups { overhead, .. } => *overhead,
            Self::Api { .. } => Duration::ZERO,
        }
    }

    /// The deadline by which the source ended the pass itself, if it did.
    pub(super) fn cut(&self) -> Option<Instant> {
        match self {
            Self::Cgroups { .. } => None,
            Self::Api { cut, .. } => *cut,
        }
    }
}

impl Source {
    /// Begins a pass. `pass.deadline` is when the last of those who wait for it will have gone.
    pub(super) fn begin(&mut self, pass: Pass<'_>, directory: &Directory, now: Instant) -> Progress {
        match self {
            Self::Cgroups(cgroups) => {
                cgroups.limits_changed(pass.names, &directory.take_updated());
                Progress::Cgroups { progress: cgroups.begin(pass, now), overhead: now.elapsed() }
            }
            Self::Api(api) => {
                let timing = api.collect(pass.collectors, pass.names, pass.deadline);
                let is_short = |deadline: &Instant| timing.any_failed(pass.collectors) && Instant::now() >= *deadline;
                Progress::Api { cut: pass.deadline.filter(is_short), timing }
            }
        }
    }

    /// Goes on until `pass.deadline`. Returns whether everything is read.
    pub(super) fn advance(&mut self, progress: &mut Progress, pass: Pass<'_>) -> bool {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups { progress, .. }) => cgroups.reader().advance(progress, pass),
            _ => true,
        }
    }

    /// Makes the samples those of a pass that is under way. Returns the time so far.
    pub(super) fn interim(&mut self, progress: &Progress, pass: Pass<'_>) -> Timing {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups { progress, .. }) => cgroups.reader().interim(progress, pass),
            (_, Progress::Api { timing, .. }) => timing.clone(),
            (Self::Api(_), Progress::Cgroups { .. }) => Timing::start(),
        }
    }

    /// Ends a pass, whether or not everything is read.
    pub(super) fn finish(&mut self, progress: &Progress, pass: Pass<'_>) -> Timing {
        match (self, progress) {
            (Self::Cgroups(cgroups), Progress::Cgroups { progress, .. }) => cgroups.reader().finish(progress, pass),
            (source, progress) => source.interim(progress, pass),
        }
    }

    /// Brings the roster up to date.
    pub(super) fn update(&self, roster: &mut Roster, names: &Names, now: Moment) {
        match self {
            Self::Cgroups(cgroups) => roster.update(cgroups.live(), names, now, true),
            Self::Api(api) => roster.update(api.live(), names, now, false),
        }
    }

    /// Everything to be exposed.
    pub(super) fn exposed<'a>(&'a self, roster: &'a Roster, names: &'a Names) -> Vec<Exposed<'a>> {
        match self {
            Self::Cgroups(cgroups) => roster.exposed(cgroups.live(), names),
            Self::Api(api) => roster.exposed(api.live(), names),
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

    /// The collectors that have any row on this host: those of eBPF may have none.
    pub(super) fn collectors(&self) -> CollectorSet {
        self.rows().iter().map(|row| row.family.collector).collect()
    }
}
