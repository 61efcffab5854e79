//! Tests of which containers are exposed, for how long, and under which names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ExposedSet, LiveContainer};
use crate::discover::{ContainerId, IdFilter};
use crate::name::{ContainerFilter, ContainerInfo, Moment, Names, OomEvents, Reported, State};
use crate::read::{Limits, Sample};

const LINGER: Duration = Duration::from_mins(5);
const YEAR_NS: u64 = 365 * 86_400 * 1_000_000_000;

fn id(letter: char) -> ContainerId {
    ContainerId::parse(letter.to_string().repeat(64).as_bytes()).unwrap()
}

fn running(letter: char, name: &str) -> ContainerInfo {
    ContainerInfo {
        name: name.to_owned(),
        state: State::Running,
        reported: Reported::ALL,
        ..ContainerInfo::unknown(id(letter))
    }
}

/// An exposed set with the engine's report and a clock, both of which the test sets.
struct Bench {
    exposed_set: ExposedSet,
    names: Names,
    now: Moment,
    in_tree: bool,
    generation: u64,
    oom_kills: Option<u64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            exposed_set: ExposedSet::new(Arc::new(ContainerFilter::default()), LINGER, true),
            names: Names::default(),
            now: Moment { wall_ns: 2 * YEAR_NS, ..Moment::now() },
            in_tree: true,
            generation: 1,
            oom_kills: None,
        }
    }

    fn knows(&mut self, info: ContainerInfo) {
        self.names.containers.insert(info.id, Arc::new(info));
    }

    fn later(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        self.now.wall_ns += seconds * 1_000_000_000;
    }

    /// A pass in which these containers run; returns what is exposed: id, when last seen in seconds, `container` label.
    fn pass(&mut self, live: &[char]) -> BTreeMap<char, (Option<u64>, String)> {
        let (sample, limits) = (Sample::default(), Limits::default());
        let paths: Vec<_> = live.iter().map(|letter| (*letter, format!("/docker/{}", id(*letter)))).collect();
        let all = || {
            paths.iter().map(|(letter, path)| LiveContainer {
                id: id(*letter),
                path,
                named: true,
                sample: &sample,
                limits: &limits,
                generation: self.generation,
                oom_kills: self.oom_kills,
            })
        };
        self.exposed_set.update(all(), &self.names, self.now, self.in_tree);
        let letter = |text: &str| text.chars().next().unwrap();
        let exposed = self.exposed_set.exposed(all(), &self.names, IdFilter::all());
        let described = exposed.iter().map(|one| {
            let id = one.info.map_or_else(|| "unnamed".to_owned(), |info| info.id.to_string());
            let label = one
                .labels
                .of
                .unwrap()
                .docker_stats()
                .trim_start_matches("container=\"")
                .trim_end_matches('"')
                .to_owned();
            (letter(&id), (one.last_seen_ms.map(|ms| ms / 1000), label))
        });
        described.collect()
    }

    /// A pass; returns the kills of container `a` over all runs.
    fn oom_kills(&mut self, live: &[char]) -> Option<u64> {
        self.pass(live);
        let info = self.names.containers.get(&id('a')).map(|info| &**info);
        let entry = self.exposed_set.entries.get(&id('a')).filter(|entry| entry.shown == self.exposed_set.pass)?;
        entry.oom_kills(info, entry.ran == self.exposed_set.pass)
    }

    fn label(&mut self, live: &[char], letter: char) -> String {
        self.pass(live)[&letter].1.clone()
    }
}

#[test]
fn the_wall_clock_neither_ends_nor_prolongs_the_linger_time() {
    for (removed, forward) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut bench = Bench::new();
        bench.knows(running('a', "web"));
        bench.pass(&['a']);
        let gone = Some(bench.now);
        let ended = ContainerInfo { state: State::Exited, finished: gone, ..running('a', "web") };
        bench.knows(ContainerInfo { removed: gone.filter(|_| removed), ..ended });
        bench.now.wall_ns = if forward { 3 * YEAR_NS } else { YEAR_NS };
        bench.later(299);
        assert_eq!(bench.pass(&[]).len(), 1, "removed: {removed}, forward: {forward}");
        bench.later(2);
        assert_eq!(bench.pass(&[]).len(), 0, "removed: {removed}, forward: {forward}");
    }
}

