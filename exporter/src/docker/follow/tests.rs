//! Tests of the follower against a scripted engine, and proxies that cut, refuse, hang or answer nonsense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::follow;
use crate::discover::ContainerId;
use crate::docker::fake::{Fake, Odd, container, id};
use crate::docker::{Engine, Seen, Stats};
use crate::metrics::SelfMetrics;
use crate::name::{ContainerInfo, ContainerStore, LabelPolicy, NamingPolicy, State};

/// A follower at work.
struct Following {
    store: Arc<ContainerStore>,
    self_metrics: SelfMetrics,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Following {
    fn start(fake: &Fake, resync: Duration) -> Self {
        let self_metrics = SelfMetrics::new().unwrap();
        Self::with(fake.engine(&self_metrics), self_metrics, resync)
    }

    fn with(engine: Engine, self_metrics: SelfMetrics, resync: Duration) -> Self {
        let store = Arc::new(ContainerStore::new(Duration::from_mins(5)));
        let (stop, stopped) = oneshot::channel();
        let naming = NamingPolicy { labels: LabelPolicy::new(&["*"]).unwrap(), ..NamingPolicy::default() };
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(follow(engine, Arc::clone(&store), naming, resync, stopped));
        Self { store, self_metrics, task, stop }
    }

    fn info(&self, letter: char) -> Option<Arc<ContainerInfo>> {
        self.store.names().containers.get(&id(letter)).cloned()
    }

    fn up(&self) -> bool {
        self.self_metrics.engine_up("").get()
    }

    /// Waits for the inspection of a container too.
    async fn knows(&self, letter: char, what: impl Fn(&ContainerInfo) -> bool) {
        eventually(|| self.info(letter).is_some_and(|info| info.limits.memory_bytes.is_some() && what(&info))).await;
    }

    fn events(&self, action: &str) -> u64 {
        self.self_metrics.docker_events.with_label_values(&[action]).get()
    }

    fn requests(&self, endpoint: &str, code: &str) -> u64 {
        self.self_metrics.docker_requests.with_label_values(&[endpoint, code]).get()
    }
}

const NEVER: Duration = Duration::from_hours(1);

async fn eventually(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_mins(1), "did not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn existing_containers_are_listed_and_inspected() {
    let fake = Fake::start([container('a', "web", "running"), container('b', "job", "exited")]);
    let following = Following::start(&fake, NEVER);
    following.knows('a', |info| info.name == "web" && info.pid == Some(7)).await;
    following.knows('b', |info| info.state == State::Exited && info.exit_code == Some(0)).await;
    assert!(following.up() && following.store.is_settled());
    eventually(|| following.requests("events", "200") == 1).await;
    assert_eq!(following.requests("inspect", "200"), 2, "the second list asks for nothing");
    eventually(|| following.requests("newest", "200") > 2).await;
    let listed = following.requests("list", "200");
    assert!(listed >= 1 && listed <= fake.requests("all=1") as u64, "signs of life are no lists: {listed}");
}

#[tokio::test]
async fn a_container_s_life_is_followed_by_events() {
    let fake = Fake::start([]);
    let following = Following::start(&fake, NEVER);
    // The second list is over: from here on only events tell.
    eventually(|| following.up() && following.requests("events", "200") == 1).await;

    let (key, value) = container('a', "web", "running");
    fake.world().containers.insert(key.clone(), value);
    fake.emit('a', "start", json!({"name": "web"}));
    eventually(|| following.info('a').is_some_and(|info| info.name == "web")).await;
    following.knows('a', |info| info.state == State::Running).await;

    fake.emit('a', "pause", json!(null));
    eventually(|| following.info('a').unwrap().state == State::Paused).await;
    fake.emit('a', "unpause", json!(null));
    fake.emit('a', "rename", json!({"name": "shop", "oldName": "/web"}));
    eventually(|| following.info('a').unwrap().name == "shop").await;
    fake.world().hangs_at = Some(format!("{key}/json"));
    fake.emit('a', "die", json!({"exitCode": "3", "name": "shop"}));
    eventually(|| following.info('a').unwrap().exit_code == Some(3)).await;
    fake.emit('a', "destroy", json!({"name": "shop"}));
    eventually(|| following.info('a').unwrap().removed.is_some()).await;
    assert_eq!(following.info('a').unwrap().state, State::Exited);
    assert_eq!(following.self_metrics.docker_events.with_label_values(&["pause"]).get(), 1);
}

#[tokio::test]
async fn a_hanging_engine_is_down_and_comes_back_by_itself() {
    let fake = Fake::start([container('a', "web", "running")]);
    let following = Following::start(&fake, NEVER);
    following.knows('a', |_| true).await;
    fake.world().hangs_at = Some("/".to_owned());
    eventually(|| !following.up()).await;
    assert!(following.info('a').is_some(), "known names are kept");
    assert!(following.requests("newest", "timeout") >= 1);
    fake.world().hangs_at = None;
    eventually(|| following.up()).await;
}

#[tokio::test]
async fn an_engine_that_comes_late_is_found() {
    let fake = Fake::start([container('a', "web", "running")]);
    let (socket, aside) = (fake.socket(), fake.socket().with_extension("aside"));
    std::fs::rename(&socket, &aside).unwrap();
    let following = Following::start(&fake, NEVER);
    sleep(Duration::from_millis(150)).await;
    assert!(!following.up() && following.store.is_settled(), "nobody waits for a list that cannot be had");
    std::fs::rename(&aside, &socket).unwrap();
    following.knows('a', |_| true).await;
}

#[tokio::test]
async fn after_the_event_stream_ends_a_new_one_is_opened_and_missed_changes_are_found() {
    let fake = Fake::start([container('a', "web", "running")]);
    let following = Following::start(&fake, NEVER);
    following.knows('a', |_| true).await;
    fake.world().containers.clear();
    fake.world().containers.extend([container('b', "other", "running")]);
    fake.end_events();
    following.knows('b', |info| info.name == "other").await;
    assert!(following.info('a').unwrap().removed.is_some());
    eventually(|| fake.subscribers() == 1).await;
}

#[tokio::test]
async fn a_dead_event_stream_is_healed_by_the_next_list() {
    let fake = Fake::start([container('a', "web", "running")]);
    let following = Following::start(&fake, Duration::from_millis(100));
    following.knows('a', |_| true).await;
    eventually(|| fake.requests("all=1") > 3).await;
    assert_eq!((fake.requests("/events"), fake.requests(&"a".repeat(64))), (1, 1));
    fake.world().containers.extend([container('b', "other", "running")]);
    following.knows('b', |_| true).await;
    eventually(|| fake.requests("/events") == 2).await;
}

#[tokio::test]
async fn old_and_new_engines_agree_on_a_version() {
    for api in [(12, 40), (12, 41), (24, 44), (44, 52), (50, 60)] {
        let fake = Fake::start([container('a', "web", "running")]);
        fake.world().api = api;
        let following = Following::start(&fake, NEVER);
        following.knows('a', |_| true).await;
    }
}

/// What a read-only socket proxy lets through.
fn read_only(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let inspection = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json"));
    matches!(path, "/version" | "/events" | "/containers/json") || inspection.is_some_and(|id| id.len() == 64)
}

fn only_with_prefix(target: &str) -> bool {
    let rest = target.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| rest.split_at(at).1));
    rest.is_some_and(read_only)
}

