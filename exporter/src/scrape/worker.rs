//! The thread that owns everything a scrape needs, and answers one batch of scrapes after the other.
//!
//! Scrapes that come while one is collected share its collection; so do those within `--scrape.min-interval`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::api::Api;
use super::cgroups::Cgroups;
use super::request::{Error, Request};
use super::roster::Roster;
use crate::docker::Engine;
use crate::ebpf::give_memory_back;
use crate::metrics::{Collector, CollectorSet, Own};
use crate::name::{Directory, Names};
use crate::read::{HostFacts, Labels, Machine, Pass, Row, Sample, Timing};
use crate::render::{Pool, View, render};

/// One scrape that waits for its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Bytes, Error>>,
}

/// Where values come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Kernel files.
    Cgroups(Box<Cgroups>),
    /// The engine's stats API.
    Api(Box<Api>),
}

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) source: Source,
    pub(super) roster: Roster,
    pub(super) directory: Arc<Directory>,
    pub(super) engine: Engine,
    pub(super) own: Own,
    pub(super) machine: Machine,
    /// Procfs of the containers' host; none where that is another one than ours.
    pub(super) procfs: Option<std::path::PathBuf>,
    pub(super) min_interval: Duration,
    pub(super) pool: Pool,
    pub(super) last: Option<Collection>,
    /// Containers when free memory was last given back.
    pub(super) trimmed_for: i64,
}

/// What the last pass brought, beside the samples that the source holds.
#[derive(Debug)]
pub(super) struct Collection {
    at: Instant,
    collectors: CollectorSet,
    names: Arc<Names>,
    facts: HostFacts,
    timing: Timing,
    /// The deadline that ended the pass early; none where everything was read.
    cut: Option<Instant>,
}

impl Worker {
    /// Answers until every sender is gone.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() {
                match jobs.blocking_recv() {
                    Some(job) => waiting.push(job),
                    None => return,
                }
            }
            drain(&mut jobs, &mut waiting);
            // A panic drops the answers on their way, which tells those who wait; the next pass starts afresh.
            if catch_unwind(AssertUnwindSafe(|| self.serve(&mut jobs, &mut waiting))).is_err() {
                error!("a scrape panicked; its readers are made anew (please report the message above)");
                waiting.clear();
                self.restart();
            }
            self.give_memory_back();
        }
    }

    /// After the first scrape, and again when there are twice as many containers: buffers have grown by doubling.
    fn give_memory_back(&mut self) {
        let containers = self.own.containers.get();
        if containers >= 2 * self.trimmed_for.max(1) {
            self.trimmed_for = containers;
            give_memory_back();
        }
    }

    fn restart(&mut self) {
        self.last = None;
        if let Source::Cgroups(cgroups) = &mut self.source {
            match cgroups.restart() {
                Ok(fresh) => self.source = Source::Cgroups(Box::new(fresh)),
                Err(error) => error!(%error, "the cgroup tree is gone; going on with what was there"),
            }
        }
    }

    /// One pass for all that wait, and for those who join while it runs.
    fn serve(&mut self, jobs: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>) {
        let collectors = waiting.iter().fold(CollectorSet::EMPTY, |all, job| all.union(job.request.collectors));
        let cut = self.last.as_ref().and_then(|last| last.cut);
        let poor = waiting.iter().any(|job| is_worth_more(job.request.deadline, cut));
        if poor || !self.is_fresh(collectors) {
            self.collect(collectors, earliest_deadline(waiting));
        }
        drain(jobs, waiting);
        let Some(last) = &self.last else { return };
        let (collected, cut) = (last.collectors, last.cut);
        let served = |job: &Job| job.request.collectors.union(collected) == collected;
        let (ready, later): (Vec<Job>, Vec<Job>) =
            waiting.drain(..).partition(|job| served(job) && !is_worth_more(job.request.deadline, cut));
        *waiting = later;
        self.answer(ready);
    }

    fn is_fresh(&self, collectors: CollectorSet) -> bool {
        let covers = |last: &Collection| last.collectors.union(collectors) == last.collectors;
        self.last.as_ref().is_some_and(|last| last.at.elapsed() < self.min_interval && covers(last))
    }

    fn collect(&mut self, collectors: CollectorSet, deadline: Option<Instant>) {
        let at = Instant::now();
        let names = self.directory.names();
        let mut timing = match &mut self.source {
            Source::Cgroups(cgroups) => {
                cgroups.limits_changed(&names, &self.directory.take_updated());
                cgroups.collect(Pass { collectors, names: &names, deadline }, at)
            }
            Source::Api(api) => api.collect(collectors, &names, deadline),
        };
        let state_from = Instant::now();
        let now_ms = epoch_ms();
        let live = self.source.live_count();
        self.update_roster(&names, now_ms);
        timing.add(Collector::State, state_from.elapsed());
        let machine_from = Instant::now();
        let facts = self.procfs.as_deref().map(HostFacts::read).unwrap_or_default();
        timing.add(Collector::Machine, machine_from.elapsed());
        self.own.containers.set(i64::try_from(live).unwrap_or(i64::MAX));
        debug!(containers = live, took = ?at.elapsed(), "collected");
        let cut = deadline.filter(|deadline| timing.any_failed(collectors) && Instant::now() >= *deadline);
        self.last = Some(Collection { at, collectors, names, facts, timing, cut });
    }

    fn update_roster(&mut self, names: &Names, now_ms: u64) {
        match &self.source {
            Source::Cgroups(cgroups) => self.roster.update(cgroups.live(), names, now_ms),
            Source::Api(api) => self.roster.update(api.live(), names, now_ms),
        }
    }

    /// Renders once for each different request.
    fn answer(&mut self, mut ready: Vec<Job>) {
        while let Some(first) = ready.first() {
            let request = first.request;
            let same = |job: &Job| {
                let other = job.request;
                (other.collectors, other.format, other.gzip) == (request.collectors, request.format, request.gzip)
            };
            let (answered, rest): (Vec<Job>, Vec<Job>) = ready.into_iter().partition(same);
            ready = rest;
            let body = self.render(request);
            for job in answered {
                // A client that has gone away does not want it any more.
                drop(job.answer.send(body.clone()));
            }
        }
    }

    fn render(&self, request: Request) -> Result<Bytes, Error> {
        let Some(last) = &self.last else { return Err(Error::Panicked) };
        self.publish(&last.timing, request.collectors);
        let about = self.engine.about();
        let exposed = match &self.source {
            Source::Cgroups(cgroups) => self.roster.exposed(cgroups.live(), &last.names),
            Source::Api(api) => self.roster.exposed(api.live(), &last.names),
        };
        let view = View {
            rows: self.source.rows(),
            containers: &exposed,
            host: self.source.host(),
            facts: &last.facts,
            machine: &self.machine,
            engine_version: about.as_ref().map_or("", |about| &about.version),
            labels: self.source.labels(),
            failed: last.timing.any_failed(request.collectors),
            collectors: request.collectors,
        };
        Ok(render(&view, &self.own.gather(), request.format, request.gzip, &self.pool))
    }

    /// Duration and success of the collectors that were asked for.
    fn publish(&self, timing: &Timing, collectors: CollectorSet) {
        self.own.collector_duration.reset();
        self.own.collector_success.reset();
        for collector in collectors.iter().filter(|collector| self.source.has(*collector)) {
            let name = [collector.name()];
            self.own.collector_duration.with_label_values(&name).set(timing.spent(collector).as_secs_f64());
            self.own.collector_success.with_label_values(&name).set(i64::from(timing.success(collector)));
        }
    }
}

