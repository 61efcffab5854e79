//! systemd restarts Docker under the scrapes.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use exporter_tests::exposition::Format;
use exporter_tests::{Container, Engine, Exporter, wait};

use crate::{CPU, SOON, alone, named, run};

const UP: &str = "docker_stats_exporter_docker_up";

/// Where Docker keeps its settings. Removed with the value.
struct Settings;

impl Settings {
    /// Containers outlive the engine.
    fn live_restore() -> Self {
        fs::create_dir_all("/etc/docker").unwrap();
        fs::write("/etc/docker/daemon.json", "{\"live-restore\": true}\n").unwrap();
        reload("true");
        Self
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        fs::write("/etc/docker/daemon.json", "{\"live-restore\": false}\n").unwrap();
        reload("false");
    }
}

fn reload(expected: &str) {
    systemctl(&["reload", "docker"]);
    wait::eventually(SOON, "the new settings", || {
        let now = run("docker", &["info", "--format", "{{.LiveRestoreEnabled}}"])?;
        ensure!(now == expected, "live-restore is {now}");
        Ok(())
    })
    .unwrap();
}

fn systemctl(arguments: &[&str]) {
    // It would refuse to start again what is restarted often.
    run("systemctl", &["reset-failed", "docker.service", "docker.socket"]).unwrap_or_default();
    run("systemctl", arguments).unwrap();
}

fn await_up(exporter: &Exporter, up: bool) -> Result<()> {
    exporter.scrape_until(SOON, &format!("docker_up {up}"), |exposition| {
        ensure!((exposition.value(UP, &[])? > 0.5) == up, "it is {}", !up);
        Ok(())
    })
}

#[test]
fn containers_that_outlive_the_engine_keep_their_names() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let _settings = Settings::live_restore();
    let container = Container::sleeping(engine, "outlives", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let (over, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                let exposition = exporter.scrape_unjudged("/metrics", Format::Text)?;
                let sample = exposition.one(CPU, &[("name", &container.name)])?;
                ensure!(sample.label("id").contains(&container.id), "the name of another: {sample:?}");
                scrapes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        // The socket would start it again at the first question.
        systemctl(&["stop", "docker.socket", "docker.service"]);
        let down = await_up(&exporter, false);
        systemctl(&["start", "docker.socket", "docker.service"]);
        let up = await_up(&exporter, true);
        systemctl(&["restart", "docker.service"]);
        let again = await_up(&exporter, true);
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap().unwrap();
        down.and(up).and(again).unwrap();
    });
    assert!(scrapes.load(Ordering::Relaxed) > 0);
    let later = Container::sleeping(engine, "later", &[]).unwrap();
    named(&exporter, &later).unwrap();
    exporter.stop().unwrap();
}

#[test]
fn containers_that_end_with_the_engine_come_back_with_it() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "returns", &["--restart=always"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let start = "container_start_time_seconds";
    let before = named(&exporter, &container).unwrap().value(start, &mine).unwrap();
    systemctl(&["restart", "docker.service"]);
    exporter
        .scrape_until(SOON, "the container to be back", |exposition| {
            exposition.one(CPU, &mine)?;
            let now = exposition.value(start, &mine)?;
            ensure!(now > before, "started at {now}, as before");
            Ok(())
        })
        .unwrap();
    let kernel = container.kernel().unwrap();
    let least = kernel.cpu_seconds().unwrap();
    let ours = exporter.scrape().unwrap().value(CPU, &mine).unwrap();
    assert!(ours >= least - 1e-6 && ours <= kernel.cpu_seconds().unwrap() + 1e-6, "{ours}, at least {least}");
    exporter.stop().unwrap();
}
