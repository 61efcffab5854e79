//! The source of values where the first container comes after the exporter.

use std::time::Duration;

use exporter_tests::fake_engine::FakeEngine;

use super::host::{Host, ID};

const MEMORY: &str = "container_memory_usage_bytes";

fn guest(units: &[&str]) -> Host {
    let host = Host::new("guest");
    host.cgroup("", &[("cgroup.controllers", "memory\n"), ("cgroup.type", "domain\n"), ("cgroup.procs", "")]);
    for unit in units {
        host.cgroup(unit, &[("cgroup.procs", "1\n"), ("cgroup.type", "domain\n")]);
    }
    host
}

fn start_container(host: &Host) {
    host.cgroup(&format!("docker/{ID}"), &[("cgroup.procs", "4711\n"), ("memory.current", "4096\n")]);
}

#[test]
fn files_are_the_source_in_a_guest_that_has_no_container_yet() {
    let host = guest(&["init.scope", "system.slice/docker.service"]);
    let engine = FakeEngine::start().unwrap();
    let exporter = host.builder().docker_url(&engine.url()).start().unwrap();
    assert!(!exporter.stderr().contains("stats API"), "{}", exporter.stderr());
    start_container(&host);
    let path = format!("/docker/{ID}");
    assert_eq!(exporter.scrape().unwrap().integer(MEMORY, &[("id", &path)]).unwrap(), 4096);
    exporter.stop().unwrap();
}

#[test]
fn files_become_the_source_once_a_container_appears_in_a_tree_of_ours_alone() {
    let host = guest(&[]);
    let engine = FakeEngine::start().unwrap();
    let exporter = host.builder().docker_url(&engine.url()).start().unwrap();
    assert!(exporter.stderr().contains("the engine's stats API"), "{}", exporter.stderr());
    exporter.scrape().unwrap();
    start_container(&host);
    let path = format!("/docker/{ID}");
    for _ in 0..2 {
        assert_eq!(exporter.scrape().unwrap().integer(MEMORY, &[("id", &path)]).unwrap(), 4096);
    }
    assert_eq!(exporter.stderr().matches("containers have appeared in the cgroup tree").count(), 1);
    let page = exporter.get("/", &[]).unwrap();
    assert!(String::from_utf8_lossy(&page.body).contains("kernel files"), "the landing page shows the old source");
    exporter.stop().unwrap();
}

#[test]
fn an_asked_for_source_is_not_changed() {
    let host = guest(&[]);
    let engine = FakeEngine::start().unwrap();
    let exporter = host.builder().docker_url(&engine.url()).flag("--source=docker-api").start().unwrap();
    start_container(&host);
    std::thread::sleep(Duration::from_millis(10));
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.select(MEMORY, &[("id", &format!("/docker/{ID}"))]).is_empty());
    exporter.stop().unwrap();
}
