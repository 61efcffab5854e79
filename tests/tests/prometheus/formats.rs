//! Every format as Prometheus itself reads it: the same samples with the same labels, whatever a job asks for, and no histogram that
//! vanishes. `cargo test … -- --nocapture every_job` prints the table of docs/FORMATS.md.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};

use crate::server::{Prometheus, Version};

const HISTOGRAM: &str = "container_blkio_latency_seconds";
/// The job that all others of a server are compared with.
const REFERENCE: &str = "reference";

/// What a job is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

use Format::{OpenMetrics, Protobuf, Text};

/// One scrape job of a server.
struct Job {
    name: &'static str,
    /// What its configuration has beside name and target.
    settings: &'static str,
    /// The first version that takes these settings.
    since: Version,
    format: Format,
    /// Whether the server has classic buckets of its histograms.
    classic: bool,
    /// Whether it has native ones.
    native: bool,
}

const fn job(name: &'static str, settings: &'static str, format: Format) -> Job {
    Job { name, settings, since: (2, 0), format, classic: true, native: false }
}

impl Job {
    const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    const fn native(self) -> Self {
        Self { classic: false, native: true, ..self }
    }

    const fn both(self) -> Self {
        Self { classic: true, native: true, ..self }
    }
}

/// A server by the features that it is started with, the first version that has them, and its jobs.
type Server = (&'static str, Version, &'static [Job]);

const ASK: &str = "params: {native: ['1']}";
const TEXT: &str = "scrape_protocols: [PrometheusText0.0.4]";
const PROTOBUF: &str = "scrape_protocols: [PrometheusProto]";
const PLAIN: &str = "enable_compression: false";
const LEGACY: &str = "metric_name_validation_scheme: legacy\nmetric_name_escaping_scheme: underscores";

const SERVERS: &[Server] = &[
    (
        "",
        (2, 0),
        &[
            job(REFERENCE, "", OpenMetrics),
            job("native in vain", ASK, OpenMetrics),
            job("text", TEXT, Text).since(2, 49),
            job("newer text", "scrape_protocols: [PrometheusText1.0.0]", Text).since(3, 0),
            job("openmetrics", "scrape_protocols: [OpenMetricsText1.0.0]", OpenMetrics).since(2, 49),
            job("protobuf", PROTOBUF, Protobuf).since(2, 49),
            job("uncompressed", PLAIN, OpenMetrics).since(2, 52),
            job("legacy names", LEGACY, OpenMetrics).since(3, 0),
        ],
    ),
    (
        "native-histograms",
        (2, 40),
        &[
            job(REFERENCE, "", Protobuf),
            job("text", TEXT, Text).since(2, 49),
            job("native", ASK, Protobuf).native(),
            job("both", "params: {native: ['1']}\nalways_scrape_classic_histograms: true", Protobuf).both().since(3, 0),
            job("uncompressed", PLAIN, Protobuf).since(2, 52),
        ],
    ),
    (
        // No header distinguishes this feature from the one above: a native part would cost the whole histogram here.
        "created-timestamp-zero-ingestion",
        (2, 50),
        &[job(REFERENCE, TEXT, Text), job("starts", "", Protobuf), job("uncompressed", PLAIN, Protobuf).since(2, 52)],
    ),
    (
        "native-histograms,created-timestamp-zero-ingestion",
        (2, 50),
        &[job(REFERENCE, TEXT, Text), job("starts", "", Protobuf), job("native", ASK, Protobuf).native()],
    ),
];

/// The series of a job by their labels, but for what is about the scrape or the exporter itself.
#[derive(Debug, Default)]
struct Series {
    /// All but the histogram's.
    others: BTreeSet<String>,
    /// The histogram's `_bucket`, `_sum` and `_count`.
    classic: BTreeSet<String>,
    /// The histogram's that are one series each.
    native: BTreeSet<String>,
}

fn series(prometheus: &Prometheus, job: &str) -> Result<Series> {
    let samples = prometheus.query(&format!("{{job=\"{job}\",__name__=~\"container_.*|machine_.*|cadvisor_.*\"}}"))?;
    let mut series = Series::default();
    for sample in samples {
        let mut metric = sample.pointer("/metric").and_then(|metric| metric.as_object()).cloned().context("labels")?;
        metric.remove("job");
        let name = metric.get("__name__").and_then(|name| name.as_str()).unwrap_or_default();
        let set = match name.strip_prefix(HISTOGRAM) {
            None => &mut series.others,
            Some("") => &mut series.native,
            Some(_) => &mut series.classic,
        };
        set.insert(format!("{metric:?}"));
    }
    Ok(series)
}

