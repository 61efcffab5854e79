//! `cargo xtask bench render`: what it costs to write and to compress an exposition, without a kernel, an engine or a socket.
//!
//! Arguments are numbers of containers; without any: 100, 300, 1,000 and 5,000. Each is measured with the families that files give and with
//! those of the default eBPF programs beside them.

#[path = "../tests/population/mod.rs"]
mod population;

use std::io::{Read as _, Write as _};

use anyhow::{Context, ensure};
use docker_stats_exporter::metrics::SelfMetrics;
use docker_stats_exporter::render::{BufferPool, render};
use docker_stats_exporter::scrape::Format;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use population::Population;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 40;
const WARM_UP: usize = 3;

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let sizes: Vec<usize> = words.map(|word| word.parse().context(word)).collect::<anyhow::Result<_>>()?;
    let sizes = if sizes.is_empty() { vec![100, 300, 1000, 5000] } else { sizes };
    sizes.into_iter().try_for_each(|size| [false, true].into_iter().try_for_each(|ebpf| run(size, ebpf)))
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn say(line: &str) {
    println!("{line}");
}

/// Measures one number of containers and prints a table.
fn run(containers: usize, ebpf: bool) -> anyhow::Result<()> {
    let population = Population::new(containers, ebpf)?;
    let exposed = population.exposed();
    let view = population.view(&exposed);
    let self_metrics = SelfMetrics::new()?.gather();
    let pool = BufferPool::default();
    let of = |format, gzip| render(&view, &self_metrics, format, gzip, &pool);
    let text = of(Format::Text, false);
    if let Some(file) = std::env::var_os("BENCH_RENDER_TEXT") {
        std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let protobuf = Format::Protobuf { native: false };
    let native = Format::Protobuf { native: true };
    let mut library = Vec::with_capacity(text.len());
    let mut paths = [
        Measured::new("text"),
        Measured::new("OpenMetrics"),
        Measured::new("protobuf"),
        Measured::new("protobuf, native histograms"),
        Measured::new("text, gzip"),
        Measured::new("OpenMetrics, gzip"),
        Measured::new("protobuf, gzip"),
        Measured::new("protobuf, native histograms, gzip"),
        Measured::new("zlib-rs level 1 over the text"),
    ];
    for round in 0..WARM_UP + ROUNDS {
        let timed_of = |format, gzip| timed(|| Ok(of(format, gzip).len()));
        let spent = [
            timed_of(Format::Text, false)?,
            timed_of(Format::OpenMetrics, false)?,
            timed_of(protobuf, false)?,
            timed_of(native, false)?,
            timed_of(Format::Text, true)?,
            timed_of(Format::OpenMetrics, true)?,
            timed_of(protobuf, true)?,
            timed_of(native, true)?,
            timed(|| compress(&text, &mut library))?,
        ];
        if round >= WARM_UP {
            for (path, (ns, bytes)) in paths.iter_mut().zip(spent) {
                path.ns.push(ns);
                path.bytes = bytes;
            }
        }
    }
    for format in [Format::Text, Format::OpenMetrics, protobuf, native] {
        ensure!(inflated(&of(format, true))? == of(format, false), "{format:?}: gzip has changed the body");
    }
    let samples = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
    let families = if ebpf { "files and eBPF programs" } else { "files" };
    say(&format!(
        "{containers} containers, {samples} samples of {families}; CPU time in ms, of {ROUNDS} rounds in turns\n"
    ));
    say("| body | median | least | size | bytes per sample |\n|---|---:|---:|---:|---:|");
    for path in &mut paths {
        say(&path.row(samples));
    }
    say("");
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

/// Nanoseconds of this thread's CPU time that the work took, and what came of it.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(i64, T)> {
    let now = || clock_gettime(ClockId::ThreadCPUTime);
    let before = now();
    let value = work()?;
    let after = now();
    Ok(((after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec, value))
}

/// One path from values to bytes.
struct Measured {
    name: &'static str,
    ns: Vec<i64>,
    bytes: usize,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self { name, ns: Vec::new(), bytes: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "nothing here has 2^52 units")]
    fn row(&mut self, samples: usize) -> String {
        self.ns.sort_unstable();
        let milliseconds = |index: usize| self.ns.get(index).map_or(f64::NAN, |ns| *ns as f64 / 1e6);
        let (least, median, size) = (milliseconds(0), milliseconds(self.ns.len() / 2), self.bytes as f64);
        let each = size / samples as f64;
        format!("| {} | {median:.2} | {least:.2} | {:.2} MB | {each:.1} |", self.name, size / 1e6)
    }
}
