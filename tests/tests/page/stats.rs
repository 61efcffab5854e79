//! The page beside `docker stats` over the same time.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use exporter_tests::{Container, Engine, Exporter};
use serde_json::Value;

use super::drive;

/// Seconds that both watch.
const SECONDS: &str = "30";
/// Attempts: on a busy machine the two windows may see different loads.
const ATTEMPTS: usize = 6;

/// Returns the mean of CPU and memory that `docker stats` prints while `during` lasts.
fn docker_stats<T>(engine: &Engine, name: &str, during: impl FnOnce() -> Result<T>) -> Result<((f64, f64), T)> {
    let mut child = engine
        .command()
        .args(["stats", "--no-trunc", "--format", "{{.CPUPerc}} {{.MemUsage}}", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("stdout")?;
    let reader = thread::spawn(move || -> Vec<(f64, f64)> {
        BufReader::new(stdout).lines().map_while(Result::ok).filter_map(|line| sample(&line)).collect()
    });
    let result = during();
    child.kill()?;
    child.wait()?;
    let samples = reader.join().unwrap_or_default();
    ensure!(samples.len() > 5, "docker stats gave {samples:?}");
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let mean = |value: fn(&(f64, f64)) -> f64| samples.iter().map(value).sum::<f64>() / samples.len() as f64;
    Ok(((mean(|sample| sample.0), mean(|sample| sample.1)), result?))
}

/// Reads `30.05% 21.3MiB / 64MiB`, with escape codes before it; none while nothing is known.
fn sample(line: &str) -> Option<(f64, f64)> {
    let (before, after) = line.split_once('%')?;
    let start = before.rfind(|letter: char| !letter.is_ascii_digit() && letter != '.').map_or(0, |at| at + 1);
    let cpu: f64 = before.get(start..)?.parse().ok()?;
    let memory = after.split_whitespace().next()?;
    let (number, unit) = memory.split_at(memory.find(|letter: char| letter.is_ascii_alphabetic())?);
    let scale = match unit {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        _ => return None,
    };
    (cpu > 0.0).then_some((cpu, number.parse::<f64>().ok()? * scale))
}

#[test]
fn the_page_and_docker_stats_agree_within_five_per_cent() -> Result<()> {
    let engine = Engine::shared()?;
    let work = "dd if=/dev/zero of=/dev/shm/file bs=1M count=30; while :; do :; done";
    let container = Container::run(engine, "stats", &["--cpus=0.3", "--memory=64m"], &["sh", "-c", work])?;
    let exporter = Exporter::with(engine)?;
    let url = format!("http://{}/", exporter.address);
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let ((cpu, memory), page) =
            docker_stats(engine, &container.name, || drive("values.mjs", &[&url, &container.name, SECONDS]))?;
        let page: Value = serde_json::from_str(page.lines().find(|line| line.starts_with('{')).unwrap_or(&page))?;
        let near = |key: &str, expected: f64| {
            page[key].as_f64().is_some_and(|value| (value - expected).abs() <= 0.05 * expected)
        };
        if near("cpu", cpu) && near("memory", memory) {
            return exporter.stop().map(drop);
        }
        seen.push(format!("docker stats: {cpu:.2} %, {memory:.0} bytes; page: {page}"));
    }
    bail!("never within five per cent:\n{}", seen.join("\n"))
}
