//! Tests of merging lists, events and inspections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{HEALTH_ROUND, Tracker};
use crate::discover::ContainerId;
use crate::docker::container::ListEntry;
use crate::docker::events::Event;
use crate::docker::fake::{container, id};
use crate::metrics::SelfMetrics;
use crate::name::{
    ContainerFilter, ContainerInfo, ContainerStore, Health, HealthStatus, LabelPolicy, Names, NamingPolicy, OomEvents,
    State,
};

struct Bench {
    tracker: Tracker,
    self_metrics: SelfMetrics,
}

impl Bench {
    fn new() -> Self {
        Self::with(NamingPolicy { labels: LabelPolicy::new(&["*"]).unwrap(), ..NamingPolicy::default() })
    }

    fn with(naming: NamingPolicy) -> Self {
        let self_metrics = SelfMetrics::new().unwrap();
        let store = Arc::new(ContainerStore::new(Duration::from_mins(5)));
        Self { tracker: Tracker::new(store, naming, self_metrics.clone()), self_metrics }
    }

    fn event(&mut self, letter: char, action: &str, attributes: Value) {
        self.event_at(letter, action, 9, attributes);
    }

    fn event_at(&mut self, letter: char, action: &str, time_ns: u64, attributes: Value) {
        let mut all = json!({"name": "web", "image": "bb"});
        if let Value::Object(more) = attributes {
            all.as_object_mut().unwrap().extend(more);
        }
        let value = json!({"Type": "container", "Action": action, "timeNano": time_ns, "Actor":
            {"ID": letter.to_string().repeat(64), "Attributes": all}});
        let event = Event::parse(&value, self.tracker.naming()).unwrap();
        self.tracker.on_event(&event);
    }

    fn listed(&self, letter: char, state: &str, status: &str) -> ListEntry {
        let value = json!({"Id": letter.to_string().repeat(64), "Names": ["/web"], "Image": "bb", "State": state,
            "Status": status});
        ListEntry::parse(&value, self.tracker.naming(), &Names::default()).unwrap()
    }

    fn list(&mut self, list: Vec<ListEntry>) -> bool {
        let now = self.tracker.last_event();
        self.tracker.on_list(list, now, true)
    }

    /// Asks and answers every inspection that is wanted; tells how many there were.
    fn inspect_all(&mut self, answer: impl Fn(ContainerId) -> Value) -> usize {
        let mut count = 0;
        while let Some(id) = self.tracker.next_inspection() {
            let asked = self.tracker.last_event();
            self.tracker.on_inspected(id, asked, Ok(answer(id)));
            count += 1;
        }
        count
    }

    fn info(&self, letter: char) -> Option<Arc<ContainerInfo>> {
        self.tracker.names().containers.get(&id(letter)).cloned()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.self_metrics.series_dropped.with_label_values(&[reason]).get()
    }
}

fn running(_: ContainerId) -> Value {
    container('a', "web", "running").1
}

fn started_at(time: &str, restart_count: u64) -> Value {
    let mut value = running(id('a'));
    value["State"]["StartedAt"] = json!(time);
    value["RestartCount"] = json!(restart_count);
    value
}

#[test]
fn restarts_are_the_engine_s_count() {
    let mut bench = Bench::new();
    let listed = bench.listed('a', "running", "Up 5 seconds");
    bench.list(vec![listed]);
    assert_eq!(bench.info('a').unwrap().restarts, None, "a list does not tell");
    for (start, count) in [("03:00:00", 2), ("03:00:00", 3), ("03:01:00", 3), ("03:02:00", 0), ("03:03:00", 0)] {
        bench.event('a', "start", json!(null));
        bench.inspect_all(|_| started_at(&format!("2026-11-23T{start}Z"), count));
        assert_eq!(bench.info('a').unwrap().restarts, Some(count), "{start} {count}");
    }
    bench.event('a', "start", json!(null));
    bench.inspect_all(|id| {
        let mut value = running(id);
        value.as_object_mut().unwrap().remove("RestartCount");
        value
    });
    assert_eq!(bench.info('a').unwrap().restarts, None, "an engine that does not tell");
}

#[test]
fn while_events_are_refused_young_containers_are_inspected_at_each_list() {
    let mut bench = Bench::new();
    let mut inspections = |status| {
        let listed = bench.listed('a', "running", status);
        bench.list(vec![listed]);
        bench.tracker.events_missed();
        bench.inspect_all(running)
    };
    assert_eq!([inspections("Up 1 second"), inspections("Up 9 seconds"), inspections("Up 3 hours")], [1, 1, 0]);
}

