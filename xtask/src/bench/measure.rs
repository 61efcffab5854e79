//! The measuring core: the three read paths, each in an exporter of its own with everything on, and the baseline, in turns over the
//! same containers, so that what else this machine does falls on all of them.

use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use anyhow::anyhow;
use docker_stats_exporter::discover::Hierarchy;
use docker_stats_exporter::ebpf::BareSnapshots;

use super::baseline::Baseline;
use super::cadvisor::Comparison;
use super::churn::{self, Starts};
use super::exporter::{Exporter, Setup};
use super::figures::{Figures, PACE, Scrapes, WARM_UP, per_second, thread_ns};
use super::fixtures::{CGROUPS, Fixtures, Kind};
use super::options::Options;
use super::target::{Coding, Memory, Scrape};
use crate::sh::say;

/// Rounds of warm scrapes; fewer where a scrape takes long, as all these cgroups are a load on everyone else on this host.
const ROUNDS: usize = 25;
const ROUNDS_OF_MANY: usize = 6;
const MANY: usize = 2000;
/// Scrapes after every container has run for a moment.
const TOUCHED: usize = 12;
/// Scrapes after a pause.
const COLD: usize = 2;
/// Leaves the exporter a few descriptors beside those that it sets aside.
const FEW_DESCRIPTORS: u64 = 1100;
/// Containers, at least, whose links the exporter looks for in one scrape.
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

/// All that was measured with one number of containers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) containers: usize,
    pub(super) tiers: Vec<Row>,
    pub(super) baseline: Figures,
    /// After every container has run for a moment.
    pub(super) baseline_dirty: Figures,
    /// An iterator that stores ids and nothing else; none where there can be none.
    pub(super) bare: Option<Figures>,
    pub(super) comparison: Option<Comparison>,
}

/// One read path.
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
    /// None for containers of an engine, whose own work would be most of it.
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
    // After the others have ended: they would be in the way.
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
        // Each is first as often as the others.
        let turn = usize::from(round > 0).min(running.len());
        running.rotate_left(turn);
        // What is warm is the second of two in a row, of all alike: between them others sweep the caches.
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
    // In the first of them limits are read that may have been written while containers started.
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
        // A few hundred containers at a time are paired with links of the host.
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
            Kind::Cgroups(cgroups) => Some(churn::measure(cgroups, target)?),
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
