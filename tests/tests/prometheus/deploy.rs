//! The committed rules and dashboards over containers in trouble: every expression of a panel has an answer or a written reason for
//! having none, every recording rule has series, and what is wrong with the containers fires.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};
use serde_json::Value;

use crate::server::Prometheus;

const PROJECT: &str = "--label=com.docker.compose.project=shop";
const SERVICE: &str = "--label=com.docker.swarm.service.name=shop_web";

/// Alerts whose cause is made here.
const FIRING: &[&str] = &[
    "ContainerCPUThrottled",
    "ContainerExitedWithError",
    "ContainerForkFailed",
    "ContainerMemoryNearLimit",
    "ContainerOOMKilled",
    "ContainerPidsNearLimit",
    "ContainerRestartLoop",
    "ContainerServiceFailing",
    "ContainerTCPRetransmitsHigh",
    "ContainerUnhealthy",
];

/// Why the others are silent. That each of them can fire is what `promtool test rules` has shown.
const SILENT: &[(&str, &str)] = &[
    (
        "ContainerMemoryThrashing",
        "cgroup v1 has no pressure by container, and no test may slow down the disks of its host",
    ),
    ("ContainerMemoryPressure", "as ContainerMemoryThrashing"),
    ("ContainerHostMemoryPressure", "the host has memory"),
    ("ContainerFilesystemNearFull", "no test may fill a disk of its host"),
    ("ContainerFilesystemFull", "as ContainerFilesystemNearFull"),
    ("ContainerFilesystemInodesLow", "as ContainerFilesystemNearFull"),
    ("ContainerIOPressure", "as ContainerMemoryThrashing"),
    ("ContainerDiskLatencyHigh", "the disks are quick"),
    ("ContainerEngineDown", "the engine answers"),
    ("ContainerExporterDown", "the exporter answers"),
    ("ContainerExporterAbsent", "the exporter is scraped"),
    ("ContainerExporterCollectorFailed", "the collectors work"),
    ("ContainerExporterSlow", "a scrape is quick"),
    ("ContainerExporterSeriesDropped", "no container has that many labels"),
    ("ContainerExporterReadErrors", "the files can be read"),
    ("ContainerEBPFTableFull", "the tables have room"),
];

/// Recording rules that may have no series.
const EMPTY: &[(&str, &str)] = &[
    ("container:container_pressure_memory_waiting_seconds:rate5m", "cgroup v1 has no pressure by container"),
    ("container:container_pressure_io_waiting_seconds:rate5m", "cgroup v1 has no pressure by container"),
];

/// What a test can wait for: ranges of seconds, and no `for`.
const SHORTER: &[(&str, &str)] = &[("[5m]", "[20s]"), ("[10m]", "[40s]"), ("[15m]", "[40s]")];

/// What Grafana would put in. The variables have no choice made.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "20s"),
    ("$__range", "1m"),
    ("$job", ".*"),
    ("$instance", ".*"),
    ("$project", ".*"),
    ("$service", ".*"),
    ("$name", ".*"),
    ("$id", ".*"),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// A committed rule file with shorter ranges.
fn shortened(name: &str) -> Result<String> {
    let text = fs::read_to_string(deploy().join("prometheus/rules").join(name))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("for:")).collect();
    Ok(SHORTER.iter().fold(lines.join("\n"), |text, (long, short)| text.replace(long, short)))
}

/// Containers in trouble, and one that works: each line says of what.
fn containers<'e>(engine: &'e Engine, data: &str) -> Result<Vec<Container<'e>>> {
    let volume = format!("--volume={data}:/data");
    let run = |what: &str, options: &[&str], script: &str| Container::run(engine, what, options, &["sh", "-c", script]);
    let server = run("server", &["--network=bridge"], "while :; do nc -l -p 9000 </bin/busybox >/dev/null; done")?;
    let address = server.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
    let client = format!("while :; do nc {address} 9000 </dev/null >/dev/null || sleep 0.1; done");
    let worker = "while :; do dd if=/dev/zero of=/data/x bs=4k count=20 oflag=direct conv=fsync; \
                  dd if=/data/x of=/dev/null bs=4k iflag=direct; sleep 0.5; done";
    let unhealthy = ["--health-cmd=exit 1", "--health-interval=1s", "--health-retries=2"];
    let client = run("client", &["--network=bridge", PROJECT, SERVICE], &client)?;
    lose_packets(&client)?;
    let mut containers = vec![
        client,
        run("worker", &[&volume, PROJECT], worker)?,
        run("throttled", &["--cpus=0.1"], "while :; do :; done")?,
        // What tail keeps until its input ends, which is as good as never.
        run("full", &["--memory=64m", "--memory-swap=64m"], "(yes | head -c 60817408; sleep 1d) | tail -c 58m")?,
        run("greedy", &["--memory=16m", "--memory-swap=16m"], "while :; do tail -c 200m /dev/zero; sleep 3; done")?,
        run("loop", &["--restart=always"], "sleep 0.2; exit 3")?,
        run("sick", &unhealthy, "sleep 1d")?,
        // After Prometheus' first scrapes, as a rate wants a value before.
        run("forks", &["--pids-limit=20"], "sleep 20; (for i in $(seq 30); do sleep 1d & done); exec sleep 1d")?,
    ];
    for _ in 0..3 {
        containers.push(run("failed", &[SERVICE], "sleep 12; exit 1")?);
    }
    containers.push(server);
    Ok(containers)
}

