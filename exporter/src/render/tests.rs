//! Whole expositions of made-up containers.

use std::io::Read as _;
use std::sync::Arc;

use super::{BufferPool, Exposed, Format, LabelSets, View, render};
use crate::discover::ContainerId;
use crate::metrics::{CollectorSet, FAMILIES, FamilySet};
use crate::name::{ContainerInfo, Health, HealthStatus, Moment, Reported, State};
use crate::read::{HostFacts, Labels, Limits, Machine, Plan, Row, Sample, for_api};

const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

pub(super) fn info(change: impl FnOnce(&mut ContainerInfo)) -> Arc<ContainerInfo> {
    let mut info = ContainerInfo::unknown(ContainerId::parse(ID.as_bytes()).unwrap());
    info.name = "web".to_owned();
    info.image = "nginx:1".to_owned();
    info.state = State::Running;
    info.reported = Reported::ALL;
    change(&mut info);
    Arc::new(info)
}

pub(super) fn plan() -> (Plan, Vec<Row>) {
    for_api(FamilySet::of(FAMILIES, CollectorSet::defaults()))
}

fn slot(plan: &Plan, pointer: &str) -> u16 {
    plan.json.iter().find(|(known, _)| *known == pointer).unwrap().1
}

/// The text of one container.
fn text(info: Option<&Arc<ContainerInfo>>, sample: Option<&Sample>, rows: &[Row], format: Format) -> String {
    String::from_utf8(body(info, sample, rows, format)).unwrap()
}

/// The body of one container, the same plain and unzipped.
pub(super) fn body(
    info: Option<&Arc<ContainerInfo>>,
    sample: Option<&Sample>,
    rows: &[Row],
    format: Format,
) -> Vec<u8> {
    let sets = LabelSets::new(info.map(|info| info.id), "/docker/abc", info);
    let limits = Limits::default();
    let exposed = [Exposed {
        labels: sets.base(),
        sample,
        limits: sample.map(|_| &limits),
        info: info.map(|info| &**info),
        oom_kills: Some(0),
        last_seen_ms: Some(1_500),
        oom_since_ns: None,
    }];
    let host = Sample::default();
    let view = View {
        rows,
        containers: &exposed,
        host: Some(&host),
        facts: &HostFacts::default(),
        machine: &Machine::default(),
        engine_version: "",
        labels: &Labels::default(),
        failed: false,
        families: FamilySet::ALL,
        probed_since_ns: None,
    };
    let plain = render(&view, &[], format, false, &BufferPool::default());
    let zipped = render(&view, &[], format, true, &BufferPool::default());
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).unwrap();
    assert_eq!(plain, unzipped, "gzip changes nothing but the size");
    unzipped
}

#[test]
fn a_running_container_has_its_values_and_no_end() {
    let (plan, rows) = plan();
    let mut sample = Sample::new(plan.slots, plan.columns);
    sample.set(slot(&plan, "/cpu_stats/cpu_usage/total_usage"), 27_020_360);
    sample.set(slot(&plan, "/memory_stats/usage"), 0);
    let text = text(Some(&info(|info| info.exit_code = Some(0))), Some(&sample), &rows, Format::Text);
    let base = r#"id="/docker/abc",image="nginx:1",name="web"} "#;
    assert!(text.contains(&format!("container_cpu_usage_seconds_total{{cpu=\"total\",{base}0.02702036\n")), "{text}");
    assert!(text.contains(&format!("container_memory_usage_bytes{{{base}0\n")), "a 0 of the kernel is a value");
    assert!(text.contains(&format!("container_last_seen{{{base}1.5\n")));
    assert!(text.contains("container_state{state=\"running\",id="));
    for absent in ["exit_code", "finish_time", "oom_killed", "cfs_periods", "working_set", "failing_streak"] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
}

