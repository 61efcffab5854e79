//! Measures the three read paths, each in its own exporter with everything on, and the baseline. They read the same
//! containers in turns, so that other load of this machine affects all of them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Instant;

use anyhow::anyhow;
use docker_stats_exporter::discover::Hierarchy;
use docker_stats_exporter::ebpf::BareSnapshots;

use super::Options;
use super::baseline::Baseline;
use super::cgroups::Cgroups;
use super::exporters::{Comparison, Exporter, Setup};
use super::figures::{Figures, PACE, Scrapes, WARM_UP, per_second, thread_ns};
use super::fixtures::{CGROUPS, Fixtures, Kind};
use super::target::{Coding, Memory, Scrape, Target};
use crate::sh::say;

/// Rounds of warm scrapes; fewer with many containers, whose cgroups slow down the whole host.
const ROUNDS: usize = 25;
const ROUNDS_OF_MANY: usize = 6;
const MANY: usize = 2000;
/// Scrapes after every container has run for a moment.
const TOUCHED: usize = 12;
/// Scrapes after a pause.
const COLD: usize = 2;
/// Limit of open files that leaves the exporter few descriptors beside its reserve.
const FEW_DESCRIPTORS: u64 = 1100;
/// Number of containers whose network links the exporter finds in one scrape, at least.
const PAIRED_AT_ONCE: usize = 128;

/// How counters are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// A: one pass of the kernel over all cgroups.
    Snapshot,
    /// B: files that stay open.
    Open,
    /// C: files that are opened for each scrape, by a low limit of open files.
    Reopened,
}

impl Tier {
    const ALL: [Self; 3] = [Self::Snapshot, Self::Open, Self::Reopened];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "A",
            Self::Open => "B",
            Self::Reopened => "C",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Snapshot => &["--ebpf=auto", "--read.snapshot=on"],
            Self::Open | Self::Reopened => &["--ebpf=auto", "--read.snapshot=off"],
        }
    }
}

/// The figures of one number of containers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) containers: usize,
    pub(super) tiers: Vec<Row>,
    pub(super) baseline: Figures,
    /// After every container has run for a moment.
    pub(super) baseline_dirty: Figures,
    /// An eBPF iterator that only stores ids; `None` if the kernel does not accept it.
    pub(super) bare: Option<Figures>,
    pub(super) comparison: Option<Comparison>,
}

/// The figures of one read path.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) tier: Tier,
    /// From the start of the process to the end of its first scrape, in nanoseconds.
    pub(super) first: f64,
    pub(super) warm: Scrapes,
    pub(super) gzip: Scrapes,
    /// After a pause as long as Prometheus makes it.
    pub(super) cold: Scrapes,
    /// After every container has run for a moment.
    pub(super) dirty: Scrapes,
    /// CPU time per second between scrapes, in nanoseconds.
    pub(super) idle: u64,
    /// After the first compressed scrapes.
    pub(super) memory: Memory,
    pub(super) descriptors: usize,
    /// `None` for containers of an engine, whose own work would dominate.
    pub(super) starts: Option<Starts>,
}

/// Measures each number of containers, from small to large.
pub(super) fn all(options: &Options) -> anyhow::Result<Vec<Run>> {
    let mut fixtures = Fixtures::new(options.docker)?;
    let mut runs = Vec::new();
    for containers in &options.sizes {
        fixtures.grow(*containers)?;
        runs.push(one(&fixtures, *containers, options)?);
    }
    Ok(runs)
}

fn one(fixtures: &Fixtures, containers: usize, options: &Options) -> anyhow::Result<Run> {
    let setup = Setup { names: options.docker, read_path: &[], flags: &options.flags, descriptors: None };
    let mut run = tiers(fixtures, containers, &setup)?;
    // The exporters of the read paths have ended here, so they do not disturb the comparison.
    run.comparison = options.peer.as_ref().map(|peer| peer.compare(&setup)).transpose()?;
    for row in &run.tiers {
        let (scrape, baseline) = (row.warm.cpu.median / 1e6, run.baseline.median / 1e6);
        say(&format!("{containers}, tier {}: scrape {scrape:.2} ms, baseline {baseline:.2} ms", row.tier.name()));
    }
    Ok(run)
}