impl Source {
    fn rows(&self) -> &[Row] {
        match self {
            Self::Cgroups(cgroups) => cgroups.rows(),
            Self::Api(api) => api.rows(),
        }
    }

    fn labels(&self) -> &Labels {
        match self {
            Self::Cgroups(cgroups) => cgroups.labels(),
            Self::Api(api) => api.labels(),
        }
    }

    fn host(&self) -> &Sample {
        match self {
            Self::Cgroups(cgroups) => cgroups.host(),
            Self::Api(api) => api.host(),
        }
    }

    fn live_count(&self) -> usize {
        match self {
            Self::Cgroups(cgroups) => cgroups.live().count(),
            Self::Api(api) => api.live().count(),
        }
    }

    /// Whether a collector has any row on this host: those of eBPF have none.
    fn has(&self, collector: Collector) -> bool {
        self.rows().iter().any(|row| row.family.collector == collector)
    }
}

fn drain(jobs: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>) {
    while let Ok(job) = jobs.try_recv() {
        waiting.push(job);
    }
}

/// The pass may take as long as the least patient of those who wait for it; the others get another one if it is cut.
fn earliest_deadline(waiting: &[Job]) -> Option<Instant> {
    waiting.iter().filter_map(|job| job.request.deadline).min()
}

/// Whether a scrape has time for more than what a pass brought that was cut at `cut`.
fn is_worth_more(deadline: Option<Instant>, cut: Option<Instant>) -> bool {
    cut.is_some_and(|cut| deadline.is_none_or(|deadline| deadline > cut))
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Job, earliest_deadline, is_worth_more};
    use crate::metrics::CollectorSet;
    use crate::scrape::{Format, Request};

    fn job(deadline: Option<Instant>) -> Job {
        let (collectors, format) = (CollectorSet::EMPTY, Format::Text);
        let (answer, _) = tokio::sync::oneshot::channel();
        Job { request: Request { collectors, format, gzip: false, deadline }, answer }
    }

    #[test]
    fn a_patient_scrape_does_not_make_an_impatient_one_late() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(earliest_deadline(&[job(None), job(Some(later)), job(Some(now))]), Some(now));
        assert_eq!(earliest_deadline(&[job(None)]), None);
    }

    #[test]
    fn an_impatient_scrape_does_not_make_a_patient_one_poor() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        assert!(is_worth_more(Some(later), Some(now)) && is_worth_more(None, Some(now)));
        assert!(!is_worth_more(Some(now), Some(now)));
        assert!(!is_worth_more(Some(later), None) && !is_worth_more(None, None));
    }
}
