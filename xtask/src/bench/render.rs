//! `cargo xtask bench render`: what it costs to write and to compress an exposition, without a kernel, an engine or a socket.
//!
//! The containers are made up, with what a default container has: one device, one interface, labels of a compose project.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, ensure};
use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::metrics::{CollectorSet, Dimension, FAMILIES, Own};
use docker_stats_exporter::name::{self, Meta, State};
use docker_stats_exporter::read::{HostFacts, Labels, Limits, Machine, Plan, Row, Sample, for_cgroups};
use docker_stats_exporter::render::{Exposed, LabelSets, Pool, View, render};
use docker_stats_exporter::scrape::Format;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::time::{ClockId, clock_gettime};

use super::figures::{Figures, float};
use crate::sh::say;
use crate::workspace;

/// A captured host whose files decide which series there are.
const HOST: &str = "tests/fixtures/debian12-v1-hybrid/sys/fs/cgroup";
const ROUNDS: usize = 40;
const WARM_UP: usize = 3;

/// Measures one number of containers and prints a table.
pub(super) fn run(containers: usize) -> anyhow::Result<()> {
    let population = Population::new(containers)?;
    let exposed = population.exposed();
    let view = View {
        rows: &population.rows,
        containers: &exposed,
        host: &Sample::default(),
        facts: &HostFacts::default(),
        machine: &Machine::default(),
        engine_version: "28.0.0",
        labels: &population.labels,
        failed: false,
        collectors: CollectorSet::defaults(),
    };
    let own = Own::new()?.gather();
    let pool = Pool::default();
    let one = |gzip| render(&view, &own, Format::Text, gzip, &pool);
    let text = one(false);
    if let Some(file) = std::env::var_os("BENCH_RENDER_TEXT") {
        std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut library = Vec::with_capacity(text.len());
    let mut ways =
        [Way::new("rendered"), Way::new("rendered and compressed"), Way::new("compressed by zlib-rs, level 1")];
    for round in 0..WARM_UP + ROUNDS {
        let spent =
            [timed(|| Ok(one(false).len()))?, timed(|| Ok(one(true).len()))?, timed(|| compress(&text, &mut library))?];
        if round >= WARM_UP {
            ways.iter_mut().zip(spent).for_each(|(way, (ns, bytes))| way.add(ns, bytes));
        }
    }
    ensure!(inflated(&one(true))? == text, "what was compressed is not what was rendered");
    let series = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count();
    say(&format!("{containers} containers, {series} series; CPU time in ms, medians of {ROUNDS}\n"));
    say("| way | CPU time | least | size | text / size |\n|---|---:|---:|---:|---:|");
    for way in &ways {
        say(&way.row(text.len()));
    }
    Ok(())
}

fn compress(text: &[u8], out: &mut Vec<u8>) -> anyhow::Result<usize> {
    out.clear();
    let mut gzip = GzEncoder::new(out, Compression::new(1));
    gzip.write_all(text)?;
    Ok(gzip.finish()?.len())
}

fn inflated(gzip: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut text).context("not gzip")?;
    Ok(text)
}

/// CPU time of this thread, in nanoseconds, and what came of it.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(u64, T)> {
    let before = thread_ns();
    let value = work()?;
    Ok((thread_ns().saturating_sub(before), value))
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).unwrap_or_default()
}

/// One way from values to bytes.
struct Way {
    name: &'static str,
    ns: Vec<u64>,
    bytes: usize,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, ns: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, ns: u64, bytes: usize) {
        self.ns.push(ns);
        self.bytes = bytes;
    }

    fn row(&self, text: usize) -> String {
        let figures = Figures::of(&self.ns);
        let size = float(self.bytes as u64);
        let ratio = float(text as u64) / size;
        let (median, least) = (figures.median / 1e6, figures.least / 1e6);
        format!("| {} | {median:.2} | {least:.2} | {:.2} MB | {ratio:.2} |", self.name, size / 1e6)
    }
}

/// Made-up containers with values for every series of the default collectors.
struct Population {
    rows: Vec<Row>,
    labels: Labels,
    members: Vec<Member>,
}

struct Member {
    meta: std::sync::Arc<Meta>,
    sets: LabelSets,
    sample: Sample,
    limits: Limits,
}

impl Population {
    fn new(containers: usize) -> anyhow::Result<Self> {
        let hierarchy = Hierarchy::detect(&workspace::root().join(Path::new(HOST)))?;
        let (plan, rows) = for_cgroups(&hierarchy, &[], FAMILIES, CollectorSet::defaults());
        let mut labels = Labels::default();
        let mut numbers = Numbers(1);
        let members =
            (0..containers).map(|number| Member::new(number, &plan, &mut labels, &mut numbers)).collect::<Option<_>>();
        Ok(Self { rows, labels, members: members.context("a made-up id is none")? })
    }

    fn exposed(&self) -> Vec<Exposed<'_>> {
        self.members
            .iter()
            .map(|member| Exposed {
                sets: &member.sets,
                sample: Some(&member.sample),
                limits: Some(&member.limits),
                meta: Some(&*member.meta),
                oom_kills: Some(0),
                last_seen_ms: Some(1_795_398_284_751),
            })
            .collect()
    }
}

impl Member {
    fn new(number: usize, plan: &Plan, labels: &mut Labels, numbers: &mut Numbers) -> Option<Self> {
        let digit = |number: u64| char::from_digit(u32::try_from(number % 16).unwrap_or(0), 16);
        let id: String = (0..64).filter_map(|_| digit(numbers.next() >> 8)).collect();
        let id = ContainerId::parse(id.as_bytes())?;
        let mut meta = Meta::unknown(id);
        meta.name = format!("shop-{}-{}", ["web", "worker", "cache"].get(number % 3)?, number / 3 + 1);
        meta.image = format!("registry.example/shop/{}:1.27.4", ["web", "worker", "cache"].get(number % 3)?);
        meta.state = State::Running;
        meta.started_ns = Some(1_795_398_000_000_000_000 + numbers.next() % 1_000_000_000_000);
        meta.created_ns = meta.started_ns;
        let engine = name::Limits { memory_bytes: Some(512 << 20), pids: Some(4096), ..name::Limits::default() };
        let mut sample = Sample::new(plan.slots, plan.columns);
        for slot in 0..u16::try_from(plan.slots).ok()? {
            sample.set(slot, numbers.value());
        }
        for (dimension, key) in [(Dimension::Device, "/dev/vda"), (Dimension::Interface, "eth0")] {
            let key = labels.of_mut(dimension).label(key.as_bytes());
            for column in 0..u16::try_from(*plan.columns.get(dimension as usize)?).ok()? {
                sample.table_mut(dimension).set(key, column, numbers.value());
            }
        }
        let meta = std::sync::Arc::new(meta);
        let sets = LabelSets::new(Some(id), &format!("/docker/{id}"), Some(&meta));
        Some(Self { meta, sets, sample, limits: Limits::of_engine(&engine) })
    }
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    /// As counters are: a third are 0, the others of every magnitude up to 2^40.
    fn value(&mut self) -> u64 {
        let number = self.next();
        if number.is_multiple_of(3) { 0 } else { self.next() >> (24 + number % 40) }
    }
}
