//! Signals, deadlines, and scrapes that are under way.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, http, wait};
use rustix::process::Signal;

/// The stats API of a captured host, each container answering after a while.
fn slow(delay: Duration) -> (FakeEngine, Exporter) {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    engine.delay("/stats", delay);
    let exporter = Exporter::builder().flag("--source=docker-api").docker_url(&engine.url()).start().unwrap();
    (engine, exporter)
}

/// Waits until a scrape has asked for the first container's values.
fn under_way(engine: &FakeEngine) {
    wait::eventually(Duration::from_secs(10), "a scrape to be under way", || {
        ensure!(engine.requests().iter().any(|path| path.contains("/stats")), "nobody has asked for values");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_scrape_under_way_is_finished_after_sigterm() {
    let (engine, mut exporter) = slow(Duration::from_hours(1));
    let address = exporter.address;
    let scrape = thread::spawn(move || http::get(address, "/metrics", &[]));
    under_way(&engine);
    exporter.signal(Signal::TERM).unwrap();
    wait::eventually(Duration::from_secs(5), "the port to be closed", || {
        ensure!(http::get(address, "/healthz", &[]).is_err(), "it still listens");
        Ok(())
    })
    .unwrap();
    engine.delay("/stats", Duration::ZERO);
    let answer = scrape.join().unwrap().unwrap();
    assert_eq!(answer.status, 200);
    let exposition = Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
    assert!(exposition.has("container_cpu_usage_seconds_total", &[]));
    assert_eq!(exporter.wait(Duration::from_secs(6)).unwrap().code(), Some(0));
}

#[test]
fn a_scrape_that_takes_too_long_does_not_hold_up_the_end() {
    let (engine, mut exporter) = slow(Duration::from_mins(1));
    let address = exporter.address;
    thread::spawn(move || http::get(address, "/metrics", &[]));
    under_way(&engine);
    let started = Instant::now();
    exporter.signal(Signal::INT).unwrap();
    assert_eq!(exporter.wait(Duration::from_secs(8)).unwrap().code(), Some(0));
    // The scrape alone would have taken a minute.
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
}

#[test]
fn what_is_not_read_in_prometheus_time_is_left_out() {
    let (engine, exporter) = slow(Duration::ZERO);
    exporter
        .scrape_until(Duration::from_secs(10), "the containers", |exposition| {
            exposition.one("container_cpu_usage_seconds_total", &[("name", "web")]).map(drop)
        })
        .unwrap();
    let slow_one = engine.inspected("web").unwrap();
    engine.delay(&format!("/containers/{slow_one}/stats"), Duration::from_secs(20));
    let cpu = "container_cpu_usage_seconds_total";
    // On a machine that stands still meanwhile, the rest may not come in time, either.
    let exposition = wait::eventually(Duration::from_mins(2), "an answer without the slow one alone", || {
        let started = Instant::now();
        let answer = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")])?;
        let exposition = Exposition::parse(&answer.text()?, Format::Text)?;
        assert!(!exposition.has(cpu, &[("name", "web")]), "read in no time");
        ensure!(exposition.has(cpu, &[("name", "queue")]), "one slow one held up the rest");
        // The slow answer alone would have taken twenty.
        ensure!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        Ok(exposition)
    })
    .unwrap();
    let success = "docker_stats_exporter_scrape_collector_success";
    assert!(exposition.value(success, &[("collector", "cpu")]).unwrap() < 1.0);
    exporter.stop().unwrap();
}

#[test]
fn both_signals_end_an_idle_exporter_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        // A machine that stands still may hold up one of them.
        let times = (0..3).map(|_| {
            let mut exporter = super::captured().unwrap().start().unwrap();
            let started = Instant::now();
            exporter.signal(signal).unwrap();
            assert_eq!(exporter.wait(Duration::from_secs(5)).unwrap().code(), Some(0));
            started.elapsed()
        });
        // Scrapes in flight would be given five.
        let fastest = times.min().unwrap();
        assert!(fastest < Duration::from_millis(4900), "{fastest:?}");
    }
}
