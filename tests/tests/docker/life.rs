//! From creation to removal: what is exposed when, and what lingers.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

const CPU: &str = "container_cpu_usage_seconds_total";

/// What PRODUCT promises for a name after a start.
const NAMED_WITHIN: Duration = Duration::from_secs(1);

fn is_in(exposition: &Exposition, container: &Container<'_>, state: &str) -> Result<()> {
    let sample = exposition.one("container_state", &[("name", &container.name)])?;
    ensure!(sample.label("state") == state && sample.text == "1", "{sample:?}");
    Ok(())
}

#[test]
fn a_new_container_has_its_name_within_a_second() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    exporter.scrape().unwrap();
    for _ in 0..3 {
        let container = Container::sleeping(engine, "new", &["--label=com.docker.compose.service=api"]).unwrap();
        let seen = exporter.scrape().unwrap();
        assert!(seen.container(&container.id).any(|sample| sample.name == CPU), "not in the next scrape");
        let sample = exporter
            .scrape_until(NAMED_WITHIN, "the name", |exposition| {
                Ok(exposition.one(CPU, &[("name", &container.name)])?.clone())
            })
            .unwrap();
        assert_eq!(sample.label("image"), engine.image());
        assert_eq!(sample.label("container_label_com_docker_compose_service"), "api");
        assert!(sample.label("id").contains(&container.id));
        is_in(&exporter.scrape().unwrap(), &container, "running").unwrap();
    }
    exporter.stop().unwrap();
}

#[test]
fn an_exit_ends_the_series_and_leaves_the_exit_code() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let forgetful = Exporter::builder().docker(engine).flag("--containers.linger=1s").start().unwrap();
    let command = ["sh", "-c", "until test -e /tmp/end; do sleep 0.1; done; exit 3"];
    let container = Container::run(engine, "exit", &[], &command).unwrap();
    let mine = [("name", container.name.as_str())];
    named(&exporter, &container).unwrap();
    named(&forgetful, &container).unwrap();
    container.exec(&["touch", "/tmp/end"]).unwrap();
    exporter
        .scrape_until(Duration::from_secs(10), "its end", |exposition| is_in(exposition, &container, "exited"))
        .unwrap();
    let ended = exporter.scrape().unwrap();
    assert!(!ended.has(CPU, &mine) && !ended.has("container_memory_usage_bytes", &mine));
    assert_eq!(ended.integer("container_exit_code", &mine).unwrap(), 3);
    assert_eq!(ended.integer("container_oom_killed", &mine).unwrap(), 0);
    let (started, finished) = ("container_start_time_seconds", "container_finish_time_seconds");
    let ran = ended.value(finished, &mine).unwrap() - ended.value(started, &mine).unwrap();
    assert!(ran > 0.05, "ran for {ran} s");
    let seen = ended.value("container_last_seen", &mine).unwrap();
    sleep(Duration::from_millis(300));
    let later = exporter.scrape().unwrap().value("container_last_seen", &mine).unwrap();
    assert!((later - seen).abs() < 1e-6, "last_seen moves on after the end: {seen}, {later}");

    let id = container.id.clone();
    let name = container.name.clone();
    drop(container); // docker rm
    let lingering = exporter.scrape().unwrap();
    assert!(lingering.has("container_exit_code", &[("name", &name)]), "gone with the removal");
    forgetful
        .scrape_until(Duration::from_secs(20), "the end of the linger time", |exposition| {
            let left: Vec<&str> = exposition.container(&id).map(|sample| sample.name.as_str()).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_kill_ends_the_series_in_the_next_scrape() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let container = Container::sleeping(engine, "kill", &[]).unwrap();
    named(&exporter, &container).unwrap();
    container.docker("kill", &[]).unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(!exposition.container(&container.id).any(|sample| sample.name == CPU));
    exporter
        .scrape_until(Duration::from_secs(5), "the state", |exposition| {
            is_in(exposition, &container, "exited")?;
            ensure!(exposition.integer("container_exit_code", &[("name", &container.name)])? == 137, "another code");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_rename_moves_every_series() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mut container = Container::sleeping(engine, "rename", &[]).unwrap();
    named(&exporter, &container).unwrap();
    let old = container.name.clone();
    container.rename().unwrap();
    exporter
        .scrape_until(Duration::from_secs(2), "the new name", |exposition| {
            exposition.one(CPU, &[("name", &container.name)])?;
            let left = exposition.names_with(&[("name", &old)]);
            ensure!(left.is_empty(), "under the old name: {left:?}");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_paused_container_keeps_its_series() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let container = Container::sleeping(engine, "pause", &[]).unwrap();
    named(&exporter, &container).unwrap();
    container.docker("pause", &[]).unwrap();
    exporter
        .scrape_until(Duration::from_secs(3), "paused", |exposition| {
            is_in(exposition, &container, "paused")?;
            exposition.one(CPU, &[("name", &container.name)]).map(drop)
        })
        .unwrap();
    container.docker("unpause", &[]).unwrap();
    exporter
        .scrape_until(Duration::from_secs(3), "running", |exposition| is_in(exposition, &container, "running"))
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_container_that_never_ran_is_told_of() {
    let engine = Engine::shared().unwrap();
    let container = Container::create(engine, "created", &[], &["true"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let exposition = exporter
        .scrape_until(Duration::from_secs(5), "its state", |exposition| {
            is_in(exposition, &container, "created")?;
            Ok(exposition.clone())
        })
        .unwrap();
    let mine = [("name", container.name.as_str())];
    assert!(!exposition.has("container_exit_code", &mine) && !exposition.has("container_finish_time_seconds", &mine));
    exporter.stop().unwrap();
}
