//! The engine stops, hangs, comes back: each test has an engine of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use exporter_tests::wait::patience;
use exporter_tests::{Container, Engine, Exporter, Exposition};

const UP: &str = "docker_stats_exporter_docker_up";
const CPU: &str = "container_cpu_usage_seconds_total";

/// Faster than any wait for an engine: a call is given up after five seconds, a list after twenty.
const FAST: Duration = Duration::from_secs(4);

/// One scrape after some that must not have waited for anybody. A busy machine may hold up one of them, a wait would hold
/// up all.
fn fast_scrape(exporter: &Exporter) -> Result<Exposition> {
    let mut fastest = Duration::MAX;
    for _ in 0..8 {
        let started = Instant::now();
        let answer = exporter.get("/metrics", &[])?;
        ensure!(answer.status == 200, "status {}", answer.status);
        fastest = fastest.min(started.elapsed());
        if fastest < FAST * patience() {
            return exporter.scrape();
        }
    }
    bail!("the fastest of eight scrapes took {fastest:?}")
}

fn await_up(exporter: &Exporter, up: bool, limit: Duration) -> Result<()> {
    exporter.scrape_until(limit, &format!("docker_up {up}"), |exposition| {
        ensure!((exposition.value(UP, &[])? > 0.5) == up, "it is {}", !up);
        Ok(())
    })
}

fn await_name(exporter: &Exporter, container: &Container<'_>, limit: Duration) -> Result<()> {
    exporter.scrape_until(limit, &format!("the name of {}", container.name), |exposition| {
        exposition.one(CPU, &[("name", &container.name)]).map(drop)
    })
}

/// Names are kept and values go on, whatever the engine does.
fn still_served(exporter: &Exporter, container: &Container<'_>) {
    let exposition = fast_scrape(exporter).unwrap();
    let sample = exposition.one(CPU, &[("name", &container.name)]).unwrap();
    assert!(sample.label("id").contains(&container.id) && !sample.label("image").is_empty(), "{sample:?}");
    assert!(exposition.has("container_memory_usage_bytes", &[("name", &container.name)]));
}

#[test]
fn a_stopped_engine_changes_nothing_but_docker_up() {
    let mut engine = Engine::private().unwrap();
    let container = Container::sleeping(&engine, "stop", &[]).unwrap();
    let (id, name) = (container.id.clone(), container.name.clone());
    std::mem::forget(container); // It is to outlive a change of the engine; the engine's end takes it away.
    let exporter = Exporter::with(&engine).unwrap();
    let known = |exposition: &Exposition| {
        exposition.one(CPU, &[("name", &name)]).map(|sample| sample.label("id").contains(&id))
    };
    assert!(exporter.scrape_until(Duration::from_secs(5), "its name", known).unwrap());
    let before = exporter.scrape().unwrap();

    engine.stop().unwrap();
    await_up(&exporter, false, Duration::from_secs(10)).unwrap();
    for _ in 0..10 {
        assert!(known(&fast_scrape(&exporter).unwrap()).unwrap());
    }
    let during = exporter.scrape().unwrap();
    let mine = [("name", name.as_str())];
    assert_eq!(before.prompt_names_with(&mine), during.prompt_names_with(&mine));
    let versions = |exposition: &Exposition| exposition.one("cadvisor_version_info", &[]).map(|one| one.labels.clone());
    let labels = versions(&before).unwrap();
    assert!(!labels["dockerVersion"].is_empty(), "{labels:?}");
    assert_eq!(labels, versions(&during).unwrap());

    engine.start().unwrap();
    await_up(&exporter, true, Duration::from_mins(1)).unwrap();
    let later = Container::sleeping(&engine, "later", &[]).unwrap();
    await_name(&exporter, &later, Duration::from_secs(5)).unwrap();
    assert!(known(&exporter.scrape().unwrap()).unwrap());
    drop(later);
    let said = exporter.stop().unwrap();
    let complaints = said.lines().filter(|line| line.to_ascii_lowercase().contains("level=warn")).count();
    assert!(complaints <= 6, "{complaints} warnings for one cause:\n{said}");
}

#[test]
fn a_hanging_engine_holds_up_no_scrape() {
    let mut engine = Engine::private().unwrap();
    {
        let container = Container::sleeping(&engine, "hang", &[]).unwrap();
        let exporter = Exporter::with(&engine).unwrap();
        await_name(&exporter, &container, Duration::from_secs(5)).unwrap();
        std::mem::forget(container);
        exporter.stop().unwrap();
    }
    // Frozen from before the start: no names, everything else.
    engine.freeze().unwrap();
    let late = Exporter::with(&engine).unwrap();
    let exposition = fast_scrape(&late).unwrap();
    assert!(exposition.value(UP, &[]).unwrap() < 0.5);
    assert!(exposition.has(CPU, &[("name", "")]), "a container without a name is to be exposed all the same");
    engine.thaw().unwrap();
    await_up(&late, true, Duration::from_mins(1)).unwrap();
    late.stop().unwrap();

    // Frozen in the middle of things.
    let container = Container::sleeping(&engine, "middle", &[]).unwrap();
    let exporter = Exporter::builder().docker(&engine).flag("--docker.resync-interval=2").start().unwrap();
    await_name(&exporter, &container, Duration::from_secs(5)).unwrap();
    let (id, name) = (container.id.clone(), container.name.clone());
    std::mem::forget(container);
    engine.freeze().unwrap();
    await_up(&exporter, false, Duration::from_secs(45)).unwrap();
    let exposition = fast_scrape(&exporter).unwrap();
    assert!(exposition.one(CPU, &[("name", &name)]).unwrap().label("id").contains(&id));
    engine.thaw().unwrap();
    await_up(&exporter, true, Duration::from_mins(1)).unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_restart_in_the_middle_of_scrapes_is_not_seen_in_them() {
    let mut engine = Engine::private().unwrap();
    let container = Container::sleeping(&engine, "restart", &[]).unwrap();
    let name = container.name.clone();
    let exporter = Exporter::with(&engine).unwrap();
    await_name(&exporter, &container, Duration::from_secs(5)).unwrap();
    still_served(&exporter, &container);
    std::mem::forget(container);
    std::thread::scope(|scope| {
        let scrapes = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(8);
            while Instant::now() < end {
                let exposition = fast_scrape(&exporter).unwrap();
                assert!(exposition.has(CPU, &[("name", &name)]), "the name was lost");
            }
        });
        engine.stop().unwrap();
        engine.start().unwrap();
        scrapes.join().unwrap();
    });
    await_up(&exporter, true, Duration::from_mins(1)).unwrap();
    exporter.stop().unwrap();
}