fn with_or_without_prefix(target: &str) -> bool {
    read_only(target) || only_with_prefix(target)
}

#[tokio::test]
async fn a_read_only_proxy_is_enough() {
    for allows in [read_only, only_with_prefix, with_or_without_prefix] {
        let fake = Fake::start([container('a', "web", "running")]);
        fake.world().allows = allows;
        let following = Following::start(&fake, NEVER);
        following.knows('a', |_| true).await;
        eventually(|| fake.subscribers() == 1).await;
        sleep(Duration::from_millis(150)).await;
        assert!(following.up(), "signs of life are allowed too");
    }
}

#[tokio::test]
async fn without_events_the_list_is_asked_for_more_often() {
    let fake = Fake::start([container('a', "web", "running")]);
    fake.world().allows = |target| !target.contains("/events");
    let following = Following::start(&fake, NEVER);
    following.knows('a', |_| true).await;
    fake.world().containers.extend([container('b', "other", "running")]);
    following.knows('b', |_| true).await;
    assert!(following.up());
    assert_eq!(following.requests("events", "403"), 1);
}

#[tokio::test]
async fn without_inspection_names_and_states_are_still_known() {
    let fake = Fake::start([container('a', "web", "running")]);
    fake.world().allows = |target| !target.contains(&"a".repeat(64));
    let following = Following::start(&fake, NEVER);
    eventually(|| following.info('a').is_some_and(|info| info.name == "web" && info.state == State::Running)).await;
    eventually(|| following.requests("inspect", "403") >= 1).await;
}