#[test]
fn an_end_that_only_a_list_shows_is_reported_with_the_number_of_restarts() {
    let mut bench = Bench::new();
    for (state, is_reported) in [("running", true), ("restarting", false)] {
        bench.list(vec![bench.listed('a', state, "")]);
        assert_eq!(bench.info('a').unwrap().reported.state, is_reported, "{state}");
        bench.inspect_all(|_| container('a', "web", state).1);
        assert!(bench.info('a').unwrap().reported.state);
    }
}

#[test]
fn a_restarting_container_is_inspected_at_each_list() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.list(vec![bench.listed('a', "restarting", "Restarting (1) 5 seconds ago")]);
        assert_eq!(bench.inspect_all(|_| container('a', "web", "restarting").1), 1);
    }
}

/// A container with labels of the names that events use for their own attributes.
fn disguised(name: &str) -> Value {
    let mut value = container('a', name, "running").1;
    value["Config"]["Labels"] = json!({"name": "ubi8", "image": "base", "signal": "9", "tier": "front"});
    value
}

#[test]
fn attributes_of_events_stand_for_no_labels() {
    for (include, exclude, expected) in [
        (vec!["label:name=ubi8"], vec![], true),
        (vec!["label:image=base"], vec![], true),
        (vec!["label:signal=9", "label:name=no"], vec![], true),
        (vec!["label:name=web*"], vec![], false),
        (vec![], vec!["label:name=ubi8"], false),
        (vec![], vec!["label:name=web*", "label:image=bb"], true),
        (vec!["web", "label:name=no"], vec![], true),
    ] {
        let filter = ContainerFilter::new(&include, &exclude).unwrap();
        let mut bench = Bench::with(NamingPolicy { filter, labels: LabelPolicy::new(&["*"]).unwrap() });
        bench.event('a', "start", json!({"tier": "front"}));
        bench.inspect_all(|_| disguised("web"));
        let labels = bench.info('a').unwrap().labels.clone();
        assert_eq!(labels.len(), 4);
        assert_eq!(bench.info('a').unwrap().selected, expected, "{include:?} {exclude:?}");
        for action in ["die", "start", "rename"] {
            bench.event('a', action, json!({"oldName": "/web", "exitCode": "1", "tier": "front"}));
            let info = bench.info('a').unwrap();
            assert_eq!((info.selected, &info.labels), (expected, &labels), "{include:?} {exclude:?} after {action}");
        }
        bench.inspect_all(|_| disguised("web"));
        assert_eq!(bench.info('a').unwrap().selected, expected, "{include:?} {exclude:?}");
    }
}

#[test]
fn a_rename_is_judged_by_the_new_name() {
    let filter = ContainerFilter::new(&["blue*", "label:keep"], &["*-old"]).unwrap();
    let mut bench = Bench::with(NamingPolicy { filter, ..NamingPolicy::default() });
    bench.event('a', "start", json!(null));
    bench.inspect_all(running);
    for (name, expected) in [("green", false), ("blue", true), ("blue-old", false), ("blue2", true)] {
        bench.event('a', "rename", json!({"name": name, "oldName": "/web"}));
        let info = bench.info('a').unwrap();
        assert_eq!((info.name.as_str(), info.selected), (name, expected));
    }
}

#[test]
fn a_list_gives_the_labels_where_inspections_are_refused() {
    let filter = ContainerFilter::new(&["label:name=ubi8"], &[]).unwrap();
    let mut bench = Bench::with(NamingPolicy { filter, labels: LabelPolicy::new(&["*"]).unwrap() });
    bench.event('a', "start", json!(null));
    assert!(!bench.info('a').unwrap().selected);
    let value = json!({"Id": id('a').to_string(), "Names": ["/web"], "Image": "bb", "State": "running",
        "Status": "Up 2 seconds", "Labels": {"name": "ubi8"}});
    let listed = ListEntry::parse(&value, bench.tracker.naming(), &Names::default()).unwrap();
    bench.list(vec![listed]);
    bench.event('a', "rename", json!({"name": "other", "oldName": "/web"}));
    let info = bench.info('a').unwrap();
    assert_eq!((info.name.as_str(), info.selected, info.labels.len()), ("other", true, 1));
}

