//! Signals, deadlines, and scrapes that are under way.

use std::thread;
use std::time::{Duration, Instant};

use exporter_tests::Exporter;
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::http;
use rustix::process::Signal;

/// The stats API of a captured host, each container answering after a while.
fn slow(delay: Duration) -> (FakeEngine, Exporter) {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    engine.delay("/stats", delay);
    let exporter = Exporter::builder().flag("--source=docker-api").docker_url(&engine.url()).start().unwrap();
    (engine, exporter)
}

#[test]
fn a_scrape_under_way_is_finished_after_sigterm() {
    let (_engine, mut exporter) = slow(Duration::from_millis(1500));
    let address = exporter.address;
    let scrape = thread::spawn(move || http::get(address, "/metrics", &[]));
    thread::sleep(Duration::from_millis(500));
    exporter.signal(Signal::TERM).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert!(http::get(address, "/healthz", &[]).is_err(), "it still listens");
    let answer = scrape.join().unwrap().unwrap();
    assert_eq!(answer.status, 200);
    let exposition = Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
    assert!(exposition.has("container_cpu_usage_seconds_total", &[]));
    assert_eq!(exporter.wait(Duration::from_secs(6)).unwrap().code(), Some(0));
}

#[test]
fn a_scrape_that_takes_too_long_does_not_hold_up_the_end() {
    let (_engine, mut exporter) = slow(Duration::from_mins(1));
    let address = exporter.address;
    thread::spawn(move || http::get(address, "/metrics", &[]));
    thread::sleep(Duration::from_millis(500));
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
    let started = Instant::now();
    let answer = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")]).unwrap();
    // The slow answer alone would have taken twenty.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let exposition = Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
    assert!(!exposition.has("container_cpu_usage_seconds_total", &[("name", "web")]));
    assert!(exposition.has("container_cpu_usage_seconds_total", &[("name", "queue")]), "one slow one held up the rest");
    let success = "docker_stats_exporter_scrape_collector_success";
    assert!(exposition.value(success, &[("collector", "cpu")]).unwrap() < 1.0);
    exporter.stop().unwrap();
}

#[test]
fn both_signals_end_an_idle_exporter_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut exporter = super::captured().unwrap().start().unwrap();
        let started = Instant::now();
        exporter.signal(signal).unwrap();
        assert_eq!(exporter.wait(Duration::from_secs(5)).unwrap().code(), Some(0));
        // Scrapes in flight would be given five.
        assert!(started.elapsed() < Duration::from_millis(4900), "{:?}", started.elapsed());
    }
}
