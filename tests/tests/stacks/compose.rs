//! `deploy/compose.yaml` on a host of its own: an out-of-memory kill goes from the kernel through exporter and Prometheus to Alertmanager.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use exporter_tests::site::{Host, Site};
use exporter_tests::wait;
use serde_json::Value;

use super::{SOON, answers, deploy, exporter_image, healthy_rules, image, labels, prometheus_image, read};

const PROMETHEUS: &str = "http://localhost:9090";
const ALERTMANAGER: &str = "http://localhost:9093";

/// Docker Compose, as the caller names it, else as a plugin of the client.
fn compose(host: &Host, arguments: &[&str]) -> Result<()> {
    let mut command = if let Some(program) = env::var_os("COMPOSE") {
        Command::new(program)
    } else {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    };
    command.arg("--file").arg(deploy().join("compose.yaml")).args(arguments).env("DOCKER_HOST", host.engine());
    let output = command.env_remove("DOCKER_CONTEXT").output().context("Docker Compose 2: cargo xtask setup dist")?;
    ensure!(output.status.success(), "compose {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Debian's Alertmanager has its templates in files.
fn alertmanager_image(host: &Host, tag: &str) -> Result<()> {
    let templates = fs::read_dir("/usr/share/prometheus/alertmanager").into_iter().flatten();
    let templates: Vec<PathBuf> =
        templates.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    host.make_image(tag, Path::new("/usr/bin/prometheus-alertmanager"), &templates, &["/alertmanager"])
}

#[test]
fn compose_starts_exporter_prometheus_and_alertmanager_and_an_alert_arrives() {
    let site = Site::start(&["solo"]).unwrap();
    let host = &site.hosts()[0];
    let text = read("compose.yaml").unwrap();
    exporter_image(host, image(&text, "docker-stats-exporter").unwrap()).unwrap();
    prometheus_image(host, image(&text, "prom/prometheus").unwrap()).unwrap();
    alertmanager_image(host, image(&text, "prom/alertmanager").unwrap()).unwrap();
    compose(host, &["up", "--detach", "--no-build", "exporter", "prometheus", "alertmanager"]).unwrap();

    answers(host, PROMETHEUS, "up{job=\"docker-stats-exporter\"} == 1").unwrap();
    // What the exporter may do by this file suffices to name its neighbours.
    let own = "container_last_seen{container_label_com_docker_compose_project=\"docker-stats-exporter\"}";
    wait::eventually(SOON, "all three containers by name", || {
        let seen = labels(&host.query(PROMETHEUS, own)?, "container_label_com_docker_compose_service");
        ensure!(seen == ["alertmanager", "exporter", "prometheus"], "{seen:?}");
        Ok(())
    })
    .unwrap();
    let failed = host.query(PROMETHEUS, "docker_stats_exporter_scrape_collector_success == 0").unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(healthy_rules(host, PROMETHEUS).unwrap().len() > 30);

    let eats = "while :; do tail -c 200m /dev/zero; sleep 3; done";
    host.run(&["--name=greedy", "--memory=16m", "--memory-swap=16m"], &["sh", "-c", eats]).unwrap();
    wait::eventually(SOON, "the alert in Alertmanager", || {
        let alerts: Value = serde_json::from_str(&host.get(&format!("{ALERTMANAGER}/api/v2/alerts"))?)?;
        let alerts = alerts.as_array().context("no list")?;
        let killed = alerts.iter().find(|alert| alert["labels"]["alertname"] == "ContainerOOMKilled");
        let summary = killed.with_context(|| format!("{alerts:?}"))?["annotations"]["summary"].clone();
        ensure!(summary.as_str().is_some_and(|text| text.contains("greedy")), "{summary}");
        Ok(())
    })
    .unwrap();
    compose(host, &["down", "--volumes"]).unwrap();
}
