//! Without Docker, without a cgroup tree, without either.

use std::fs;
use std::time::Duration;

use exporter_tests::exposition::Exposition;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Container, Engine, Exporter};

#[test]
fn without_docker_containers_have_their_id_and_every_value() {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let exporter = Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .start()
        .unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.value("docker_stats_exporter_docker_up", &[]).unwrap() < 0.5);
    let containers = exposition.select("container_memory_usage_bytes", &[]);
    assert!(containers.iter().filter(|sample| sample.label("id").len() >= 64).count() >= 6);
    assert!(containers.iter().all(|sample| sample.label("name").is_empty() && sample.label("image").is_empty()));
    let said = exporter.stop().unwrap();
    assert!(said.contains("docker"), "what is missing is to be logged once: {said}");
}

#[test]
fn an_absent_engine_that_comes_later_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "latecomer", &[]).unwrap();
    let exporter = Exporter::builder().docker_url(&format!("unix://{}", socket.display())).start().unwrap();
    let cpu = "container_cpu_usage_seconds_total";
    let mine = |exposition: &Exposition, name: &str| {
        exposition.select(cpu, &[("name", name)]).iter().any(|sample| sample.label("id").contains(&container.id))
    };
    assert!(mine(&exporter.scrape().unwrap(), ""), "a container without an engine has no name, but values");
    let Some(real) = engine.socket() else { return exporter.stop().map(drop).unwrap() };
    std::os::unix::fs::symlink(real, &socket).unwrap();
    exporter
        .scrape_until(Duration::from_mins(3), "the name", |exposition| {
            anyhow::ensure!(mine(exposition, &container.name), "not yet");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn with_neither_tree_nor_engine_it_serves_and_says_what_is_missing() {
    let empty = tempfile::tempdir().unwrap();
    fs::create_dir(empty.path().join("nothing")).unwrap();
    let exporter = Exporter::builder().flag(format!("--path.cgroup={}", empty.path().display())).start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.has("machine_cpu_cores", &[]));
    assert!(exposition.has("docker_stats_exporter_build_info", &[]));
    let said = exporter.stop().unwrap();
    assert!(said.contains(&empty.path().display().to_string()), "{said}");
}
