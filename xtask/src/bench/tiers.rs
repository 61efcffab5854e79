//! The three ways of reading, each in an exporter of its own with everything on, and in turns over the same containers: a snapshot of
//! all of them (A), files kept open (B), files opened anew (C, by a low limit of open files).
//!
//! Under the host's own root: programs count for the whole host, so its other containers are read too, by all and by the loop.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, anyhow};
use docker_stats_exporter::discover::Hierarchy;
use docker_stats_exporter::ebpf::BareSnapshots;
use rustix::time::{ClockId, clock_gettime};

use super::client::{Client, Coding};
use super::exporter::{Exporter, Memory, Scrape, Setup, has_flag};
use super::figures::Figures;
use super::floor::{Floor, NetDev};
use super::host::Host;
use super::measure::{PACE, Scrapes, TOUCHED, WARM_UP};
use super::population::CGROUPS;
use super::starts::{self, Starts};
use crate::sh::say;

/// The flag that chooses between the first way and the others.
const SNAPSHOT: &str = "--read.snapshot";
/// Leaves the exporter a few descriptors to keep, beside those that it sets aside.
const FEW_DESCRIPTORS: u64 = 1100;
/// Containers, at least, whose links the exporter looks for in one scrape.
const PAIRED_AT_ONCE: usize = 128;
/// Scrapes after a pause, of each.
const COLD: usize = 2;

/// A way of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// One pass of the kernel over all cgroups.
    Snapshot,
    /// Files that are kept open.
    Kept,
    /// Files that are opened for each scrape.
    Anew,
}

impl Tier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "A",
            Self::Kept => "B",
            Self::Anew => "C",
        }
    }

    fn flags(self, has_snapshots: bool) -> &'static [&'static str] {
        match self {
            Self::Snapshot => &["--ebpf=auto", "--read.snapshot=on"],
            Self::Kept | Self::Anew if has_snapshots => &["--ebpf=auto", "--read.snapshot=off"],
            Self::Kept | Self::Anew => &["--ebpf=auto"],
        }
    }

    fn descriptors(self) -> Option<u64> {
        (self == Self::Anew).then_some(FEW_DESCRIPTORS)
    }
}

/// All ways with one number of containers.
#[derive(Debug)]
pub(super) struct Tiers {
    pub(super) rows: Vec<Row>,
    /// The loop, in turns with them.
    pub(super) floor: Figures,
    pub(super) floor_dirty: Figures,
    /// An iterator that does no more than store ids, in turns with them; none where there can be none.
    pub(super) bare: Option<Figures>,
}

/// One way.
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
    /// After as many scrapes as Prometheus makes them: compressed.
    pub(super) memory: Memory,
    pub(super) descriptors: usize,
    /// None for containers of an engine.
    pub(super) starts: Option<Starts>,
}

/// An exporter that is measured.
struct One {
    tier: Tier,
    exporter: Exporter,
    client: Client,
    first: f64,
    memory: Memory,
    scrapes: [Vec<Scrape>; 5],
}

/// Places in [`One::scrapes`].
const WARM: usize = 0;
const GZIP: usize = 1;
const AFTER_PAUSE: usize = 2;
const DIRTY: usize = 3;
const UNCOUNTED: usize = 4;

impl One {
    fn start(tier: Tier, setup: &Setup<'_>, containers: usize) -> anyhow::Result<Self> {
        let start = std::time::Instant::now();
        let exporter = Exporter::start(setup)?;
        let mut client = exporter.connect()?;
        exporter.scrape(&mut client, "/metrics", Coding::Gzip)?;
        let first = start.elapsed().as_secs_f64() * 1e9;
        // A few hundred containers at a time are paired with links of the host.
        for _ in 0..2 * WARM_UP + containers / PAIRED_AT_ONCE {
            exporter.scrape(&mut client, "/metrics", Coding::Gzip)?;
        }
        let memory = exporter.memory()?;
        Ok(Self { tier, exporter, client, first, memory, scrapes: Default::default() })
    }

