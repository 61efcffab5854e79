//! Values from the engine's stats API, for hosts whose cgroup tree cannot be read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::exposed_set::LiveContainer;
use crate::discover::ContainerId;
use crate::docker::{Stats, Sweep, Sweeping};
use crate::metrics::{Collector, CollectorSet, Dimension, FamilySet, SelfMetrics};
use crate::name::{ContainerInfo, Names, NetworkMode};
use crate::read::{Labels, Limits, ListedDisks, Pass, Plan, Row, Sample, Timing, fill_from_stats, fill_host, for_api};
use crate::walker::Walker;

/// Time for a sweep if the scraper sends no timeout: Prometheus' default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(9);

/// Reads the running containers from the engines' stats answers.
#[derive(Debug)]
pub(super) struct Api {
    /// The stats API of each engine.
    stats: Vec<Stats>,
    runtime: Handle,
    plan: Plan,
    rows: Vec<Row>,
    labels: Labels,
    devices: crate::read::Devices,
    containers: Vec<Reading>,
    /// Procfs of the engine's host; `None` if the engine may run on another host.
    procfs: Option<PathBuf>,
    host: Sample,
    /// Disk usage; `None` if the engine may run on another host, or no family needs it.
    disks: Option<ListedDisks>,
}

/// A running pass.
#[derive(Debug)]
pub(super) struct Progress {
    /// The pending answers of each engine.
    sweeping: Vec<Sweeping>,
    running: Vec<ContainerId>,
    /// Samples of the last pass, whose memory is reused.
    before: HashMap<ContainerId, Sample>,
    start: Instant,
    deadline: Instant,
}

#[derive(Debug)]
struct Reading {
    id: ContainerId,
    path: String,
    sample: Sample,
    limits: Limits,
}

impl Api {
    pub(super) fn new(
        stats: Vec<Stats>,
        runtime: Handle,
        procfs: Option<&Path>,
        walker: Option<Walker>,
        families: FamilySet,
        self_metrics: SelfMetrics,
    ) -> Self {
        let (plan, rows) = for_api(families);
        let procfs_of_disks = procfs.filter(|_| !plan.disks.is_empty());
        Self {
            disks: procfs_of_disks.and_then(|procfs| ListedDisks::new(procfs, walker, self_metrics.clone())),
            stats,
            runtime,
            host: Sample::new(plan.slots, plan.columns),
            procfs: procfs.map(Path::to_owned),
            plan,
            rows,
            labels: Labels::default(),
            devices: crate::read::Devices::new(procfs, self_metrics),
            containers: Vec::new(),
        }
    }

    /// Requests the stats of all running containers. `pass.deadline` is the latest deadline of the waiting scrapes.
    pub(super) fn begin(&mut self, pass: Pass<'_>, now: Instant) -> Progress {
        let running: Vec<ContainerId> = pass
            .names
            .containers
            .values()
            .filter(|info| info.state.is_alive() && info.selected)
            .map(|info| info.id)
            .collect();
        if self.labels.trim() {
            self.devices.forget();
        }
        self.devices.begin();
        if let Some(procfs) = &self.procfs {
            fill_host(&self.plan, procfs, &mut self.host, &mut self.labels);
        }
        if let Some(disks) = self.disks.as_mut().filter(|_| pass.wants_disks(&self.plan)) {
            let of_names = running.iter().filter_map(|id| pass.names.containers.get(id));
            let stats = &self.stats;
            let listed = of_names.filter_map(|info| Some((info.id, info.pid?, path(info, pass.names, stats))));
            disks.begin(listed, pass.ids, now);
        }
        let asked = self.asked(&running, pass);
        // Running containers that no scrape selects keep their values.
        let (kept, before) = self
            .containers
            .drain(..)
            .partition::<Vec<_>, _>(|reading| running.contains(&reading.id) && !asked.contains(&reading.id));
        self.containers = kept;
        let before = before.into_iter().map(|reading| (reading.id, reading.sample)).collect();
        let deadline = pass.deadline.unwrap_or(now + DEFAULT_TIMEOUT);
        let of = |engine| asked.iter().copied().filter(move |id| pass.names.engine_of(*id) == Some(engine)).collect();
        let sweeping = self.stats.iter().enumerate().map(|(engine, stats)| stats.begin(of(engine), deadline));
        Progress { sweeping: sweeping.collect(), running, before, start: now, deadline }
    }

    /// Returns the running containers that a pass selects.
    fn asked(&self, running: &[ContainerId], pass: Pass<'_>) -> Vec<ContainerId> {
        if pass.ids.is_all() {
            return running.to_vec();
        }
        let is_asked = |id: &ContainerId| {
            let path = pass.names.containers.get(id).map(|info| path(info, pass.names, &self.stats));
            pass.ids.has(Some(*id), path.as_deref().unwrap_or_default())
        };
        running.iter().copied().filter(is_asked).collect()
    }