fn tiers(fixtures: &Fixtures, containers: usize, setup: &Setup<'_>) -> anyhow::Result<Run> {
    let mut running = Vec::new();
    for tier in Tier::ALL {
        let descriptors = (tier == Tier::Reopened).then_some(FEW_DESCRIPTORS);
        match Measured::start(tier, &Setup { read_path: tier.flags(), descriptors, ..*setup }, containers) {
            Ok(one) => running.push(one),
            Err(error) => say(&format!("tier {} cannot be measured here: {error:#}", tier.name())),
        }
    }
    let mut baseline = Baseline::open()?;
    let bare = BareSnapshots::start(&Hierarchy::detect(Path::new(CGROUPS))?, containers);
    let mut bare = bare.inspect_err(|error| say(&format!("no bare iterator can be measured here: {error}"))).ok();
    let (mut rounds, mut dirty_rounds, mut bare_runs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..if containers < MANY { ROUNDS } else { ROUNDS_OF_MANY } {
        // Each exporter is the first one equally often.
        let turn = usize::from(round > 0).min(running.len());
        running.rotate_left(turn);
        // The second of two scrapes in a row counts as warm, because the other exporters evict the caches in between.
        for one in &mut running {
            one.gzip.push(one.exporter.target.scrape(Coding::Gzip)?);
            one.warm.push(one.exporter.target.scrape(Coding::Plain)?);
        }
        baseline.round();
        rounds.push(baseline.round());
        if let Some(bare) = &mut bare {
            iterate(bare)?;
            bare_runs.push(iterate(bare)?);
        }
    }
    // The first round does not count, because it reads limits that may have changed while containers started.
    for round in 0..=COLD {
        for one in &mut running {
            let before = one.exporter.target.cpu_ns()?;
            sleep(PACE);
            one.idle = per_second(before, one.exporter.target.cpu_ns()?);
            let scrape = one.exporter.target.scrape(Coding::Plain)?;
            one.cold.extend((round > 0).then_some(scrape));
        }
    }
    for _ in 0..TOUCHED {
        for one in &mut running {
            fixtures.touch()?;
            one.dirty.push(one.exporter.target.scrape(Coding::Plain)?);
        }
        fixtures.touch()?;
        dirty_rounds.push(baseline.round());
    }
    drop(baseline);
    running.sort_unstable_by_key(|one| one.tier.name());
    Ok(Run {
        containers,
        tiers: running.into_iter().map(|one| one.row(fixtures)).collect::<anyhow::Result<_>>()?,
        baseline: Figures::of(&rounds),
        baseline_dirty: Figures::of(&dirty_rounds),
        bare: bare.map(|_| Figures::of(&bare_runs)),
        comparison: None,
    })
}

/// An exporter, and its scrapes so far.
struct Measured {
    tier: Tier,
    exporter: Exporter,
    first: f64,
    memory: Memory,
    idle: u64,
    warm: Vec<Scrape>,
    gzip: Vec<Scrape>,
    cold: Vec<Scrape>,
    dirty: Vec<Scrape>,
}

impl Measured {
    fn start(tier: Tier, setup: &Setup<'_>, containers: usize) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut exporter = Exporter::start(setup)?;
        exporter.target.scrape(Coding::Gzip)?;
        let first = start.elapsed().as_secs_f64() * 1e9;
        // The exporter finds the network links of some containers in each scrape.
        for _ in 0..2 * WARM_UP + containers / PAIRED_AT_ONCE {
            exporter.target.scrape(Coding::Gzip)?;
        }
        let memory = exporter.target.memory()?;
        let (warm, gzip, cold, dirty) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { tier, exporter, first, memory, idle: 0, warm, gzip, cold, dirty })
    }

    fn row(mut self, fixtures: &Fixtures) -> anyhow::Result<Row> {
        let target = &mut self.exporter.target;
        let starts = match &fixtures.containers {
            Kind::Cgroups(cgroups) => Some(measure_starts(cgroups, target)?),
            Kind::Docker(_) => None,
        };
        Ok(Row {
            tier: self.tier,
            first: self.first,
            warm: Scrapes::of(&self.warm),
            gzip: Scrapes::of(&self.gzip),
            cold: Scrapes::of(&self.cold),
            dirty: Scrapes::of(&self.dirty),
            idle: self.idle,
            memory: self.memory,
            descriptors: target.descriptors()?,
            starts,
        })
    }
}

/// CPU time of one pass over all cgroups of the host, in nanoseconds.
fn iterate(bare: &mut BareSnapshots) -> anyhow::Result<u64> {
    let before = thread_ns();
    bare.take().map_err(|error| anyhow!("the bare iterator: {error}"))?;
    Ok(thread_ns().saturating_sub(before))
}

/// Containers that start one after the other, without a pause.
const STARTS: usize = 50;
const ROUNDS_OF_STARTS: usize = 5;

/// What scrapes and starting containers cost each other: both take the kernel's lock of all cgroups.
#[derive(Debug)]
pub(super) struct Starts {
    /// Nanoseconds that a start takes while nobody scrapes: its cgroups made and its process moved there.
    pub(super) alone: Figures,
    /// The same while one scrape follows the other.
    pub(super) beside: Figures,
    /// The scrapes meanwhile.
    pub(super) scrapes: Scrapes,
}

/// Starts containers with and without scrapes in turns.
fn measure_starts(cgroups: &Cgroups, target: &mut Target) -> anyhow::Result<Starts> {
    let (mut alone, mut beside, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS_OF_STARTS {
        alone.extend(cgroups.burst(STARTS)?);
        let done = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let taken = cgroups.burst(STARTS);
                done.store(true, Ordering::Relaxed);
                taken
            });
            while !done.load(Ordering::Relaxed) {
                scrapes.push(target.scrape(Coding::Plain)?);
            }
            starting.join().map_err(|_panic| anyhow::anyhow!("starting containers panicked"))?
        })?;
        beside.extend(taken);
    }
    Ok(Starts { alone: Figures::of(&alone), beside: Figures::of(&beside), scrapes: Scrapes::of(&scrapes) })
}
