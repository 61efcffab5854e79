//! Every format as Prometheus itself reads it: the same samples with the same labels, whatever a job asks for, and no histogram that
//! vanishes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};

use crate::OURS;
use crate::server::Prometheus;

const HISTOGRAM: &str = "container_blkio_latency_seconds";
/// The job that all others are compared with; it is served OpenMetrics or text.
const REFERENCE: &str = "reference";

/// One scrape job of a server.
struct Job {
    name: &'static str,
    /// What its configuration has beside name and target.
    settings: &'static str,
    /// Whether it has native histograms in place of the classic ones.
    native: bool,
}

const fn job(name: &'static str, settings: &'static str) -> Job {
    Job { name, settings, native: false }
}

const fn native(name: &'static str, settings: &'static str) -> Job {
    Job { name, settings, native: true }
}

/// A server by the features that it is started with, and its jobs.
type Server = (&'static str, &'static [Job]);

const ASK: &str = "params: {native: ['1']}";

const PROMETHEUS_2: &[Server] = &[
    ("", &[job(REFERENCE, ""), job("asks in vain", ASK)]),
    ("native-histograms", &[job(REFERENCE, ""), native("native", ASK)]),
];

const TEXT: &str = "scrape_protocols: [PrometheusText0.0.4]";
const PROTOBUF: &str = "scrape_protocols: [PrometheusProto]\nfallback_scrape_protocol: PrometheusText0.0.4";
const PLAIN: &str = "enable_compression: false";

const PROMETHEUS_3: &[Server] = &[
    (
        "",
        &[
            job(REFERENCE, ""),
            job("text", TEXT),
            job("newer text", "scrape_protocols: [PrometheusText1.0.0]"),
            job("openmetrics", "scrape_protocols: [OpenMetricsText1.0.0]"),
            job("protobuf", PROTOBUF),
            job("uncompressed", PLAIN),
            job("legacy names", "metric_name_validation_scheme: legacy\nmetric_name_escaping_scheme: underscores"),
        ],
    ),
    (
        "native-histograms",
        &[
            job(REFERENCE, TEXT),
            job("unasked", ""),
            native("native", ASK),
            job("classic, too", "params: {native: ['1']}\nalways_scrape_classic_histograms: true"),
            job("uncompressed", PLAIN),
        ],
    ),
    (
        // The features that are told apart by no header: a native part would cost the whole histogram here.
        "created-timestamp-zero-ingestion",
        &[job(REFERENCE, TEXT), job("starts", ""), job("uncompressed", PLAIN)],
    ),
    (
        "native-histograms,created-timestamp-zero-ingestion",
        &[job(REFERENCE, TEXT), job("starts", ""), native("native", ASK)],
    ),
];

/// The series of a job by their labels, but for those of the histogram and what is about the scrape or the exporter itself.
fn series(prometheus: &Prometheus, job: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let samples = prometheus.query(&format!("{{job=\"{job}\",__name__=~\"container_.*|machine_.*|cadvisor_.*\"}}"))?;
    let mut labels = Vec::new();
    for sample in samples {
        let mut metric = sample.pointer("/metric").and_then(|metric| metric.as_object()).cloned().context("labels")?;
        metric.remove("job");
        let name = metric.get("__name__").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        // A native histogram is one series under the name itself.
        labels.push((name.starts_with(HISTOGRAM), format!("{metric:?}")));
    }
    let of =
        |histogram: bool| labels.iter().filter(|(own, _)| *own == histogram).map(|(_, text)| text.clone()).collect();
    Ok((of(false), of(true)))
}