#[test]
fn a_container_that_no_engine_knows_lingers_by_the_monotonic_clock() {
    for wall_ns in [YEAR_NS, 3 * YEAR_NS] {
        let mut bench = Bench::new();
        bench.pass(&['a']);
        bench.now.wall_ns = wall_ns;
        bench.later(299);
        assert_eq!(bench.pass(&[]).len(), 1);
        bench.later(2);
        assert_eq!(bench.pass(&[]).len(), 0);
    }
}

#[test]
fn an_end_before_our_start_lingers_by_its_age() {
    let mut bench = Bench::new();
    let finished =
        |bench: &Bench, seconds: u64| Some(Moment::at_wall(bench.now.wall_ns - seconds * 1_000_000_000, bench.now));
    let ended = |letter, finished| ContainerInfo { state: State::Exited, finished, ..running(letter, "job") };
    bench.knows(ended('a', finished(&bench, 200)));
    bench.knows(ended('b', finished(&bench, 400)));
    let to_come = Some(Moment::at_wall(bench.now.wall_ns + YEAR_NS, bench.now));
    bench.knows(ended('c', to_come));
    assert_eq!(bench.pass(&[]).into_keys().collect::<String>(), "ac");
    // Its removal does not bring it back.
    bench.knows(ContainerInfo { removed: Some(bench.now), ..ended('b', finished(&bench, 400)) });
    bench.later(101);
    assert_eq!(bench.pass(&[]).into_keys().collect::<String>(), "c");
    bench.later(200);
    assert_eq!(bench.pass(&[]).len(), 0, "an end to come counts from when it was heard");
}

#[test]
fn last_seen_stands_still_once_the_cgroup_is_gone_whatever_the_engine_says() {
    let mut bench = Bench::new();
    bench.knows(running('a', "web"));
    let seen = bench.pass(&['a'])[&'a'].0;
    for _ in 0..3 {
        bench.later(600);
        assert_eq!(bench.pass(&[])[&'a'].0, seen);
    }
    assert!(bench.pass(&['a'])[&'a'].0 > seen, "its cgroup came back");
}

#[test]
fn a_running_container_without_a_cgroup_is_seen_only_where_cgroups_of_the_engine_cannot_be() {
    let mut bench = Bench::new();
    bench.knows(running('a', "web"));
    let first = bench.pass(&['e'])[&'a'].0.unwrap();
    bench.later(60);
    let second = bench.pass(&['e'])[&'a'].0.unwrap();
    assert_eq!(second, first + 60, "the engine is another one than the tree's");
    bench.knows(running('b', "db"));
    bench.later(60);
    assert_eq!(bench.pass(&['b'])[&'a'].0, Some(second), "its containers are in the tree, but not this one");

    let mut api = Bench::new();
    api.in_tree = false;
    api.knows(running('a', "web"));
    let first = api.pass(&['a'])[&'a'].0.unwrap();
    api.later(60);
    assert_eq!(api.pass(&[])[&'a'].0, Some(first + 60), "no reading in time");
}

#[test]
fn a_name_has_one_series_in_the_predecessor_s_schema() {
    let mut bench = Bench::new();
    let removed = |letter, bench: &Bench| ContainerInfo {
        state: State::Exited,
        removed: Some(bench.now),
        ..running(letter, "web")
    };
    bench.knows(removed('a', &bench));
    assert_eq!(bench.label(&[], 'a'), "web", "nobody else has it");
    bench.later(1);
    bench.knows(removed('b', &bench));
    let labels = bench.pass(&[]);
    assert_eq!((labels[&'a'].1.as_str(), labels[&'b'].1.as_str()), ("", "web"), "the one that was removed last");
    bench.knows(running('c', "web"));
    let labels = bench.pass(&['c']);
    assert_eq!([&labels[&'a'].1, &labels[&'b'].1, &labels[&'c'].1], ["", "", "web"]);
    bench.knows(running('c', "web-old"));
    let labels = bench.pass(&['c']);
    assert_eq!([&labels[&'a'].1, &labels[&'b'].1, &labels[&'c'].1], ["", "web", "web-old"]);
}

#[test]
fn containers_that_exist_and_share_a_name_are_labelled_by_id() {
    let mut bench = Bench::new();
    bench.knows(ContainerInfo { state: State::Exited, finished: Some(bench.now), ..running('a', "web") });
    bench.knows(running('b', "web"));
    bench.knows(ContainerInfo { started_ns: Some(5), ..running('c', "web") });
    let labels = bench.pass(&['b', 'c']);
    assert_eq!(
        [&labels[&'a'].1, &labels[&'b'].1, &labels[&'c'].1],
        [&id('a').to_string(), &id('b').to_string(), "web"]
    );
    // The rename that was on its way.
    bench.knows(running('b', "db"));
    let labels = bench.pass(&['b', 'c']);
    assert_eq!((labels[&'b'].1.as_str(), labels[&'c'].1.as_str()), ("db", "web"));
}

