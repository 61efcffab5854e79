//! `--cgroups.include`: rows of cgroups that are no containers, and none of what a container makes below its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use exporter_tests::{Container, Engine, Exporter};

const MEMORY: &str = "container_memory_usage_bytes";
const SOON: Duration = Duration::from_secs(10);

/// The tree that counts memory.
fn tree() -> PathBuf {
    let v1 = PathBuf::from("/sys/fs/cgroup/memory");
    if v1.is_dir() { v1 } else { PathBuf::from("/sys/fs/cgroup") }
}

/// A cgroup that goes with the value.
struct Made(PathBuf);

impl Made {
    fn new(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap_or_default();
    }
}

#[test]
fn a_cgroup_that_is_named_has_rows_with_its_id_and_a_container_has_its_own_once() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "others", &[]).unwrap();
    let service = format!("/{}.service", Engine::unique("service"));
    let exporter = Exporter::builder().docker(engine).flag("--cgroups.include=/**").start().unwrap();
    let path = exporter
        .scrape_until(SOON, "the container", |exposition| {
            let sample = exposition.one(MEMORY, &[("name", &container.name)])?;
            Ok(sample.label("id").to_owned())
        })
        .unwrap();
    let below = |path: &str| tree().join(path.trim_start_matches('/'));
    let inner = Made::new(&below(&path).join("inner.service"));
    let made = Made::new(&below(&service));
    let parent = Path::new(&path).parent().unwrap().display().to_string();
    exporter
        .scrape_until(SOON, "the service and the engine's own cgroup", |exposition| {
            for id in [service.as_str(), parent.as_str()].into_iter().filter(|id| *id != "/") {
                let sample = exposition.one(MEMORY, &[("id", id)])?;
                ensure!(sample.label("name").is_empty() && sample.label("image").is_empty(), "{sample:?}");
                exposition.one("container_last_seen", &[("id", id)])?;
                ensure!(!exposition.has("container_state", &[("id", id)]), "a state");
            }
            ensure!(exposition.select(MEMORY, &[("name", &container.name)]).len() == 1, "the container twice");
            let inside = format!("{path}/");
            let doubled = exposition.samples().find(|sample| sample.label("id").starts_with(&inside));
            ensure!(doubled.is_none(), "{doubled:?}");
            Ok(())
        })
        .unwrap();
    let one =
        exporter.scrape_path(&format!("/metrics?id[]={service}"), exporter_tests::exposition::Format::Text).unwrap();
    assert!(one.samples().all(|sample| ["", &service].contains(&sample.label("id"))), "{}", one.text);
    assert!(one.has(MEMORY, &[("id", &service)]));
    drop(made);
    exporter
        .scrape_until(SOON, "the service to be gone", |exposition| {
            ensure!(!exposition.samples().any(|sample| sample.label("id") == service), "it is there");
            Ok(())
        })
        .unwrap();
    drop(inner);
    exporter.stop().unwrap();
}

#[test]
fn a_default_exporter_has_no_rows_of_other_cgroups() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "no-others", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    exporter
        .scrape_until(SOON, "the container", |exposition| {
            let path = exposition.one(MEMORY, &[("name", &container.name)])?.label("id").to_owned();
            let parent = Path::new(&path).parent().unwrap().display().to_string();
            ensure!(parent == "/" || !exposition.has(MEMORY, &[("id", &parent)]), "{parent} is there");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}