fn is_as_the_reference(prometheus: &Prometheus, job: &Job) -> Result<()> {
    let name = job.name;
    let up = prometheus.query(&format!("up{{job=\"{name}\"}} == 1"))?;
    ensure!(up.len() == 1, "it is not up: {}", prometheus.errors()?);
    let ((expected, classic), (found, histograms)) = (series(prometheus, REFERENCE)?, series(prometheus, name)?);
    let missing: Vec<_> = expected.difference(&found).collect();
    let more: Vec<_> = found.difference(&expected).collect();
    ensure!(missing.is_empty() && more.is_empty(), "missing: {missing:#?}\nmore: {more:#?}");
    ensure!(expected.len() > 40, "only {} series", expected.len());
    let is_native = |series: &String| series.contains(&format!("\"{HISTOGRAM}\""));
    ensure!(!classic.is_empty() && !classic.iter().any(is_native), "the reference has no classic histogram");
    let native = histograms.iter().filter(|series| is_native(series)).count();
    if job.native {
        // 11 bounds and +Inf, sum and count of each.
        ensure!(native * 14 == classic.len() && native == histograms.len(), "{native} for {}", classic.len());
    } else {
        let classic_found: BTreeSet<_> = histograms.iter().filter(|series| !is_native(series)).cloned().collect();
        ensure!(classic_found == classic, "{histograms:#?} for {classic:#?}");
    }
    Ok(())
}

fn check(program: &str, servers: &[Server]) {
    let engine = Engine::shared().unwrap();
    let worker = "while :; do dd if=/dev/zero of=/data/x bs=4k count=20 oflag=direct conv=fsync; sleep 1; done";
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let volume = format!("--volume={}:/data", data.path().display());
    let container = Container::run(engine, "formats", &["--network=bridge", &volume], &["sh", "-c", worker]).unwrap();
    let exporter = Exporter::builder().docker(engine).flag(OURS).start().unwrap();
    wait::eventually(Duration::from_secs(30), "a histogram", || {
        let text = exporter.get("/metrics", &[])?.text()?;
        ensure!(text.contains(&format!("{HISTOGRAM}_count{{operation=\"write\"")), "none yet: {}", container.name);
        Ok(())
    })
    .unwrap();
    for (features, jobs) in servers {
        let settings: Vec<(&str, &str)> = jobs.iter().map(|job| (job.name, job.settings)).collect();
        let prometheus = Prometheus::with(program, features, exporter.address, &settings).unwrap();
        for job in *jobs {
            wait::eventually(Duration::from_secs(30), job.name, || is_as_the_reference(&prometheus, job))
                .with_context(|| format!("{program}, features {features:?}, job {:?}", job.name))
                .unwrap();
            if job.native {
                quantiles_agree(&prometheus, job).unwrap();
            }
        }
        if features.contains("created-timestamp") {
            zeros_are_injected(&prometheus, &container.name).unwrap();
        }
    }
    exporter.stop().unwrap();
}

/// The median of a native histogram lies in the classic bucket that has it, and not beyond.
fn quantiles_agree(prometheus: &Prometheus, job: &Job) -> Result<()> {
    let median = |query: &str| -> Result<f64> {
        let result = prometheus.query(query)?;
        let text = result.first().and_then(|one| one.pointer("/value/1")?.as_str()).context("no quantile")?.to_owned();
        Ok(text.parse()?)
    };
    let of = "operation=\"write\",name=~\"dse-.*formats.*\"";
    let native = median(&format!("histogram_quantile(0.5, {HISTOGRAM}{{job=\"{}\",{of}}})", job.name))?;
    let classic = median(&format!("histogram_quantile(0.5, {HISTOGRAM}_bucket{{job=\"{REFERENCE}\",{of}}})"))?;
    // Classic buckets are a factor of four wide.
    ensure!(native > 0.0 && (0.2..5.0).contains(&(native / classic)), "{native} natively, {classic} classically");
    Ok(())
}

/// A counter begins with 0 where its start is known.
fn zeros_are_injected(prometheus: &Prometheus, container: &str) -> Result<()> {
    let least = |job: &str| -> Result<Vec<String>> {
        let query =
            format!("min_over_time(container_cpu_usage_seconds_total{{job=\"{job}\",name=\"{container}\"}}[5m])");
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
fn every_job_of_prometheus_2_gets_the_same_samples() {
    check("prometheus", PROMETHEUS_2);
}

#[test]
#[ignore = "needs a Prometheus 3, which Debian 12 does not have: PROMETHEUS_3=PROGRAM, and --ignored"]
fn every_job_of_prometheus_3_gets_the_same_samples() {
    let program = std::env::var("PROMETHEUS_3").expect("PROMETHEUS_3 names the program");
    check(&program, PROMETHEUS_3);
}