/// One packet in ten of what the server sends does not reach the container.
fn lose_packets(container: &Container) -> Result<()> {
    let rule = "iptables -A INPUT -p tcp --sport 9000 -m statistic --mode random --probability 0.1 -j DROP";
    let pid = container.pid()?.to_string();
    let output = Command::new("nsenter").args(["--target", &pid, "--net"]).args(rule.split(' ')).output();
    let output = output.context("nsenter (package util-linux) and iptables are needed")?;
    ensure!(output.status.success(), "{rule}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn containers_in_trouble_fire_their_alerts_and_every_panel_has_an_answer() {
    let engine = Engine::shared().unwrap();
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let exporter = Exporter::builder().docker(engine).flag("--containers.include=dse-*").start().unwrap();
    let rules = ["recording.yml", "alerts.yml"].map(|name| shortened(name).unwrap());
    let jobs = [("docker-stats-exporter", "")];
    let prometheus = Prometheus::with_rules("prometheus", "", exporter.address, &jobs, &rules).unwrap();
    let containers = containers(engine, &data.path().display().to_string()).unwrap();
    // Some alerts are soon over, so that a slow machine need not see all of them at one time.
    let mut fired = BTreeSet::new();
    wait::eventually(Duration::from_mins(1), "the alerts", || {
        fired.extend(names(&prometheus.query("ALERTS{alertstate=\"firing\"}")?, "alertname"));
        let missing: Vec<_> = FIRING.iter().filter(|name| !fired.contains(**name)).collect();
        ensure!(missing.is_empty(), "silent: {missing:?}");
        Ok(())
    })
    .unwrap();
    wait::eventually(Duration::from_mins(1), "the rules", || rules_answer(&prometheus)).unwrap();
    wait::eventually(Duration::from_mins(1), "every panel", || panels_answer(&prometheus)).unwrap();
    drop(containers);
    exporter.stop().unwrap();
}

fn names(samples: &[Value], label: &str) -> BTreeSet<String> {
    samples.iter().filter_map(|sample| Some(sample["metric"][label].as_str()?.to_owned())).collect()
}

/// Each rule can be evaluated; each recording rule has series, and each alert is known to fire here or to have a reason not to.
fn rules_answer(prometheus: &Prometheus) -> Result<()> {
    for rule in prometheus.rules()? {
        let name = rule["name"].as_str().context("a rule without a name")?.to_owned();
        ensure!(rule["health"] == "ok", "{name}: {}", rule["lastError"]);
        let known = |list: &[(&str, &str)]| list.iter().any(|(one, _)| *one == name);
        if rule["type"] == "alerting" {
            ensure!(FIRING.contains(&name.as_str()) != known(SILENT), "{name} belongs in one of the two lists");
        } else {
            ensure!(known(EMPTY) || !prometheus.query(&name)?.is_empty(), "{name} has no series");
        }
    }
    Ok(())
}

/// Each query of each panel has an answer, or its source says why it may have none.
fn panels_answer(prometheus: &Prometheus) -> Result<()> {
    let mut silent = Vec::new();
    for file in ["fleet", "host", "container", "exporter"] {
        let json = deploy().join("grafana/dashboards").join(file).with_extension("json");
        let json: Value = serde_json::from_str(&fs::read_to_string(json)?)?;
        let source = deploy().join("source/dashboards").join(file).with_extension("yaml");
        let source: Value = serde_saphyr::from_str(&fs::read_to_string(source)?)?;
        for panel in all(&json, "panels").flat_map(|row| [row].into_iter().chain(all(row, "panels"))) {
            for (index, target) in all(panel, "targets").enumerate() {
                let expr = target["expr"].as_str().context("a query without an expression")?;
                let expr = VARIABLES.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value));
                let answer = prometheus.query(&expr).with_context(|| format!("{file}, {}: {expr}", panel["title"]))?;
                if answer.is_empty() && !may_be_empty(&source, panel, index) {
                    silent.push(format!("{file}, {}: {expr}", panel["title"]));
                }
            }
        }
    }
    ensure!(silent.is_empty(), "no answer and no reason:\n{}", silent.join("\n"));
    Ok(())
}

/// Whether the source of a panel has a reason for a query without an answer.
fn may_be_empty(source: &Value, panel: &Value, index: usize) -> bool {
    let panels = all(source, "rows").flat_map(|row| all(row, "panels"));
    let queries = panels.filter(|one| one["title"] == panel["title"]).filter_map(|one| all(one, "queries").nth(index));
    queries.into_iter().any(|query| query["empty"].is_string())
}

fn all<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value[key].as_array().into_iter().flatten()
}
