//! The runs: for each number of containers, scrapes and rounds of the floor in turn, so that what else this machine does
//! falls on both.

use std::thread::sleep;
use std::time::Duration;

use super::client::{Client, Coding};
use super::exporter::{Exporter, Memory, Scrape, Setup};
use super::figures::Figures;
use super::floor::{Floor, NetDev};
use super::host::Host;
use super::options::Options;
use super::peer::Peer;
use super::tiers::{self, Tiers};
use crate::sh::say;

/// Scrapes of each kind; fewer where one takes a second, as all these cgroups are a load on everyone else on this host.
const SCRAPES: usize = 50;
const SCRAPES_OF_MANY: usize = 12;
const MANY: usize = 2000;
/// Scrapes and rounds before anything counts: files are opened, buffers grow.
pub(super) const WARM_UP: usize = 3;
/// Scrapes after every container has run for a moment.
pub(super) const TOUCHED: usize = 12;
/// Scrapes at the pace of a Prometheus, and that pace.
const PACED: u64 = 4;
const PACED_OF_MANY: u64 = 2;
pub(super) const PACE: Duration = Duration::from_secs(15);

/// All that was measured with one number of containers.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) containers: usize,
    /// Files that the floor reads in a round.
    pub(super) files: usize,
    /// Descriptors that the exporter has open.
    pub(super) descriptors: usize,
    pub(super) plain: Scrapes,
    pub(super) gzip: Scrapes,
    /// Uncompressed scrapes of the `cpu` collector alone: its files are few enough to keep all of them open.
    pub(super) cpu_only: Scrapes,
    pub(super) floor_anew: Figures,
    pub(super) floor_kept: Figures,
    /// After every container has run for a moment.
    pub(super) dirty: Scrapes,
    pub(super) floor_dirty: Figures,
    /// After as many scrapes as Prometheus makes them: compressed.
    pub(super) memory_gzip: Memory,
    /// After as many more of every kind.
    pub(super) memory_all: Memory,
    pub(super) paced: Paced,
    pub(super) peer: Option<Beside>,
    pub(super) tiers: Tiers,
}

/// Ours as it comes, and another exporter, in turns.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) ours: Side,
    pub(super) other: Side,
}

/// One of two exporters.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) scrapes: Scrapes,
    /// CPU time per second between scrapes, in nanoseconds.
    pub(super) idle: u64,
    pub(super) memory: Memory,
}

/// What happens at the pace of a Prometheus: caches have gone cold, and slow facts fall due. In nanoseconds.
#[derive(Debug)]
pub(super) struct Paced {
    /// Mean CPU time of an uncompressed scrape, as some do work that others do not.
    pub(super) scrape: u64,
    /// Mean CPU time of a round of the floor after it.
    pub(super) floor: u64,
    /// CPU time per second between scrapes.
    pub(super) idle: u64,
}

/// Scrapes of one kind.
#[derive(Debug)]
pub(super) struct Scrapes {
    pub(super) cpu: Figures,
    pub(super) wall: Figures,
    pub(super) bytes: usize,
    pub(super) samples: usize,
    /// Time until all values were there; 0 of compressed ones, which do not tell.
    pub(super) collected: Figures,
}

/// Measures each number of containers, from small to large.
pub(super) fn all(options: &Options) -> anyhow::Result<Vec<Run>> {
    let mut host = Host::new(options.docker)?;
    options
        .sizes
        .iter()
        .map(|size| {
            host.grow(*size)?;
            one(&host, *size, options)
        })
        .collect()
}

fn one(host: &Host, containers: usize, options: &Options) -> anyhow::Result<Run> {
    let setup = Setup {
        root: host.root(),
        names: host.has_names(),
        way: &["--ebpf=off"],
        flags: &options.flags,
        descriptors: None,
    };
    let exporter = Exporter::start(&setup)?;
    let mut client = exporter.connect()?;
    let mut floor = Floor::start(host.root(), containers)?;
    let mut gzip = Vec::new();
    let scrapes = if containers < MANY { SCRAPES } else { SCRAPES_OF_MANY };
    for _ in 0..WARM_UP + scrapes {
        gzip.push(exporter.scrape(&mut client, "/metrics", Coding::Gzip)?);
    }
    let memory_gzip = exporter.memory()?;
    let rounds = alternate(&exporter, &mut client, &mut floor, scrapes)?;
    let touched = touched(host, &exporter, &mut client, &mut floor)?;
    let run = Run {
        containers,
        files: floor.files,
        descriptors: exporter.descriptors()?,
        plain: Scrapes::of(&rounds.plain),
        gzip: Scrapes::of(gzip.get(WARM_UP..).unwrap_or_default()),
        cpu_only: cpu_only(&setup, scrapes)?,
        floor_anew: Figures::of(&rounds.anew),
        floor_kept: Figures::of(&rounds.kept),
        dirty: Scrapes::of(&touched.plain),
        floor_dirty: Figures::of(&touched.anew),
        memory_gzip,
        memory_all: exporter.memory()?,
        paced: paced(&exporter, &mut client, &mut floor, if containers < MANY { PACED } else { PACED_OF_MANY })?,
        tiers: {
            // One that is measured by itself is in the way of the others.
            drop((exporter, floor));
            tiers::measure(host, &setup, containers, if containers < MANY { SCRAPES / 2 } else { SCRAPES_OF_MANY / 2 })?
        },
        peer: options.peer.as_ref().map(|peer| beside(peer, &setup)).transpose()?,
    };
    say(&format!(
        "{containers}: scrape {:.2} ms, floor {:.2} ms, {:.2} times",
        run.plain.cpu.median / 1e6,
        run.floor_anew.median / 1e6,
        run.plain.cpu.median / run.floor_anew.median
    ));
    Ok(run)
}

