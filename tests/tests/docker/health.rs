//! Health checks.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use exporter_tests::{Container, Engine, Exporter};

use super::named;

#[test]
fn health_follows_the_check() {
    let engine = Engine::shared().unwrap();
    let check = ["--health-cmd=test -e /tmp/well", "--health-interval=1s", "--health-retries=2", "--health-timeout=5s"];
    let container = Container::sleeping(engine, "health", &check).unwrap();
    let plain = Container::sleeping(engine, "unchecked", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let await_health = |health: i128, streak: std::ops::RangeInclusive<i128>| {
        exporter
            .scrape_until(Duration::from_secs(15), &format!("health {health}"), |exposition| {
                ensure!(exposition.integer("container_health_state", &mine)? == health, "another");
                let failures = exposition.integer("container_health_failing_streak", &mine)?;
                ensure!(streak.contains(&failures), "{failures} failures in a row");
                Ok(())
            })
            .unwrap();
    };
    container.exec(&["touch", "/tmp/well"]).unwrap();
    await_health(1, 0..=0);
    container.exec(&["rm", "/tmp/well"]).unwrap();
    await_health(0, 2..=i128::MAX);
    container.exec(&["touch", "/tmp/well"]).unwrap();
    await_health(1, 0..=0);

    named(&exporter, &plain).unwrap();
    let exposition = exporter.scrape().unwrap();
    let unchecked = [("name", plain.name.as_str())];
    assert_eq!(exposition.integer("container_health_state", &unchecked).unwrap(), -1);
    assert!(!exposition.has("container_health_failing_streak", &unchecked));
    exporter.stop().unwrap();
}

#[test]
fn the_failing_streak_grows_with_the_engine_s() {
    let engine = Engine::shared().unwrap();
    let check = ["--health-cmd=exit 1", "--health-interval=1s", "--health-retries=2"];
    let container = Container::sleeping(engine, "sick", &check).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    for least in [5, 10, 15] {
        exporter
            .scrape_until(Duration::from_mins(1), &format!("{least} failures"), |exposition| {
                let engine: i128 = container.inspect("{{.State.Health.FailingStreak}}")?.parse().context("streak")?;
                let ours = exposition.integer("container_health_failing_streak", &mine)?;
                ensure!(ours >= least && engine - ours <= 15, "ours {ours}, the engine's {engine}");
                Ok(())
            })
            .unwrap();
    }
    exporter.stop().unwrap();
}