#[tokio::test]
async fn one_container_that_cannot_be_inspected_costs_only_itself() {
    let fake = Fake::start("abcdef".chars().map(|letter| container(letter, "web", "running")));
    fake.world().hangs_at = Some(format!("{}/json", "c".repeat(64)));
    let following = Following::start(&fake, NEVER);
    for letter in "abdef".chars() {
        following.knows(letter, |_| true).await;
    }
    assert_eq!(following.info('c').unwrap().name, "web");
    assert!(following.up());
}

#[tokio::test]
async fn odd_entries_of_the_list_cost_only_themselves() {
    let fake = Fake::start([container('a', "web", "running"), container('b', "pod", "running")]);
    let list = json!([
        {"Id": "a".repeat(64), "Names": ["/web"], "State": "stopping", "Status": "", "Created": "2026", "Ports": null},
        {"Id": 7}, {"Id": "short"}, {},
        {"Id": "b".repeat(64), "Names": null, "State": "frobbed", "Labels": {"a": 1, "b": null}, "Health": []},
    ]);
    fake.world().list = Some(list.to_string());
    let following = Following::start(&fake, NEVER);
    following.knows('a', |info| info.name == "web").await;
    following.knows('b', |info| info.name == "pod").await;
    assert_eq!(following.store.names().containers.len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_no_list_removes_nothing() {
    let fake = Fake::start([container('a', "web", "running")]);
    let following = Following::start(&fake, Duration::from_millis(100));
    following.knows('a', |_| true).await;
    for nonsense in ["", "<html>busy</html>", "{}", "[{\"Id\":"] {
        fake.world().list = Some(nonsense.to_owned());
        eventually(|| !following.up()).await;
        assert_eq!(following.info('a').unwrap().removed, None, "{nonsense}");
        fake.world().list = None;
        eventually(|| following.up()).await;
    }
}

#[tokio::test]
async fn hostile_labels_are_bounded() {
    let mut labels: serde_json::Map<_, _> = (0..2000).map(|n| (format!("l{n}"), json!("v"))).collect();
    labels.extend((0..4).map(|n| (format!("a\"\n{n}"), json!("x".repeat(64 << 10)))));
    let (key, mut value) = container('a', "web", "running");
    value["Config"]["Labels"] = Value::Object(labels);
    let fake = Fake::start([(key, value)]);
    let following = Following::start(&fake, NEVER);
    following.knows('a', |info| info.labels.len() == 64).await;
    let info = following.info('a').unwrap();
    assert!(info.labels.iter().all(|(name, value)| name.len() <= 128 && value.len() <= 1024));
    assert_eq!(following.self_metrics.series_dropped.with_label_values(&["label_limit"]).get(), 2004 - 64);
}

#[tokio::test]
async fn the_cgroup_driver_is_asked_for_in_the_background_and_only_where_it_is_wanted() {
    let fake = Fake::start([container('a', "web", "running")]);
    let following = Following::start(&fake, NEVER);
    following.knows('a', |_| true).await;
    assert_eq!(fake.requests("/info"), 0);

    let fake = Fake::start([container('a', "web", "running")]);
    fake.world().hangs_at = Some("/info".to_owned());
    let self_metrics = SelfMetrics::new().unwrap();
    let engine = fake.engine(&self_metrics);
    let stats = Stats::new(engine.clone(), 1);
    let following = Following::with(engine, self_metrics, NEVER);
    following.knows('a', |_| true).await;
    assert!(following.up() && !stats.uses_systemd());
    sleep(Duration::from_millis(500)).await;
    assert!(following.up(), "an engine that answers everything else is not down");
    assert_eq!(fake.requests("/info"), 1, "asked once");

    let fake = Fake::start([container('a', "web", "running")]);
    let self_metrics = SelfMetrics::new().unwrap();
    let engine = fake.engine(&self_metrics);
    let stats = Stats::new(engine.clone(), 1);
    let following = Following::with(engine, self_metrics, NEVER);
    following.knows('a', |_| true).await;
    assert!(stats.uses_systemd(), "known before the first names");
}

#[tokio::test]
async fn stopping_leaves_nothing_behind() {
    let fake = Fake::start([container('a', "web", "running")]);
    fake.world().hangs_at = Some(format!("{}/json", "a".repeat(64)));
    let following = Following::start(&fake, NEVER);
    eventually(|| fake.connections() == 2 && following.up()).await;
    following.stop.send(()).unwrap();
    following.task.await.unwrap();
    eventually(|| fake.connections() == 0).await;
}

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