struct Rounds {
    plain: Vec<Scrape>,
    anew: Vec<u64>,
    kept: Vec<u64>,
}

fn alternate(exporter: &Exporter, client: &mut Client, floor: &mut Floor, scrapes: usize) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds { plain: Vec::new(), anew: Vec::new(), kept: Vec::new() };
    for round in 0..WARM_UP + scrapes {
        let plain = exporter.scrape(client, "/metrics", Coding::Plain)?;
        let anew = floor.round(NetDev::Anew)?;
        let again = exporter.scrape(client, "/metrics", Coding::Plain)?;
        let kept = floor.round(NetDev::Kept)?;
        if round >= WARM_UP {
            rounds.plain.extend([plain, again]);
            rounds.anew.push(anew);
            rounds.kept.push(kept);
        }
    }
    Ok(rounds)
}

/// Every container has run since it was last read.
fn touched(host: &Host, exporter: &Exporter, client: &mut Client, floor: &mut Floor) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds { plain: Vec::new(), anew: Vec::new(), kept: Vec::new() };
    for _ in 0..TOUCHED {
        host.touch()?;
        rounds.plain.push(exporter.scrape(client, "/metrics", Coding::Plain)?);
        host.touch()?;
        rounds.anew.push(floor.round(NetDev::Anew)?);
    }
    Ok(rounds)
}

/// Scrapes of both, each after one of the other, and then nothing for a while. What the other exporter does by itself
/// meanwhile is counted to its scrapes and to its rest alike.
fn beside(peer: &Peer, setup: &Setup<'_>) -> anyhow::Result<Beside> {
    let exporter = Exporter::start(&Setup { way: &[], ..*setup })?;
    let mut client = exporter.connect()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + SCRAPES_OF_MANY {
        let (our, their) = (exporter.scrape(&mut client, "/metrics", Coding::Plain)?, peer.scrape()?);
        if round >= WARM_UP {
            ours.push(our);
            theirs.push(their);
        }
    }
    let before = (exporter.cpu_ns()?, peer.cpu_ns()?);
    sleep(PACE);
    let per_second = |before: u64, now: u64| now.saturating_sub(before) / PACE.as_secs();
    let idle = (per_second(before.0, exporter.cpu_ns()?), per_second(before.1, peer.cpu_ns()?));
    Ok(Beside {
        ours: Side { scrapes: Scrapes::of(&ours), idle: idle.0, memory: exporter.memory()? },
        other: Side { scrapes: Scrapes::of(&theirs), idle: idle.1, memory: peer.memory()? },
    })
}

fn cpu_only(setup: &Setup<'_>, scrapes: usize) -> anyhow::Result<Scrapes> {
    let exporter = Exporter::start(setup)?;
    let mut client = exporter.connect()?;
    let mut taken = Vec::new();
    for _ in 0..WARM_UP + scrapes {
        taken.push(exporter.scrape(&mut client, "/metrics?collect[]=cpu", Coding::Plain)?);
    }
    Ok(Scrapes::of(taken.get(WARM_UP..).unwrap_or_default()))
}

fn paced(exporter: &Exporter, client: &mut Client, floor: &mut Floor, times: u64) -> anyhow::Result<Paced> {
    let mut paced = Paced { scrape: 0, floor: 0, idle: 0 };
    for _ in 0..times {
        let before = exporter.cpu_ns()?;
        sleep(PACE);
        paced.idle += exporter.cpu_ns()?.saturating_sub(before) / PACE.as_secs() / times;
        paced.scrape += exporter.scrape(client, "/metrics", Coding::Plain)?.cpu_ns / times;
        sleep(PACE);
        paced.floor += floor.round(NetDev::Anew)? / times;
    }
    Ok(paced)
}

impl Scrapes {
    pub(super) fn of(scrapes: &[Scrape]) -> Self {
        let cpu: Vec<u64> = scrapes.iter().map(|scrape| scrape.cpu_ns).collect();
        let nanoseconds = |wall: Duration| u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let wall: Vec<u64> = scrapes.iter().map(|scrape| nanoseconds(scrape.wall)).collect();
        let collected: Vec<u64> = scrapes.iter().map(|scrape| scrape.collected_ns).collect();
        let last = scrapes.last();
        Self {
            cpu: Figures::of(&cpu),
            wall: Figures::of(&wall),
            bytes: last.map_or(0, |scrape| scrape.bytes),
            samples: last.map_or(0, |scrape| scrape.samples),
            collected: Figures::of(&collected),
        }
    }
}
