//! Tests of `docker::stats`, against a scripted engine where one is needed.

use std::time::{Duration, Instant};

use super::Stats;
use crate::docker::fake::{Fake, container, id};
use crate::metrics::Own;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn integers_are_exact_and_the_vanished_are_no_failure() {
    let fake = Fake::start([container('a', "web", "running")]);
    let engine = fake.engine(&Own::new().unwrap());
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
    let own = Own::new().unwrap();
    let engine = fake.engine(&own);
    engine.connect().await.unwrap();
    fake.world().hangs_at = Some(format!("{}/stats", "a".repeat(64)));
    let ids: Vec<_> = letters.chars().map(id).collect();
    let sweep = Stats::new(engine, 2).sweep(&ids, soon()).await;
    assert_eq!((sweep.readings.len(), sweep.failed, sweep.cut), (11, 1, 0));
    assert!(!sweep.is_complete());
    assert_eq!(own.docker_requests.with_label_values(&["stats", "timeout"]).get(), 1);
}

#[tokio::test]
async fn at_the_deadline_what_is_there_is_given() {
    let fake = Fake::start("0123456789abcdef".chars().map(|letter| container(letter, "web", "running")));
    let engine = fake.engine(&Own::new().unwrap());
    engine.connect().await.unwrap();
    fake.world().slow_at = Some(("/stats".to_owned(), Duration::from_millis(300)));
    let ids: Vec<_> = "0123456789abcdef".chars().map(id).collect();
    // Sixteen answers, a few at a time, take longer.
    let sweep = Stats::new(engine, 1).sweep(&ids, Instant::now() + Duration::from_millis(900)).await;
    assert!(!sweep.readings.is_empty() && sweep.cut > 0, "{sweep:?}");
    assert_eq!(sweep.readings.len() + sweep.cut + sweep.failed, 16);
}

#[tokio::test]
async fn while_the_engine_is_down_nothing_is_waited_for() {
    let fake = Fake::start([]);
    let engine = fake.engine(&Own::new().unwrap());
    let sweep = Stats::new(engine, 1).sweep(&[id('a')], soon()).await;
    assert_eq!((sweep.failed, fake.requests("/")), (1, 0));
}