#[test]
fn an_ended_container_has_its_end_and_no_values() {
    let (_, rows) = plan();
    let ended = info(|info| {
        info.state = State::Exited;
        info.exit_code = Some(3);
        info.oom_killed = true;
        info.finished = Some(Moment { wall_ns: 1_795_398_284_751_604_307, ..Moment::now() });
    });
    let text = text(Some(&ended), None, &rows, Format::Text);
    let base = r#"id="/docker/abc",image="nginx:1",name="web"} "#;
    assert!(text.contains(&format!("container_exit_code{{{base}3\n")), "{text}");
    assert!(text.contains(&format!("container_oom_killed{{{base}1\n")));
    assert!(text.contains(&format!("container_finish_time_seconds{{{base}1795398284.751604307\n")));
    assert!(!text.contains("container_cpu_usage") && !text.contains("container_spec"), "{text}");
}

#[test]
fn what_the_engine_has_not_told_yet_is_absent() {
    let (plan, rows) = plan();
    let sample = Sample::new(plan.slots, plan.columns);
    let ended = |reported, oom_killed| {
        info(|info| {
            (info.state, info.exit_code, info.oom_killed, info.reported) =
                (State::Exited, Some(3), oom_killed, reported);
            info.finished = Some(Moment::now());
        })
    };
    let by_event = text(Some(&ended(Reported::default(), false)), None, &rows, Format::Text);
    assert!(by_event.contains("container_exit_code{"), "the event has it: {by_event}");
    for family in ["container_state{", "container_finish_time_seconds{", "container_oom_killed{"] {
        assert!(!by_event.contains(family), "{family} {by_event}");
        let all = text(Some(&ended(Reported::ALL, false)), None, &rows, Format::Text);
        assert!(all.contains(family), "{family} {all}");
    }
    let killed = text(Some(&ended(Reported::default(), true)), None, &rows, Format::Text);
    assert!(killed.contains("container_oom_killed{"), "an event has reported it: {killed}");
    let found = info(|info| info.reported = Reported { state: true, ..Reported::default() });
    let text = text(Some(&found), Some(&sample), &rows, Format::Text);
    assert!(!text.contains("container_health_state{"), "whether it has a check is not known: {text}");
}

#[test]
fn health_is_told_in_cadvisor_s_numbers() {
    let (plan, rows) = plan();
    let sample = Sample::new(plan.slots, plan.columns);
    for (health, expected) in [
        (None, "-1"),
        (Some(HealthStatus::Healthy), "1"),
        (Some(HealthStatus::Starting), "0"),
        (Some(HealthStatus::Unhealthy), "0"),
    ] {
        let health = health.map(|status| Health { status, failing_streak: Some(2) });
        let text = text(Some(&info(|info| info.health = health)), Some(&sample), &rows, Format::Text);
        let line = text.lines().find(|line| line.starts_with("container_health_state{")).unwrap();
        assert!(line.ends_with(&format!(" {expected}")), "{line}");
        assert_eq!(text.contains("container_health_failing_streak{"), health.is_some());
    }
}

#[test]
fn hostile_names_stay_inside_their_quotes() {
    let (_, rows) = plan();
    let hostile = info(|info| info.name = "a\"b\\c\nd".to_owned());
    let text = text(Some(&hostile), None, &rows, Format::OpenMetrics);
    assert!(text.contains(r#"name="a\"b\\c\nd"} "#), "{text}");
}

#[test]
fn open_metrics_ends_and_names_counters_by_family() {
    let (plan, rows) = plan();
    let mut sample = Sample::new(plan.slots, plan.columns);
    sample.set(slot(&plan, "/cpu_stats/cpu_usage/total_usage"), 1);
    let text = text(None, Some(&sample), &rows, Format::OpenMetrics);
    assert!(text.contains("# TYPE container_cpu_usage_seconds counter\n# UNIT container_cpu_usage_seconds seconds\n"));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_family_without_samples_is_not_mentioned() {
    let (_, rows) = plan();
    let text = text(None, None, &rows, Format::Text);
    assert!(!text.contains("container_cpu_usage_seconds_total"), "{text}");
    assert!(text.contains("container_last_seen{id=\"/docker/abc\",image=\"\",name=\"\"} 1.5\n"), "{text}");
}
