//! Tests of `docker::follow` with engines and proxies that cut, refuse, hang or answer nonsense.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::tests::{Following, NEVER, eventually};
use crate::discover::ContainerId;
use crate::docker::Seen;
use crate::docker::fake::{Fake, Odd, container, id};
use crate::metrics::SelfMetrics;
use crate::name::State;

const HTML: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html>hello</h";

/// Each way in which an endpoint may fail.
fn failures() -> Vec<Odd> {
    let mut failures: Vec<_> = [401, 403, 404, 500, 503].into_iter().map(Odd::Status).collect();
    failures.extend([Odd::Never, Odd::Bytes(HTML.to_vec()), Odd::Bytes(Vec::new())]);
    failures
}

/// The table of `docs/ENGINES.md`: an endpoint, whether names are known without it, and whether inspections are.
#[tokio::test]
async fn an_endpoint_that_fails_costs_only_what_needs_it() {
    let inspect = format!("{}/json", "a".repeat(64));
    for (endpoint, named, inspected) in [
        ("/version", true, true),
        ("/info", true, true),
        ("/events", true, true),
        (inspect.as_str(), true, false),
        ("all=1", false, false),
    ] {
        for failure in failures() {
            let unconnected = matches!(&failure, Odd::Bytes(bytes) if bytes.is_empty()) && endpoint == "/version";
            let fake = Fake::start([container('a', "web", "running")]);
            fake.world().odd = vec![(endpoint.to_owned(), failure.clone())];
            let self_metrics = SelfMetrics::new().unwrap();
            let engine = fake.engine(&self_metrics);
            engine.host().want();
            let following = Following::with(engine, self_metrics, NEVER);
            if !named || unconnected {
                sleep(Duration::from_millis(300)).await;
                assert!(!following.up() && following.info('a').is_none(), "{endpoint} {failure:?}");
                continue;
            }
            eventually(|| following.up() && following.info('a').is_some_and(|info| info.name == "web")).await;
            if inspected {
                following.knows('a', |_| true).await;
            }
            // A change is seen too, by an event or by the next list.
            fake.world().containers.extend([container('b', "new", "running")]);
            fake.emit('b', "start", json!({"name": "new"}));
            eventually(|| following.info('b').is_some_and(|info| info.name == "new")).await;
            assert!(following.up(), "{endpoint} {failure:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_subscribed_to_again_and_nothing_is_lost() {
    for rude in [false, true] {
        let fake = Fake::start([container('a', "web", "running")]);
        fake.world().rude = rude;
        let following = Following::start(&fake, NEVER);
        following.knows('a', |_| true).await;
        for round in 0..5 {
            eventually(|| fake.subscribers() == 1).await;
            fake.emit('a', "resize", json!({"round": round}));
            eventually(|| following.events("other") == u64::from(round) + 1).await;
            let began = fake.requests("/events");
            fake.world().containers.extend([container(char::from(b'b' + round), "more", "running")]);
            fake.end_events();
            eventually(|| {
                assert!(following.up(), "the engine answers");
                fake.requests("/events") > began
            })
            .await;
            following.knows(char::from(b'b' + round), |info| info.name == "more").await;
        }
        assert_eq!(fake.requests("/version"), 2, "it is the same session");
        let since = fake.world().requests.iter().filter(|request| request.starts_with("/events?since=")).count();
        assert!(since >= 5, "what happened meanwhile is asked for");
        assert_eq!(following.requests("inspect", "200"), 6, "each container is inspected once");
    }
}

#[tokio::test]
async fn streams_that_tell_nothing_are_subscribed_to_less_and_less_often() {
    let fake = Fake::start([container('a', "web", "running")]);
    let empty = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    fake.world().odd = vec![("/events".to_owned(), Odd::Bytes(empty.to_vec()))];
    let following = Following::start(&fake, NEVER);
    following.knows('a', |_| true).await;
    sleep(Duration::from_millis(600)).await;
    assert!((4..20).contains(&fake.requests("/events")), "{}", fake.requests("/events"));
    assert!(following.up());
    fake.world().odd.clear();
    eventually(|| fake.subscribers() == 1).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_is_noticed_by_what_a_scrape_sees() {
    let fake = Fake::start([container('a', "web", "running")]);
    let self_metrics = SelfMetrics::new().unwrap();
    let engine = fake.engine(&self_metrics);
    let following = Following::with(engine.clone(), self_metrics, NEVER);
    following.knows('a', |_| true).await;
    fake.world().containers.extend([container('b', "new", "running")]);
    engine.doubts().raise([(id('b'), Seen::Running)]);
    following.knows('b', |info| info.name == "new").await;
    eventually(|| fake.requests("/events") == 2).await;

    fake.world().containers.extend([container('a', "web", "exited")]);
    engine.doubts().raise([(id('a'), Seen::Ended)]);
    following.knows('a', |info| info.state == State::Exited).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_is_noticed_by_the_sign_of_life() {
    let fake = Fake::start([container('b', "web", "running")]);
    let following = Following::start(&fake, NEVER);
    following.knows('b', |_| true).await;
    fake.world().containers.extend([container('a', "new", "running")]);
    following.knows('a', |info| info.name == "new").await;
}

#[tokio::test]
async fn ids_that_the_engine_does_not_know_cost_a_list_and_no_inspection() {
    let fake = Fake::start([container('a', "web", "running")]);
    let self_metrics = SelfMetrics::new().unwrap();
    let engine = fake.engine(&self_metrics);
    let following = Following::with(engine.clone(), self_metrics, NEVER);
    following.knows('a', |_| true).await;
    eventually(|| fake.subscribers() == 1).await;
    sleep(Duration::from_millis(100)).await;
    let (lists, inspections) = (fake.requests("all=1"), fake.requests("/json") - fake.requests("/containers/json"));
    let unknown = (0..10_000).map(|n| ContainerId::parse(format!("{n:064}").as_bytes()).unwrap());
    for _ in 0..20 {
        engine.doubts().raise(unknown.clone().map(|id| (id, Seen::Running)));
        sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=2).contains(&(fake.requests("all=1") - lists)), "{}", fake.requests("all=1") - lists);
    assert_eq!(fake.requests("/json") - fake.requests("/containers/json"), inspections);
}

#[tokio::test]
async fn refused_inspections_are_not_asked_for_at_every_list() {
    let letters = "abcdef0123456789";
    let fake = Fake::start(letters.chars().map(|letter| container(letter, "web", "running")));
    fake.world().allows = |target| !target.ends_with("/json");
    let following = Following::start(&fake, Duration::from_millis(50));
    eventually(|| fake.requests("all=1") > 4).await;
    assert!(following.up());
    let asked = following.requests("inspect", "403");
    let lists = u64::try_from(fake.requests("all=1")).unwrap();
    assert!(asked <= 8 * (lists + 1), "{asked} inspections with {lists} lists");
}