#[test]
fn an_event_after_the_removal_revives_only_what_must_exist() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    bench.inspect_all(running);
    bench.event('a', "destroy", json!(null));
    for action in ["oom", "die", "health_status: unhealthy", "exec_die"] {
        bench.event('a', action, json!({"exitCode": "137"}));
        assert!(bench.info('a').unwrap().removed.is_some(), "{action}");
    }
    assert!(bench.tracker.next_inspection().is_none(), "what is gone is not asked about");
    let info = bench.info('a').unwrap();
    assert_eq!((info.state, info.exit_code), (State::Exited, Some(137)));
    bench.event('a', "start", json!(null));
    let info = bench.info('a').unwrap();
    assert_eq!((info.state, info.removed, info.exit_code), (State::Running, None, None));
    assert_eq!(bench.inspect_all(running), 1);
}

#[test]
fn events_out_of_order_do_not_change_the_state() {
    let mut bench = Bench::new();
    bench.event_at('a', "die", 20, json!({"exitCode": "3"}));
    bench.event_at('a', "start", 10, json!(null));
    assert_eq!((bench.info('a').unwrap().state, bench.info('a').unwrap().exit_code), (State::Exited, Some(3)));
    bench.event_at('a', "start", 40, json!(null));
    bench.event_at('a', "die", 30, json!({"exitCode": "4"}));
    bench.event_at('a', "oom", 30, json!(null));
    let info = bench.info('a').unwrap();
    assert_eq!((info.state, info.exit_code, info.oom_killed), (State::Running, None, false));
    assert_eq!(bench.inspect_all(running), 1, "the engine has the last word");
    // The engine's clock was set back: two events later it is trusted again.
    bench.event_at('a', "die", 2, json!({"exitCode": "5"}));
    bench.event_at('a', "start", 3, json!(null));
    bench.event_at('a', "die", 4, json!({"exitCode": "6"}));
    assert_eq!(bench.info('a').unwrap().exit_code, Some(6));
}

#[test]
fn a_start_names_an_unknown_container_before_its_inspection() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!({"tier": "front"}));
    let info = bench.info('a').unwrap();
    assert_eq!((info.name.as_str(), info.image.as_str(), info.state), ("web", "bb", State::Running));
    assert_eq!(info.labels, [("container_label_tier".to_owned(), "front".to_owned())]);
    assert_eq!(bench.inspect_all(running), 1);
    assert_eq!(bench.info('a').unwrap().limits.memory_bytes, Some(1024));
}

#[test]
fn a_burst_of_events_costs_one_inspection() {
    let mut bench = Bench::new();
    for action in ["create", "start", "die", "start", "update", "restart"] {
        bench.event('a', action, json!(null));
    }
    assert_eq!(bench.inspect_all(running), 1);
}

#[test]
fn an_inspection_older_than_an_event_is_not_believed() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    let asked = bench.tracker.last_event();
    let id = bench.tracker.next_inspection().unwrap();
    bench.event('a', "die", json!({"exitCode": "3"}));
    bench.tracker.on_inspected(id, asked, Ok(running(id)));
    assert_eq!((bench.info('a').unwrap().state, bench.info('a').unwrap().exit_code), (State::Exited, Some(3)));
    assert_eq!(bench.inspect_all(|_| container('a', "web", "exited").1), 1, "it is asked for again");
}

#[test]
fn a_list_older_than_an_event_neither_revives_nor_removes() {
    let mut bench = Bench::new();
    let asked = bench.tracker.last_event();
    let gone = bench.listed('b', "running", "Up 1 second");
    bench.event('a', "start", json!(null));
    bench.event('b', "destroy", json!(null));
    bench.tracker.on_list(vec![gone], asked, true);
    assert_eq!(bench.info('a').unwrap().removed, None);
    assert!(bench.info('b').is_none());
}

#[test]
fn an_unchanged_list_asks_for_nothing() {
    let mut bench = Bench::new();
    let list = |bench: &mut Bench, state: &str, status: &str| {
        let listed = bench.listed('a', state, status);
        let has_news = bench.list(vec![listed]);
        (has_news, bench.inspect_all(running))
    };
    assert_eq!(list(&mut bench, "running", "Up 5 seconds"), (true, 1));
    let generation = bench.tracker.names().generation;
    assert_eq!(list(&mut bench, "running", "Up 2 minutes"), (false, 0));
    assert_eq!(bench.tracker.names().generation, generation);
    assert_eq!(list(&mut bench, "running", "Up 3 seconds"), (true, 1), "it was restarted");
    assert_eq!(list(&mut bench, "paused", "Up 4 seconds (Paused)"), (true, 1));
    assert_eq!(list(&mut bench, "running", "Up 5 seconds (unhealthy)"), (true, 1));
}