/// The format that a job was answered with, by what Prometheus learned beside the samples: only text has no units, and only OpenMetrics
/// cannot have the type of a counter without `_total`. Before version 3 Prometheus passes over units in protobuf.
fn format(prometheus: &Prometheus, job: &str) -> Result<Format> {
    let failures = prometheus.metadata(job, "container_memory_failcnt", "type")?;
    let has_unit = ["container_cpu_usage_seconds_total", "container_cpu_usage_seconds"]
        .iter()
        .any(|name| prometheus.metadata(job, name, "unit").is_ok_and(|unit| unit == "seconds"));
    match (&*failures, has_unit) {
        ("counter", false) => Ok(Text),
        ("unknown", true) => Ok(OpenMetrics),
        ("counter", true) => Ok(Protobuf),
        _ => anyhow::bail!("container_memory_failcnt is a {failures}, units are known: {has_unit}"),
    }
}

/// What one job has, once it is all that the reference has. Returns the number of its samples.
fn is_as_the_reference(prometheus: &Prometheus, version: Version, job: &Job) -> Result<usize> {
    let name = job.name;
    let up = prometheus.query(&format!("up{{job=\"{name}\"}} == 1"))?;
    ensure!(up.len() == 1, "it is not up: {}", prometheus.errors()?);
    let (expected, found) = (series(prometheus, REFERENCE)?, series(prometheus, name)?);
    let missing: Vec<_> = expected.others.difference(&found.others).collect();
    let more: Vec<_> = found.others.difference(&expected.others).collect();
    ensure!(missing.is_empty() && more.is_empty(), "missing: {missing:#?}\nmore: {more:#?}");
    ensure!(expected.others.len() > 40, "only {} series", expected.others.len());
    ensure!(!expected.classic.is_empty() && expected.native.is_empty(), "the reference has {expected:#?}");
    let classic = if job.classic { &expected.classic } else { &BTreeSet::new() };
    ensure!(found.classic == *classic, "{:#?} for {classic:#?}", found.classic);
    // 11 bounds and +Inf, sum and count of each.
    let native = if job.native { expected.classic.len() / 14 } else { 0 };
    ensure!(found.native.len() == native, "{:#?} for {} classic series", found.native, expected.classic.len());
    let format = format(prometheus, name)?;
    let is_either = version < (3, 0) && job.format == Protobuf && format == Text;
    ensure!(format == job.format || is_either, "it was answered with {format:?}");
    Ok(found.others.len() + found.classic.len() + found.native.len())
}

#[expect(clippy::print_stdout, reason = "lines of a table of the documentation")]
fn say(line: &str) {
    println!("{line}");
}

fn check(program: &str) {
    let engine = Engine::shared().unwrap();
    let worker = "while :; do dd if=/dev/zero of=/data/x bs=4k count=20 oflag=direct conv=fsync; sleep 1; done";
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let volume = format!("--volume={}:/data", data.path().display());
    let container = Container::run(engine, "formats", &["--network=bridge", &volume], &["sh", "-c", worker]).unwrap();
    let only = format!("--containers.include={}", container.name);
    let exporter = Exporter::builder().docker(engine).flag(only).start().unwrap();
    wait::eventually(Duration::from_secs(30), "a histogram", || {
        let text = exporter.get("/metrics", &[])?.text()?;
        ensure!(text.contains(&format!("{HISTOGRAM}_count{{operation=\"write\"")), "none yet: {}", container.name);
        Ok(())
    })
    .unwrap();
    let version = Prometheus::version(program).unwrap();
    for (features, since, jobs) in SERVERS {
        let jobs: Vec<&Job> = jobs.iter().filter(|job| version >= job.since.max(*since)).collect();
        let settings: Vec<(&str, &str)> = jobs.iter().map(|job| (job.name, job.settings)).collect();
        if jobs.is_empty() {
            continue;
        }
        let prometheus = Prometheus::with(program, features, exporter.address, &settings).unwrap();
        for job in jobs {
            let samples =
                wait::eventually(Duration::from_secs(30), job.name, || is_as_the_reference(&prometheus, version, job))
                    .with_context(|| format!("{program} {version:?}, features {features:?}, job {:?}", job.name))
                    .unwrap();
            let Job { name, settings, format, .. } = job;
            let histogram = ["", "classic", "native", "both"][usize::from(job.classic) + 2 * usize::from(job.native)];
            say(&format!(
                "| {version:?} | {features} | {name} | {settings:?} | {format:?} | {samples} | {histogram} |"
            ));
            if job.classic && job.native {
                wait::eventually(Duration::from_secs(30), "equal quantiles", || {
                    quantiles_agree(&prometheus, job.name, &container.name)
                })
                .unwrap();
            }
        }
        if features.contains("created-timestamp") {
            zeros_are_injected(&prometheus, &container.name).unwrap();
        }
    }
    exporter.stop().unwrap();
}

