//! The files of `deploy/` that start something, run as they are: compose, the fleet's agents and their receiver, a swarm. Images of
//! Prometheus and Alertmanager are made of this machine's packages under the official names; Grafana has no package.

#[cfg(test)]
#[path = "stacks/compose.rs"]
mod compose;
#[cfg(test)]
#[path = "stacks/fleet.rs"]
mod fleet;
#[cfg(test)]
#[path = "stacks/swarm.rs"]
mod swarm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::exporter::binary;
use exporter_tests::site::Host;
use exporter_tests::wait;
use serde_json::Value;

/// Scrapes and evaluations come every 15 s.
const SOON: Duration = Duration::from_mins(3);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(name: &str) -> Result<String> {
    let path = deploy().join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The image of a compose file that begins so.
fn image<'t>(text: &'t str, begin: &str) -> Result<&'t str> {
    let images = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    images.into_iter().find(|image| image.starts_with(begin)).with_context(|| format!("no image {begin}"))
}

fn prometheus_image(host: &Host, tag: &str) -> Result<()> {
    host.make_image(tag, Path::new("/usr/bin/prometheus"), &[], &["/prometheus"])
}

fn exporter_image(host: &Host, tag: &str) -> Result<()> {
    host.make_image(tag, &binary()?, &[], &[])
}

/// Waits for an answer that has samples.
fn answers(host: &Host, server: &str, query: &str) -> Result<Vec<Value>> {
    wait::eventually(SOON, query, || {
        let found = host.query(server, query)?;
        ensure!(!found.is_empty(), "no answer; targets: {}", targets(host, server).unwrap_or_default());
        Ok(found)
    })
}

/// What a Prometheus says of the last scrape of each target.
fn targets(host: &Host, server: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&host.get(&format!("{server}/api/v1/targets"))?)?;
    let targets = answer.pointer("/data/activeTargets").and_then(Value::as_array).cloned().unwrap_or_default();
    let errors =
        targets.iter().map(|target| format!("{} {} {}", target["scrapeUrl"], target["health"], target["lastError"]));
    Ok(errors.collect::<Vec<_>>().join(", "))
}

/// Every rule is loaded and can be evaluated: their names.
fn healthy_rules(host: &Host, server: &str) -> Result<Vec<String>> {
    wait::eventually(SOON, "the rules to be evaluated", || {
        let answer: Value = serde_json::from_str(&host.get(&format!("{server}/api/v1/rules"))?)?;
        let groups = answer.pointer("/data/groups").and_then(Value::as_array).cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
        let faulty: Vec<String> = rules
            .iter()
            .filter(|rule| rule["health"] != "ok")
            .map(|rule| format!("{} {} {}", rule["name"], rule["health"], rule["lastError"]))
            .collect();
        ensure!(!rules.is_empty() && faulty.is_empty(), "of {} rules: {}", rules.len(), faulty.join(", "));
        Ok(rules.iter().filter_map(|rule| Some(rule["name"].as_str()?.to_owned())).collect())
    })
}

/// The values of a label, sorted, each once.
fn labels(samples: &[Value], label: &str) -> Vec<String> {
    let mut found: Vec<String> =
        samples.iter().filter_map(|sample| Some(sample["metric"].get(label)?.as_str()?.to_owned())).collect();
    found.sort();
    found.dedup();
    found
}