#[test]
fn what_events_did_not_tell_is_healed_by_the_list() {
    let mut bench = Bench::new();
    let first = vec![bench.listed('a', "running", "Up 5 seconds"), bench.listed('b', "running", "Up 5 seconds")];
    bench.list(first);
    bench.inspect_all(|id| container(if id == super::super::fake::id('a') { 'a' } else { 'b' }, "web", "running").1);
    let second = vec![bench.listed('a', "exited", "Exited (7) 2 seconds ago")];
    assert!(bench.list(second));
    let (dead, gone) = (bench.info('a').unwrap(), bench.info('b').unwrap());
    assert_eq!((dead.state, dead.exit_code, dead.pid), (State::Exited, Some(7), None));
    assert_eq!(gone.state, State::Removing);
    assert!(gone.removed.is_some());
}

#[test]
fn a_failing_health_check_is_asked_about_at_each_list() {
    let mut bench = Bench::new();
    let sick = |_| {
        let mut value = container('a', "web", "running").1;
        value["State"]["Health"] = json!({"Status": "unhealthy", "FailingStreak": 5});
        value
    };
    for expected in [1, 1, 1] {
        let listed = bench.listed('a', "running", "Up 5 seconds (unhealthy)");
        bench.list(vec![listed]);
        assert_eq!(bench.inspect_all(sick), expected);
    }
    assert_eq!(bench.info('a').unwrap().health.unwrap().failing_streak, Some(5));
}

#[test]
fn cut_labels_are_counted_once_per_container() {
    let mut bench = Bench::new();
    let labels: serde_json::Map<_, _> = (0..100).map(|n| (format!("l{n:03}"), json!("v".repeat(2000)))).collect();
    let hostile = |_| {
        let mut value = container('a', "web", "running").1;
        value["Config"]["Labels"] = Value::Object(labels.clone());
        value
    };
    for _ in 0..3 {
        bench.event('a', "update", Value::Object(labels.clone()));
        bench.inspect_all(hostile);
    }
    assert_eq!((bench.dropped("label_limit"), bench.dropped("label_value_length")), (36, 64));
}

#[test]
fn changed_limits_are_told_to_their_reader() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    bench.inspect_all(running);
    assert_eq!(bench.tracker.store.take_updated(), [], "they were not known before");
    bench.event('a', "update", json!(null));
    assert_eq!(bench.tracker.store.take_updated(), [id('a')], "whatever was changed");
    bench.inspect_all(|id| {
        let mut value = running(id);
        value["HostConfig"]["Memory"] = json!(2048);
        value
    });
    assert_eq!(bench.tracker.store.take_updated(), [id('a')]);
    assert_eq!(bench.info('a').unwrap().limits.memory_bytes, Some(2048));
}

#[test]
fn an_oom_kill_seen_stays_until_the_next_start() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    bench.event('a', "oom", json!(null));
    bench.inspect_all(running);
    assert!(bench.info('a').unwrap().oom_killed, "engines deny it while the container runs");
    bench.event('a', "start", json!(null));
    bench.inspect_all(|_| started_at("2026-11-23T03:00:00Z", 1));
    let info = bench.info('a').unwrap();
    assert_eq!((info.oom_killed, info.restarts), (false, Some(1)));
}

#[test]
fn after_an_outage_what_was_on_the_way_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    assert!(bench.tracker.next_inspection().is_some());
    bench.tracker.disconnected();
    assert!(bench.tracker.next_inspection().is_none());
    let listed = bench.listed('a', "running", "Up 5 seconds");
    bench.list(vec![listed]);
    assert_eq!(bench.inspect_all(running), 1);
}

