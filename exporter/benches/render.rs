//! `cargo xtask bench render`: what it costs to write and to compress an exposition, without a kernel, an engine or a socket.
//!
//! Arguments are numbers of containers; without any: 100, 1,000 and 5,000.
//! The containers are made up, with what a default container has: one device, one interface, labels of a compose project.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::metrics::{CollectorSet, Dimension, FAMILIES, FamilySet, SelfMetrics};
use docker_stats_exporter::name::{self, ContainerInfo, State};
use docker_stats_exporter::read::{HostFacts, Labels, Limits, Machine, Plan, Row, Sample, for_cgroups};
use docker_stats_exporter::render::{BufferPool, Exposed, LabelSets, View, render};
use docker_stats_exporter::scrape::Format;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// A captured host whose files decide which series there are.
const HOST: &str = "../tests/fixtures/debian12-v1-hybrid/sys/fs/cgroup";
const ROUNDS: usize = 40;
const WARM_UP: usize = 3;

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let sizes: Vec<usize> = words.map(|word| word.parse().context(word)).collect::<anyhow::Result<_>>()?;
    let sizes = if sizes.is_empty() { vec![100, 1000, 5000] } else { sizes };
    sizes.into_iter().try_for_each(run)
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn say(line: &str) {
    println!("{line}");
}

/// Measures one number of containers and prints a table.
fn run(containers: usize) -> anyhow::Result<()> {
    let population = Population::new(containers)?;
    let exposed = population.exposed();
    let host = Sample::default();
    let view = View {
        rows: &population.rows,
        containers: &exposed,
        host: Some(&host),
        facts: &HostFacts::default(),
        machine: &Machine::default(),
        engine_version: "28.0.0",
        labels: &population.labels,
        failed: false,
        families: FamilySet::ALL,
        probed_since_ns: None,
    };
    let self_metrics = SelfMetrics::new()?.gather();
    let pool = BufferPool::default();
    let of = |format, gzip| render(&view, &self_metrics, format, gzip, &pool);
    let one = |gzip| of(Format::Text, gzip);
    let protobuf = |gzip| of(Format::Protobuf { native: false }, gzip);
    let text = one(false);
    if let Some(file) = std::env::var_os("BENCH_RENDER_TEXT") {
        std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut library = Vec::with_capacity(text.len());
    let mut paths = [
        Measured::new("rendered"),
        Measured::new("rendered and compressed"),
        Measured::new("compressed by zlib-rs, level 1"),
        Measured::new("protobuf"),
        Measured::new("protobuf, compressed"),
    ];
    for round in 0..WARM_UP + ROUNDS {
        let spent = [
            timed(|| Ok(one(false).len()))?,
            timed(|| Ok(one(true).len()))?,
            timed(|| compress(&text, &mut library))?,
            timed(|| Ok(protobuf(false).len()))?,
            timed(|| Ok(protobuf(true).len()))?,
        ];
        if round >= WARM_UP {
            for (path, (ns, bytes)) in paths.iter_mut().zip(spent) {
                path.ns.push(ns);
                path.bytes = bytes;
            }
        }
    }
    ensure!(inflated(&one(true))? == text, "what was compressed is not what was rendered");
    ensure!(inflated(&protobuf(true))? == protobuf(false), "what was compressed is not what was encoded");
    let series = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count();
    say(&format!("{containers} containers, {series} series; time in ms, medians of {ROUNDS}\n"));
    say("| what | time | least | size | bytes per sample | text / size |\n|---|---:|---:|---:|---:|---:|");
    for path in &mut paths {
        say(&path.row(text.len(), series));
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

/// Nanoseconds that the work took, and what came of it.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(u128, T)> {
    let start = Instant::now();
    let value = work()?;
    Ok((start.elapsed().as_nanos(), value))
}

/// One path from values to bytes.
struct Measured {
    name: &'static str,
    ns: Vec<u128>,
    bytes: usize,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self { name, ns: Vec::new(), bytes: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "nothing here has 2^52 units")]
    fn row(&mut self, text: usize, samples: usize) -> String {
        self.ns.sort_unstable();
        let milliseconds = |index: usize| self.ns.get(index).map_or(f64::NAN, |ns| *ns as f64 / 1e6);
        let (least, median, size) = (milliseconds(0), milliseconds(self.ns.len() / 2), self.bytes as f64);
        let (each, ratio) = (size / samples as f64, text as f64 / size);
        format!("| {} | {median:.2} | {least:.2} | {:.2} MB | {each:.1} | {ratio:.2} |", self.name, size / 1e6)
    }
}

/// Made-up containers with values for every series of the default collectors.
struct Population {
    rows: Vec<Row>,
    labels: Labels,
    members: Vec<Member>,
}

struct Member {
    info: std::sync::Arc<ContainerInfo>,
    sets: LabelSets,
    sample: Sample,
    limits: Limits,
}

impl Population {
    fn new(containers: usize) -> anyhow::Result<Self> {
        let hierarchy = Hierarchy::detect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(HOST))?;
        let (plan, rows) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, CollectorSet::defaults()));
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
                info: Some(&*member.info),
                oom_kills: Some(0),
                last_seen_ms: Some(1_795_398_284_751),
                oom_since_ns: member.info.started_ns,
            })
            .collect()
    }
}

impl Member {
    fn new(number: usize, plan: &Plan, labels: &mut Labels, numbers: &mut Numbers) -> Option<Self> {
        let digit = |number: u64| char::from_digit(u32::try_from(number % 16).unwrap_or(0), 16);
        let id: String = (0..64).filter_map(|_| digit(numbers.next() >> 8)).collect();
        let id = ContainerId::parse(id.as_bytes())?;
        let mut info = ContainerInfo::unknown(id);
        info.name = format!("shop-{}-{}", ["web", "worker", "cache"].get(number % 3)?, number / 3 + 1);
        info.image = format!("registry.example/shop/{}:1.27.4", ["web", "worker", "cache"].get(number % 3)?);
        info.state = State::Running;
        info.started_ns = Some(1_795_398_000_000_000_000 + numbers.next() % 1_000_000_000_000);
        info.created_ns = info.started_ns;
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
        let info = std::sync::Arc::new(info);
        let sets = LabelSets::new(Some(id), &format!("/docker/{id}"), Some(&info));
        Some(Self { info, sets, sample, limits: Limits::of_engine(&engine) })
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