/// The first bound of the classic buckets and how much wider each is than the one before.
const FIRST_BOUND: f64 = 1.0 / 65536.0;
const BUCKET_WIDTH: f64 = 4.0;

/// Quantiles of native buckets lie in the same classic bucket as those of the classic buckets, where both are of one scrape.
fn quantiles_agree(prometheus: &Prometheus, job: &str, container: &str) -> Result<()> {
    let of = format!("{{job=\"{job}\",operation=\"write\",name=\"{container}\"}}");
    for quantile in [0.1, 0.5, 0.9, 0.99] {
        let kind = |kind: &str, series: &str| {
            format!("label_replace(histogram_quantile({quantile}, {series}{of}), \"kind\", \"{kind}\", \"\", \"\")")
        };
        let bucket = format!("{HISTOGRAM}_bucket");
        // One query, so that both are asked at one moment.
        let found = prometheus.query(&format!("{} or {}", kind("native", HISTOGRAM), kind("classic", &bucket)))?;
        let value = |kind: &str| -> Result<f64> {
            let one = found.iter().find(|one| one.pointer("/metric/kind").is_some_and(|own| own == kind));
            let text = one.and_then(|one| one.pointer("/value/1")?.as_str());
            Ok(text.with_context(|| format!("no {kind} quantile in {found:?}"))?.parse()?)
        };
        let (native, classic) = (value("native")?, value("classic")?);
        say(&format!("quantile {quantile}: {native} s by native buckets, {classic} s by classic ones"));
        let mut bound = FIRST_BOUND;
        while bound < classic {
            bound *= BUCKET_WIDTH;
        }
        let below = if bound > FIRST_BOUND { bound / BUCKET_WIDTH } else { 0.0 };
        // Both are interpolated, which rounds.
        let bucket = below * (1.0 - 1e-9)..=bound * (1.0 + 1e-9);
        ensure!(bucket.contains(&native), "quantile {quantile}: {native} natively, {classic} classically");
    }
    Ok(())
}

/// A counter begins with 0 where its start is known: at the start of the container, which may be minutes ago.
fn zeros_are_injected(prometheus: &Prometheus, container: &str) -> Result<()> {
    let least = |job: &str| -> Result<Vec<String>> {
        let query =
            format!("min_over_time(container_cpu_usage_seconds_total{{job=\"{job}\",name=\"{container}\"}}[1h])");
        let values = prometheus.query(&query)?;
        ensure!(!values.is_empty(), "no counter");
        Ok(values.iter().filter_map(|one| Some(one.pointer("/value/1")?.as_str()?.to_owned())).collect())
    };
    let (with, without) = (least("starts")?, least(REFERENCE)?);
    ensure!(with.iter().all(|value| value == "0"), "{with:?}: no zero at the start");
    ensure!(without.iter().all(|value| value != "0"), "{without:?}");
    Ok(())
}

#[test]
fn every_job_of_the_distribution_s_prometheus_gets_the_same_samples() {
    check("prometheus");
}

#[test]
fn every_job_of_prometheus_3_gets_the_same_samples() {
    let program = std::env::var("PROMETHEUS_3").unwrap_or_else(|_| "prometheus".to_owned());
    let version = Prometheus::version(&program).unwrap();
    assert!(
        version >= (3, 0),
        "{program} is {version:?}: `cargo xtask setup tests` installs one, PROMETHEUS_3 names it"
    );
    check(&program);
}