#[test]
fn a_name_that_is_an_id_is_nobody_s_label() {
    let mut bench = Bench::new();
    bench.knows(running('a', ""));
    bench.knows(running('b', &id('a').to_string()));
    let labels = bench.pass(&['a', 'b']);
    assert_eq!([&labels[&'a'].1, &labels[&'b'].1], [&id('a').to_string(), &id('b').to_string()]);
}

#[test]
fn a_container_that_is_filtered_out_has_no_claim_to_a_name() {
    let mut bench = Bench::new();
    bench.knows(ContainerInfo { selected: false, ..running('a', "web") });
    bench.knows(ContainerInfo { state: State::Exited, removed: Some(bench.now), ..running('b', "web") });
    let exposed = bench.pass(&['a']);
    assert_eq!((exposed.len(), exposed[&'b'].1.as_str()), (1, "web"));
}

#[test]
fn oom_kills_are_exposed_while_a_container_runs_or_waits_for_its_restart() {
    let events = |runs, earlier, previous, current| Some(OomEvents { runs, earlier, previous, current });
    let mut bench = Bench::new();
    bench.knows(running('a', "web"));
    assert_eq!(bench.oom_kills(&['a']), None, "neither the kernel nor the engine tells");
    bench.oom_kills = Some(0);
    assert_eq!(bench.oom_kills(&['a']), Some(0));
    bench.oom_kills = Some(1);
    assert_eq!(bench.oom_kills(&['a']), Some(1));
    bench.knows(ContainerInfo { state: State::Restarting, oom_events: events(0, 0, 0, 1), ..running('a', "web") });
    assert_eq!(bench.oom_kills(&[]), Some(1));
    // Neither between the event of an end and the engine's word on it, nor before the cgroup of the next run is there.
    let ended = ContainerInfo { state: State::Exited, oom_events: events(0, 0, 0, 1), ..running('a', "web") };
    bench.knows(ContainerInfo { reported: Reported { state: false, ..Reported::ALL }, ..ended });
    assert_eq!(bench.oom_kills(&[]), Some(1));
    bench.knows(ContainerInfo { oom_events: events(1, 1, 1, 0), ..running('a', "web") });
    assert_eq!(bench.oom_kills(&[]), Some(1));
    bench.knows(ContainerInfo { oom_events: events(2, 2, 1, 0), ..running('a', "web") });
    (bench.generation, bench.oom_kills) = (3, Some(0));
    assert_eq!(bench.oom_kills(&['a']), Some(2));
    // Stopped for longer than it lingers: not exposed, but not forgotten while it exists.
    let stopped = ContainerInfo { state: State::Exited, oom_events: events(2, 2, 1, 0), ..running('a', "web") };
    bench.knows(ContainerInfo { finished: Some(bench.now), ..stopped });
    assert_eq!(bench.oom_kills(&[]), None);
    bench.later(301);
    assert_eq!(bench.pass(&[]).len(), 0);
    bench.knows(ContainerInfo { oom_events: events(3, 2, 0, 0), ..running('a', "web") });
    (bench.generation, bench.oom_kills) = (4, Some(1));
    assert_eq!(bench.oom_kills(&['a']), Some(3));
    bench.names.containers.clear();
    bench.later(301);
    assert_eq!(bench.oom_kills(&[]), None);
    assert_eq!(bench.exposed_set.entries.len(), 0, "gone for good");
}

#[test]
fn an_engine_alone_counts_oom_kills_by_its_events() {
    let mut bench = Bench::new();
    bench.in_tree = false;
    bench.knows(running('a', "web"));
    assert_eq!(bench.oom_kills(&['a']), None, "its events are refused");
    bench.knows(ContainerInfo { oom_events: Some(OomEvents::default()), ..running('a', "web") });
    assert_eq!(bench.oom_kills(&['a']), Some(0));
    bench.knows(ContainerInfo {
        oom_events: Some(OomEvents { runs: 1, earlier: 1, previous: 1, current: 2 }),
        ..running('a', "web")
    });
    assert_eq!(bench.oom_kills(&['a']), Some(3));
}
