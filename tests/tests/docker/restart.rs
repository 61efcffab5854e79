//! Containers that their restart policy brings back, and those that are started again by hand.

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

const LOOP: &[&str] = &["sh", "-c", "sleep 0.2; exit 7"];
const LONG: Duration = Duration::from_mins(3);

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
    // Docker waits twice as long before each restart: some wait is long enough for any machine.
    let endless = Container::run(engine, "endless", &["--restart=always"], LOOP).unwrap();
    let container = Container::run(engine, "loop", &["--restart=on-failure:3"], LOOP).unwrap();
    let mine = [("name", endless.name.as_str())];
    for exporter in &exporters {
        let (waiting, _) = at_rest(exporter, &endless, "restarting").unwrap();
        assert_eq!(waiting.integer("container_exit_code", &mine).unwrap(), 7);
        assert!(!waiting.has("container_cpu_usage_seconds_total", &mine));
    }
    let mine = [("name", container.name.as_str())];
    // One that is started while the engine waits has nothing to count by itself.
    let late = Exporter::with(engine).unwrap();
    for exporter in exporters.iter().chain([&late]) {
        let (ended, count) = at_rest(exporter, &container, "exited").unwrap();
        assert_eq!((count.as_str(), ended.integer("container_exit_code", &mine).unwrap()), ("3", 7));
    }
    for exporter in exporters.into_iter().chain([late]) {
        exporter.stop().unwrap();
    }
}

/// Each run ends with the next number.
const COUNT: &[&str] = &["sh", "-c", "n=$(cat /tmp/n || echo 0); n=$((n+1)); echo $n >/tmp/n; exit $n"];

/// Checks that state, restarts and exit code are of one run. Returns whether it was the last one.
fn is_last_run(exposition: &Exposition, container: &Container<'_>) -> bool {
    let mine = [("name", container.name.as_str())];
    let Ok(state) = exposition.one("container_state", &mine) else { return false };
    let runs = exposition.integer("container_restarts_total", &mine).unwrap_or_default();
    let code = exposition.integer("container_exit_code", &mine);
    match state.label("state") {
        "created" | "running" => assert!(code.is_err(), "{code:?} of a run that has not ended"),
        "restarting" => assert_eq!(code.unwrap(), runs, "not the code of the last run"),
        "exited" => {
            assert_eq!((code.unwrap(), runs), (8, 7), "another run follows");
            for family in ["container_finish_time_seconds", "container_oom_killed"] {
                exposition.one(family, &mine).unwrap();
            }
            return true;
        }
        other => panic!("{other}"),
    }
    false
}

#[test]
fn each_scrape_of_a_crash_loop_is_of_one_run() {
    let engine = Engine::shared().unwrap();
    let exporters = both_modes(engine);
    for exporter in &exporters {
        exporter.scrape().unwrap();
    }
    let container = Container::run(engine, "each", &["--restart=on-failure:7"], COUNT).unwrap();
    let [files, api] = &exporters;
    files
        .scrape_until(LONG, "the last run's end", |exposition| {
            // As fast as scrapes come, also between the event of an end and the answer to what the engine is asked then.
            let ended = [exposition, &api.scrape()?].map(|exposition| is_last_run(exposition, &container));
            ensure!(ended == [true; 2], "{ended:?}");
            Ok(())
        })
        .unwrap();
    for exporter in exporters {
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
    let started = |exposition: &Exposition| exposition.value("container_start_time_seconds", &mine);
    let before = started(&at_rest(&exporters[0], &container, "running").unwrap().0).unwrap();
    for verb in ["restart", "restart"] {
        container.docker(verb, &["--time=0"]).unwrap();
    }
    for exporter in exporters {
        let (_, count) = at_rest(&exporter, &container, "running").unwrap();
        assert_eq!(count, "0");
        exporter
            .scrape_until(LONG, "the start", |exposition| {
                // Between its event and the engine's answer it is not known.
                let after = started(exposition)?;
                assert!(after > before, "{after} is the start of the run before, {before}");
                Ok(())
            })
            .unwrap();
        exporter.stop().unwrap();
    }
}