    /// Stores answers until `pass.deadline`. Returns whether all engines have answered completely.
    pub(super) fn advance(&mut self, progress: &mut Progress, pass: Pass<'_>) -> bool {
        let until = pass.deadline.unwrap_or(progress.deadline);
        let all = join_all(progress.sweeping.iter_mut().map(|sweeping| sweeping.advance(until)));
        let is_done = self.runtime.block_on(all).into_iter().all(|is_done| is_done);
        let readings: Vec<_> = progress.sweeping.iter_mut().flat_map(Sweeping::readings).collect();
        for (id, stats) in readings {
            let Some(info) = pass.names.containers.get(&id) else { continue };
            let new = || Sample::new(self.plan.slots, self.plan.columns);
            let mut sample = progress.before.remove(&id).unwrap_or_else(new);
            fill_from_stats(&self.plan, &stats, &mut sample, &mut self.labels, &mut self.devices);
            if borrows_network(info, &progress.running) {
                sample.table_mut(Dimension::Interface).clear();
            }
            let limits = Limits::of_engine(&info.limits);
            let path = path(info, pass.names, &self.stats);
            self.containers.push(Reading { id, path, sample, limits });
        }
        self.containers.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        is_done
    }

    /// Ends a pass. Returns the time at which it was cut, if the deadline was too early.
    pub(super) fn finish(&mut self, mut progress: Progress, pass: Pass<'_>) -> (Timing, Option<Instant>) {
        // This last step counts the requests that time out now.
        self.advance(&mut progress, Pass { deadline: Some(Instant::now() + Duration::from_millis(1)), ..pass });
        let sweeps: Vec<_> = self.stats.iter().zip(progress.sweeping).map(|(stats, one)| stats.end(one)).collect();
        let is_complete = sweeps.iter().all(Sweep::is_complete);
        let is_late = !is_complete && Instant::now() >= progress.deadline;
        let mut timing = timing(pass.collectors, progress.start.elapsed(), is_complete);
        self.end_disks(pass, &mut timing);
        (timing, is_late.then_some(progress.deadline))
    }

    fn end_disks(&mut self, pass: Pass<'_>, timing: &mut Timing) {
        let Self { disks, plan, devices, labels, containers, host, .. } = self;
        let Some(disks) = disks.as_mut().filter(|_| pass.wants_disks(plan)) else { return };
        let (spent, is_whole) = disks.end();
        for Reading { id, sample, .. } in containers {
            disks.fill(*id, plan, devices, labels, sample);
        }
        disks.fill_host(plan, devices, labels, host);
        timing.add(Collector::Disk, spent);
        if !is_whole {
            timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        }
    }

    /// Returns the time that a running pass has taken so far.
    pub(super) fn interim(progress: &Progress, pass: Pass<'_>) -> Timing {
        let mut timing = timing(pass.collectors, progress.start.elapsed(), false);
        timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        timing
    }

    pub(super) fn live(&self) -> impl Iterator<Item = LiveContainer<'_>> + Clone {
        self.containers.iter().map(|reading| LiveContainer {
            id: reading.id,
            path: &reading.path,
            named: true,
            sample: &reading.sample,
            limits: &reading.limits,
            generation: 0,
            oom_kills: None,
        })
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn host(&self) -> &Sample {
        &self.host
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// Returns whether a container's interfaces are reported elsewhere: as the host's, or by the container whose network it
/// shares.
fn borrows_network(info: &ContainerInfo, running: &[ContainerId]) -> bool {
    match &info.network_mode {
        NetworkMode::Host => true,
        NetworkMode::Container(owner) => running.contains(owner),
        _ => false,
    }
}

/// Returns the same duration and outcome for every collector, because one sweep serves them all.
fn timing(collectors: CollectorSet, spent: Duration, complete: bool) -> Timing {
    let by_stats = [Collector::Cpu, Collector::Memory, Collector::Blkio, Collector::Network, Collector::Pids];
    let swept: CollectorSet = by_stats.into_iter().filter(|collector| collectors.has(*collector)).collect();
    let mut timing = Timing::start();
    for collector in swept.iter() {
        timing.add(collector, spent);
    }
    if !complete {
        timing.fail(swept);
    }
    timing
}

/// Returns the cgroup path of a container according to its engine.
fn path(info: &ContainerInfo, names: &Names, engines: &[Stats]) -> String {
    let stats = names.engine_of(info.id).and_then(|engine| engines.get(engine));
    info.cgroup_path(stats.is_some_and(Stats::uses_systemd))
}

#[cfg(test)]
mod tests {
    use super::{ContainerId, ContainerInfo, NetworkMode, borrows_network};

    #[test]
    fn a_shared_network_is_reported_under_its_owner_while_that_one_runs() {
        let id = |digit: &str| ContainerId::parse(digit.repeat(64).as_bytes()).unwrap();
        let info = |network_mode| ContainerInfo { network_mode, ..ContainerInfo::unknown(id("b")) };
        assert!(borrows_network(&info(NetworkMode::Container(id("a"))), &[id("a"), id("b")]));
        assert!(!borrows_network(&info(NetworkMode::Container(id("a"))), &[id("b")]));
        assert!(borrows_network(&info(NetworkMode::Host), &[]));
        assert!(!borrows_network(&info(NetworkMode::Unknown), &[id("a")]));
    }
}