    fn scrape(&mut self, place: usize, coding: Coding) -> anyhow::Result<()> {
        let scrape = self.exporter.scrape(&mut self.client, "/metrics", coding)?;
        self.scrapes.get_mut(place).context("no such kind of scrape")?.push(scrape);
        Ok(())
    }

    fn row(mut self, host: &Host) -> anyhow::Result<Row> {
        let starts = starts::measure(host, &self.exporter, &mut self.client)?;
        let descriptors = self.exporter.descriptors()?;
        let [warm, gzip, cold, dirty, _] = self.scrapes.map(|scrapes| Scrapes::of(&scrapes));
        let Self { tier, first, memory, .. } = self;
        Ok(Row { tier, first, warm, gzip, cold, dirty, memory, descriptors, starts })
    }
}

/// Measures each way that this exporter has and this host allows.
pub(super) fn measure(host: &Host, setup: &Setup<'_>, containers: usize, scrapes: usize) -> anyhow::Result<Tiers> {
    let root = Path::new(CGROUPS);
    let has_snapshots = has_flag(SNAPSHOT)?;
    let mut running = Vec::new();
    for tier in [Tier::Snapshot, Tier::Kept, Tier::Anew] {
        if tier == Tier::Snapshot && !has_snapshots {
            continue;
        }
        let setup = Setup { root, way: tier.flags(has_snapshots), descriptors: tier.descriptors(), ..*setup };
        match One::start(tier, &setup, containers) {
            Ok(one) => running.push(one),
            Err(error) => say(&format!("tier {} cannot be measured here: {error:#}", tier.name())),
        }
    }
    let mut floor = Floor::start(root, containers)?;
    let mut bare = match BareSnapshots::start(&Hierarchy::detect(root)?, containers) {
        Ok(bare) => Some(bare),
        Err(obstacle) => {
            say(&format!("no bare iterator can be measured here: {obstacle}"));
            None
        }
    };
    let (mut loops, mut dirty_loops, mut bare_runs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..scrapes {
        // Each is first as often as the others.
        let turn = usize::from(round > 0).min(running.len());
        running.rotate_left(turn);
        // What is warm is the second of two in a row, of all alike: between them others sweep the caches.
        for one in &mut running {
            one.scrape(GZIP, Coding::Gzip)?;
            one.scrape(WARM, Coding::Plain)?;
        }
        floor.round(NetDev::Anew)?;
        loops.push(floor.round(NetDev::Anew)?);
        if let Some(bare) = &mut bare {
            run(bare)?;
            bare_runs.push(run(bare)?);
        }
    }
    // In the first of them limits are read that may have been written while containers started.
    for round in 0..=COLD {
        for one in &mut running {
            sleep(PACE);
            one.scrape(if round == 0 { UNCOUNTED } else { AFTER_PAUSE }, Coding::Plain)?;
        }
    }
    for _ in 0..TOUCHED {
        for one in &mut running {
            host.touch()?;
            one.scrape(DIRTY, Coding::Plain)?;
        }
        host.touch()?;
        dirty_loops.push(floor.round(NetDev::Anew)?);
    }
    drop(floor);
    running.sort_unstable_by_key(|one| one.tier.name());
    let rows = running.into_iter().map(|one| one.row(host)).collect::<anyhow::Result<_>>()?;
    Ok(Tiers {
        rows,
        floor: Figures::of(&loops),
        floor_dirty: Figures::of(&dirty_loops),
        bare: bare.map(|_| Figures::of(&bare_runs)),
    })
}

/// CPU time of one run over all cgroups of the host, in nanoseconds.
fn run(bare: &mut BareSnapshots) -> anyhow::Result<u64> {
    let before = clock_gettime(ClockId::ThreadCPUTime);
    bare.take().map_err(|obstacle| anyhow!("the bare iterator: {obstacle}"))?;
    let spent = clock_gettime(ClockId::ThreadCPUTime) - before;
    Ok(Duration::try_from(spent)?.as_nanos().try_into()?)
}
