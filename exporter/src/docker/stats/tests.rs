//! Tests of reading statistics, most of them against a scripted engine.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Stats, is_running};
use crate::docker::fake::{Fake, container, id};
use crate::metrics::SelfMetrics;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn integers_are_exact_and_the_vanished_are_no_failure() {
    let fake = Fake::start([container('a', "web", "running")]);
    let engine = fake.engine(&SelfMetrics::new().unwrap());
    engine.connect().await.unwrap();
    let sweep = Stats::new(engine, 4).sweep(&[id('a'), id('b')], soon()).await;
    assert!(sweep.is_complete());
    let [(found, reading)] = sweep.readings.as_slice() else { panic!("{sweep:?}") };
    assert_eq!(*found, id('a'));
    let total = reading.pointer("/cpu_stats/cpu_usage/total_usage").unwrap();
    assert_eq!(total.as_u64(), Some(u64::MAX));
}

#[tokio::test]
async fn one_slow_container_does_not_hold_back_the_rest() {
    let letters = "abcdef012345";
    let fake = Fake::start(letters.chars().map(|letter| container(letter, "web", "running")));
    let self_metrics = SelfMetrics::new().unwrap();
    let engine = fake.engine(&self_metrics);
    engine.connect().await.unwrap();
    fake.world().hangs_at = Some(format!("{}/stats", "a".repeat(64)));
    let ids: Vec<_> = letters.chars().map(id).collect();
    let sweep = Stats::new(engine, 2).sweep(&ids, soon()).await;
    assert_eq!((sweep.readings.len(), sweep.failed, sweep.cut), (11, 1, 0));
    assert!(!sweep.is_complete());
    assert_eq!(self_metrics.docker_requests.with_label_values(&["stats", "timeout"]).get(), 1);
}

#[tokio::test]
async fn at_the_deadline_what_is_there_is_given() {
    let fake = Fake::start("0123456789abcdef".chars().map(|letter| container(letter, "web", "running")));
    let engine = fake.engine(&SelfMetrics::new().unwrap());
    engine.connect().await.unwrap();
    fake.world().slow_at = Some(("/stats".to_owned(), Duration::from_millis(300)));
    let ids: Vec<_> = "0123456789abcdef".chars().map(id).collect();
    // Sixteen answers, a few at a time, take longer.
    let sweep = Stats::new(engine, 1).sweep(&ids, Instant::now() + Duration::from_millis(900)).await;
    assert!(!sweep.readings.is_empty() && sweep.cut > 0, "{sweep:?}");
    assert_eq!(sweep.readings.len() + sweep.cut + sweep.failed, 16);
}

#[tokio::test]
async fn a_sweep_gives_what_is_there_and_goes_on() {
    let letters = "abcdef012345";
    let fake = Fake::start(letters.chars().map(|letter| container(letter, "web", "running")));
    let engine = fake.engine(&SelfMetrics::new().unwrap());
    engine.connect().await.unwrap();
    fake.world().slow_at = Some((format!("{}/stats", "a".repeat(64)), Duration::from_millis(300)));
    let ids: Vec<_> = letters.chars().map(id).collect();
    let stats = Stats::new(engine, 2);
    let mut sweeping = stats.begin(ids, soon());
    let (mut read, mut steps) = (0, 1);
    while !sweeping.advance(Instant::now() + Duration::from_millis(10)).await {
        read += sweeping.readings().len();
        steps += 1;
    }
    read += sweeping.readings().len();
    assert!(read == 12 && steps > 2, "{read} in {steps} steps");
    assert_eq!(fake.requests("/stats"), 12);
    assert!(stats.end(sweeping).is_complete());
}

#[tokio::test]
async fn while_the_engine_is_down_nothing_is_waited_for() {
    let fake = Fake::start([]);
    let engine = fake.engine(&SelfMetrics::new().unwrap());
    let sweep = Stats::new(engine, 1).sweep(&[id('a')], soon()).await;
    assert_eq!((sweep.failed, fake.requests("/")), (1, 0));
}

#[test]
fn an_answer_without_a_run_has_no_values() {
    let zeros = json!({"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}});
    let cpu = json!({"cpu_usage": {"total_usage": 5_000_000}});
    let (then, never) = ("2026-11-30T05:00:00.5Z", "0001-01-01T00:00:00Z");
    for (answer, expected) in [
        (json!({"read": never, "cpu_stats": zeros, "memory_stats": {}, "pids_stats": {}}), false),
        (json!({"read": never, "preread": never, "cpu_stats": cpu, "memory_stats": {"usage": 4096}}), false),
        (json!({"read": then, "cpu_stats": zeros, "memory_stats": {}, "pids_stats": {}}), false),
        (json!({"read": null, "cpu_stats": zeros}), false),
        (json!({"name": "/job", "id": "a"}), false),
        (json!({"read": then, "cpu_stats": cpu}), true),
        (json!({"cpu_stats": null, "memory_stats": {"usage": 1}}), true),
        (json!({"read": then, "cpu_stats": zeros, "pids_stats": {"current": 1}}), true),
        (json!({"read": 7, "cpu_stats": {"cpu_usage": {"total_usage": u64::MAX}}}), true),
    ] {
        assert_eq!(is_running(&answer), expected, "{answer}");
    }
}