#[test]
fn after_an_outage_the_young_are_asked_about_whatever_their_state_says() {
    let mut bench = Bench::new();
    let list = |bench: &mut Bench, status| {
        let listed = bench.listed('a', "running", status);
        bench.list(vec![listed]);
        bench.inspect_all(|_| started_at("2026-11-23T03:00:00Z", 0))
    };
    assert_eq!(list(&mut bench, "Up 1 second"), 1);
    // Restarted in the outage, and older by now than it was in the list before.
    bench.tracker.disconnected();
    assert_eq!(list(&mut bench, "Up 9 seconds"), 1);
    assert_eq!(list(&mut bench, "Up 9 seconds"), 0, "no outage, no doubt");
    bench.tracker.disconnected();
    assert_eq!(list(&mut bench, "Up 3 hours"), 0, "it has been up since before the outage");
}

#[test]
fn a_failed_inspection_is_tried_again_a_few_times() {
    let mut bench = Bench::new();
    bench.event('a', "start", json!(null));
    let mut tries = 0;
    for _ in 0..10 {
        while let Some(id) = bench.tracker.next_inspection() {
            tries += 1;
            let error = super::Error::Refused { engine: "unix:///x".to_owned() };
            let now = bench.tracker.last_event();
            bench.tracker.on_inspected(id, now, Err(error));
        }
        bench.tracker.tidy();
    }
    assert_eq!(tries, 3);
}

#[test]
fn oom_events_are_counted_by_run() {
    let mut bench = Bench::new();
    bench.event_at('a', "start", 10, json!(null));
    assert_eq!(bench.info('a').unwrap().oom_events, None, "no subscription yet");
    bench.tracker.subscribed();
    bench.event_at('a', "oom", 20, json!(null));
    bench.event_at('a', "oom", 21, json!(null));
    bench.event_at('a', "die", 22, json!({"exitCode": "137"}));
    bench.event_at('a', "oom", 23, json!(null));
    bench.event_at('a', "start", 30, json!(null));
    let expected = |earlier, previous, current| Some(OomEvents { runs: 2, earlier, previous, current });
    assert_eq!(bench.info('a').unwrap().oom_events, expected(3, 3, 0));
    bench.event_at('a', "oom", 24, json!(null));
    bench.event_at('a', "oom", 40, json!(null));
    bench.inspect_all(running);
    assert_eq!(bench.info('a').unwrap().oom_events, expected(4, 4, 1), "an inspection changes nothing");
    bench.event('a', "destroy", json!(null));
    assert_eq!(bench.info('a').unwrap().oom_events, expected(4, 4, 1));
    bench.event('b', "start", json!(null));
    assert_eq!(bench.info('b').unwrap().oom_events.unwrap().total(), 0);
}

#[test]
fn failing_health_checks_are_asked_about_while_somebody_scrapes() {
    let mut bench = Bench::new();
    let health = |status: &'static str| {
        move |_| {
            let mut value = container('a', "web", "running").1;
            value["State"]["Health"] = json!({"Status": status, "FailingStreak": 5});
            value
        }
    };
    bench.event('a', "start", json!(null));
    bench.inspect_all(health("unhealthy"));
    let mut round = |seconds, scraped: bool, status| {
        let now = Instant::now() + Duration::from_secs(seconds);
        if scraped {
            bench.tracker.store.scraped(now);
        }
        bench.tracker.refresh_health(now);
        bench.inspect_all(health(status))
    };
    assert_eq!(round(3, false, "starting"), 1, "the start counts as a scrape");
    assert_eq!(round(60, false, "starting"), 0, "nobody scrapes");
    assert_eq!(round(61, true, "starting"), 1);
    assert_eq!(round(90, false, "healthy"), 1);
    assert_eq!(round(91, true, "healthy"), 0, "a healthy one's events tell all");
}

#[test]
fn health_rounds_are_bounded_and_reach_every_container() {
    let mut bench = Bench::new();
    let count = 2 * HEALTH_ROUND + 1;
    for number in 0..count {
        let id = ContainerId::parse(format!("{number:064x}").as_bytes()).unwrap();
        let health = Some(Health { status: HealthStatus::Unhealthy, failing_streak: Some(1) });
        bench.tracker.histories.entry(id).or_default();
        bench.tracker.store.upsert(ContainerInfo { state: State::Running, health, ..ContainerInfo::unknown(id) });
    }
    let mut asked = std::collections::HashSet::new();
    for _ in 0..3 {
        bench.tracker.refresh_health(Instant::now());
        let mut round = 0;
        while let Some(id) = bench.tracker.next_inspection() {
            asked.insert(id);
            bench.tracker.requested.remove(&id);
            round += 1;
        }
        assert_eq!(round, HEALTH_ROUND);
    }
    assert_eq!(asked.len(), count);
}
