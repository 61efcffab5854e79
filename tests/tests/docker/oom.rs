//! Containers that are killed for lack of memory.

use std::time::Duration;

use anyhow::ensure;
use exporter_tests::{Container, Engine, Exporter};

const LIMIT: &[&str] = &["--memory=16m", "--memory-swap=16m"];
/// Takes more than that.
const GREED: &str = "tail -c 200m /dev/zero";
const KILLS: &str = "container_oom_events_total";
const LONG: Duration = Duration::from_mins(2);

#[test]
fn kills_in_a_crash_loop_are_counted_over_its_runs() {
    let engine = Engine::shared().unwrap();
    let files = Exporter::with(engine).unwrap();
    let api = Exporter::builder().docker(engine).flag("--source=docker-api").start().unwrap();
    let command = format!("sleep 0.5; exec {GREED}");
    // Docker waits twice as long before each restart, so that a slow machine sees the container, too.
    let options = [LIMIT, &["--restart=always"]].concat();
    let container = Container::run(engine, "greedy", &options, &["sh", "-c", &command]).unwrap();
    let mine = [("name", container.name.as_str())];
    let mut highest = [0, 0];
    for goal in [1, 3] {
        for (exporter, highest) in [&files, &api].into_iter().zip(&mut highest) {
            exporter
                .scrape_until(LONG, &format!("{goal} kills"), |exposition| {
                    let kills = exposition.integer(KILLS, &mine)?;
                    ensure!(kills >= *highest, "fell from {highest} to {kills}");
                    *highest = kills;
                    ensure!(kills >= goal, "{kills}");
                    Ok(())
                })
                .unwrap();
        }
    }
    // One kill in each run: no more, whoever saw them.
    let runs = 1 + container.inspect("{{.RestartCount}}").unwrap().parse::<i128>().unwrap();
    assert!(highest.iter().all(|kills| *kills <= runs), "{highest:?} in {runs} runs");
    for exporter in [files, api] {
        exporter.stop().unwrap();
    }
}

#[test]
fn kills_that_the_kernel_and_the_engine_saw_are_counted_once_and_carried_over_a_restart() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let container = Container::sleeping(engine, "survivor", LIMIT).unwrap();
    let mine = [("name", container.name.as_str())];
    let kernel = [("name", container.name.as_str()), ("event", "oom_kill")];
    let command = format!("{GREED} >/dev/null; true");
    for _ in 0..2 {
        container.exec(&["sh", "-c", &command]).unwrap();
    }
    // On cgroup v1 an engine may report one kill twice: such an event counts only if it comes after the last scrape of its run.
    let settled = |least: i128, by_kernel: i128| {
        exporter
            .scrape_until(LONG, "the count of kills", |exposition| {
                let (all, now) =
                    (exposition.integer(KILLS, &mine)?, exposition.integer("container_memory_events_total", &kernel)?);
                ensure!(all >= least && now == by_kernel, "{all} in all, {now} by the kernel");
                Ok(all)
            })
            .unwrap()
    };
    let before = settled(2, 2);
    assert_eq!(before, 2, "the count of a cgroup that can be read is exact");
    container.docker("restart", &["--time=0"]).unwrap();
    let after = settled(before, 0);
    assert!(after <= before + 1, "{before} before the restart, {after} after it");
    exporter.stop().unwrap();
}
