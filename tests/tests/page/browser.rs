//! The page in Chromium: over real containers, over metrics that are played, and with many rows.

use std::fs;
use std::path::Path;

use anyhow::Result;
use exporter_tests::{Container, Engine, Exporter};

use super::drive;

#[test]
fn a_browser_shows_the_containers_that_hurt() -> Result<()> {
    let engine = Engine::shared()?;
    let hostile = "<img src=x onerror='window.hostile = 1'>\u{202e}";
    let project = format!("com.docker.compose.project={hostile}");
    let plain = Container::sleeping(engine, "plain", &["--label", &project])?;
    let fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=37; sleep 9999";
    let limited = Container::run(engine, "limited", &["--memory=40m"], &["sh", "-c", fill])?;
    let throttled = Container::run(engine, "throttled", &["--cpus=0.05"], &["sh", "-c", "while :; do :; done"])?;
    let check = ["--health-cmd=false", "--health-interval=1s", "--health-retries=1"];
    let failing = Container::sleeping(engine, "failing", &check)?;
    let names = [&plain.name, &limited.name, &throttled.name, &failing.name].map(String::as_str);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    fs::create_dir_all(&screenshots)?;
    let exporter = Exporter::with(engine)?;
    let (url, folder) = (format!("http://{}/", exporter.address), screenshots.display().to_string());
    drive("browser.mjs", &[&[url.as_str(), &folder], &names[..]].concat())?;
    exporter.stop()?;
    Ok(())
}

#[test]
fn values_of_an_engines_api_are_shown_too() -> Result<()> {
    let engine = Engine::shared()?;
    let container = Container::run(engine, "api", &["--cpus=0.1"], &["sh", "-c", "while :; do :; done"])?;
    let exporter = Exporter::builder().docker(engine).flag("--source=docker-api").start()?;
    drive("api.mjs", &[&format!("http://{}/", exporter.address), &container.name])?;
    exporter.stop()?;
    Ok(())
}

#[test]
fn faults_and_hostile_metrics_are_told_and_nothing_is_invented() -> Result<()> {
    let exporter = Exporter::builder().start()?;
    drive("faults.mjs", &[&format!("http://{}/", exporter.address)])?;
    exporter.stop()?;
    Ok(())
}

#[test]
fn a_thousand_rows_neither_keep_the_browser_busy_nor_fill_it() -> Result<()> {
    let exporter = Exporter::builder().start()?;
    drive("large.mjs", &[&format!("http://{}/", exporter.address), "1000"])?;
    exporter.stop()?;
    Ok(())
}
