//! Containers that their restart policy brings back, and those that are started again by hand.

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

const LOOP: &[&str] = &["sh", "-c", "sleep 0.2; exit 7"];
const LONG: Duration = Duration::from_mins(1);

fn both_modes(engine: &Engine) -> [Exporter; 2] {
    let api = Exporter::builder().docker(engine).flag("--source=docker-api");
    [Exporter::with(engine).unwrap(), api.start().unwrap()]
}

/// The engine's status and count at a moment at which nothing changed while the exporter was scraped.
fn at_rest(exporter: &Exporter, container: &Container<'_>, status: &str) -> Result<(Exposition, String)> {
    exporter.scrape_until(LONG, &format!("{} is {status}", container.name), |exposition| {
        let engine = || container.inspect("{{.State.Status}} {{.RestartCount}} {{.State.StartedAt}}");
        let before = engine()?;
        ensure!(before.starts_with(status), "{before}");
        let state = exposition.one("container_state", &[("name", &container.name)])?;
        ensure!(state.label("state") == status, "{state:?}");
        let count = before.split(' ').nth(1).unwrap_or_default().to_owned();
        let ours = exposition.integer("container_restarts_total", &[("name", &container.name)])?;
        ensure!(ours.to_string() == count, "ours {ours}, the engine's {count}");
        Ok((exposition.clone(), count))
    })
}

#[test]
fn restarts_and_exit_code_of_a_crash_loop_are_the_engine_s() {
    let engine = Engine::shared().unwrap();
    let exporters = both_modes(engine);
    // Docker waits twice as long before each restart: the last waits are long enough for a slow machine.
    let container = Container::run(engine, "loop", &["--restart=on-failure:8"], LOOP).unwrap();
    let mine = [("name", container.name.as_str())];
    for exporter in &exporters {
        let (waiting, _) = at_rest(exporter, &container, "restarting").unwrap();
        assert_eq!(waiting.integer("container_exit_code", &mine).unwrap(), 7);
        assert!(!waiting.has("container_cpu_usage_seconds_total", &mine));
    }
    // One that is started while the engine waits has nothing to count by itself.
    let late = Exporter::with(engine).unwrap();
    for exporter in exporters.iter().chain([&late]) {
        let (ended, count) = at_rest(exporter, &container, "exited").unwrap();
        assert_eq!((count.as_str(), ended.integer("container_exit_code", &mine).unwrap()), ("8", 7));
    }
    for exporter in exporters.into_iter().chain([late]) {
        exporter.stop().unwrap();
    }
}

#[test]
fn a_start_by_hand_is_no_restart() {
    let engine = Engine::shared().unwrap();
    let exporters = both_modes(engine);
    let container = Container::sleeping(engine, "by-hand", &["--restart=always"]).unwrap();
    let mine = [("name", container.name.as_str())];
    for exporter in &exporters {
        named(exporter, &container).unwrap();
    }
    let started = |exposition: &Exposition| exposition.value("container_start_time_seconds", &mine).unwrap();
    let before = started(&at_rest(&exporters[0], &container, "running").unwrap().0);
    for verb in ["restart", "restart"] {
        container.docker(verb, &["--time=0"]).unwrap();
    }
    for exporter in exporters {
        let (after, count) = at_rest(&exporter, &container, "running").unwrap();
        assert_eq!(count, "0");
        assert!(started(&after) > before, "the start is not seen");
        exporter.stop().unwrap();
    }
}
