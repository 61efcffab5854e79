//! Tests of what entries of the list and inspections say of a container.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Inspected, ListEntry, Status, network_mode};
use crate::discover::ContainerId;
use crate::name::{ContainerInfo, Health, HealthStatus, Limits, Names, NamingPolicy, NetworkMode, State};

const ID: &str = "c7c9797c942e7936d998351a67edb810d5ee417a519b14a02be5873e5137a192";

fn info(value: &Value) -> ContainerInfo {
    Inspected::parse(value, &NamingPolicy::default(), &Names::default()).unwrap().info
}

fn running() -> Value {
    json!({
        "Id": ID, "Created": "2026-11-23T02:06:22.631014787Z", "Name": "/web", "Image": "sha256:1d93",
        "RestartCount": 2,
        "State": {
            "Status": "running", "Running": true, "Pid": 12905, "ExitCode": 0, "OOMKilled": false,
            "StartedAt": "2026-11-23T02:06:22.958362708Z", "FinishedAt": "2026-11-23T02:06:20Z",
            "Health": {"Status": "unhealthy", "FailingStreak": 4, "Log": []}
        },
        "HostConfig": {
            "NetworkMode": "default", "RestartPolicy": {"Name": "always"}, "CgroupParent": "/shop",
            "NanoCpus": 1_500_000_000, "CpuPeriod": 0, "CpuQuota": 0, "CpuShares": 512, "Memory": 67_108_864,
            "MemorySwap": 134_217_728, "MemoryReservation": 1024, "PidsLimit": 50
        },
        "Config": {"Image": "nginx:1", "Labels": {"com.docker.compose.project": "shop"}}
    })
}

#[test]
fn a_running_container_is_read_in_full() {
    let inspected = Inspected::parse(&running(), &NamingPolicy::default(), &Names::default()).unwrap();
    assert_eq!(inspected.info.restarts, Some(2));
    let info = inspected.info;
    assert_eq!((info.name.as_str(), info.image.as_str(), info.image_id.as_str()), ("web", "nginx:1", "sha256:1d93"));
    assert_eq!(info.labels, [("container_label_com_docker_compose_project".to_owned(), "shop".to_owned())]);
    assert_eq!((info.state, info.pid, info.exit_code, info.finished), (State::Running, Some(12905), None, None));
    assert_eq!(info.started_ns, Some(1_795_399_582_958_362_708));
    assert_eq!(info.created_ns, Some(1_795_399_582_631_014_787));
    assert_eq!(info.health, Some(Health { status: HealthStatus::Unhealthy, failing_streak: Some(4) }));
    assert_eq!((info.restart_policy.as_str(), info.cgroup_parent.as_str()), ("always", "/shop"));
    assert_eq!(info.network_mode, NetworkMode::Named("default".to_owned()));
    let expected = Limits {
        cpu_quota_us: Some(150_000),
        cpu_period_us: Some(100_000),
        cpu_shares: Some(512),
        memory_bytes: Some(67_108_864),
        swap_bytes: Some(67_108_864),
        memory_reservation_bytes: Some(1024),
        pids: Some(50),
    };
    assert_eq!(info.limits, expected);
}

#[test]
fn an_exit_code_needs_a_run_that_has_ended() {
    let mut value = running();
    value["State"] = json!({"Status": "exited", "Pid": 0, "ExitCode": 3, "OOMKilled": true,
        "StartedAt": "2026-11-23T02:06:22Z", "FinishedAt": "2026-11-23T02:06:30.5Z"});
    let ended = info(&value);
    assert_eq!((ended.state, ended.exit_code, ended.oom_killed, ended.pid), (State::Exited, Some(3), true, None));
    assert_eq!(ended.finished.map(|moment| moment.wall_ns), Some(1_795_399_590_500_000_000));

    value["State"] = json!({"Status": "created", "ExitCode": 127, "StartedAt": "0001-01-01T00:00:00Z",
        "FinishedAt": "0001-01-01T00:00:00Z"});
    let never_ran = info(&value);
    assert_eq!((never_ran.state, never_ran.exit_code, never_ran.started_ns), (State::Created, None, None));
}

#[test]
fn unlimited_is_none() {
    let mut value = running();
    value["HostConfig"] = json!({"NanoCpus": 0, "CpuQuota": -1, "CpuPeriod": 0, "CpuShares": 0, "Memory": 0,
        "MemorySwap": -1, "MemoryReservation": 0, "PidsLimit": null, "RestartPolicy": {"Name": ""}});
    let info = info(&value);
    assert_eq!(info.limits, Limits::default());
    assert_eq!(info.restart_policy, "no");
    assert_eq!(info.network_mode, NetworkMode::Unknown);
}

#[test]
fn a_quota_has_the_default_period_unless_one_is_given() {
    for (period, expected) in [(json!(0), 100_000), (json!(50_000), 50_000)] {
        let value = json!({"Id": ID, "HostConfig": {"CpuQuota": 25_000, "CpuPeriod": period}});
        let limits = info(&value).limits;
        assert_eq!((limits.cpu_quota_us, limits.cpu_period_us), (Some(25_000), Some(expected)));
    }
}

#[test]
fn podman_s_way_of_saying_it_is_understood() {
    let value = json!({
        "Id": ID, "Name": "web", "Created": "2026-11-23T03:06:22.631014787+01:00", "RestartCount": null,
        "State": {"Status": "stopping", "Running": true, "Pid": "77", "StartedAt": "2026-11-23T03:06:22+01:00",
            "FinishedAt": "0001-01-01T00:00:00Z", "Healthcheck": {"Status": "", "FailingStreak": 0, "Log": null}},
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "NetworkMode": "slirp4netns"},
        "Config": {"Labels": null, "Image": "docker.io/library/nginx:1"}
    });
    let info = info(&value);
    assert_eq!((info.state, info.pid, info.health), (State::Running, Some(77), None));
    assert_eq!(info.created_ns, Some(1_795_399_582_631_014_787));
}

#[test]
fn an_unknown_state_word_falls_back_on_the_flags() {
    for (flags, expected) in [
        (json!({"Status": "frobbed", "Running": true, "Paused": true}), State::Paused),
        (json!({"Status": "", "Running": true}), State::Running),
        (json!({"StartedAt": "2026-11-23T02:06:22Z"}), State::Exited),
        (json!(null), State::Created),
    ] {
        assert_eq!(info(&json!({"Id": ID, "State": flags})).state, expected, "{flags}");
    }
}

#[test]
fn an_answer_that_is_no_container_is_none() {
    for value in [json!({"message": "no such container"}), json!({"Id": "abc"}), json!([]), json!(null)] {
        assert!(Inspected::parse(&value, &NamingPolicy::default(), &Names::default()).is_none(), "{value}");
    }
}

#[test]
fn the_status_text_gives_exit_code_health_and_age() {
    use HealthStatus::{Healthy, Starting, Unhealthy};
    for (text, exit_code, health, age) in [
        ("Up Less than a second (health: starting)", None, Some(Starting), Some(0)),
        ("Up 1 second", None, None, Some(1)),
        ("Up 59 seconds (unhealthy)", None, Some(Unhealthy), Some(59)),
        ("Up About a minute (healthy)", None, Some(Healthy), Some(60)),
        ("Up 2 hours (Paused)", None, None, Some(7200)),
        ("Up About an hour", None, None, Some(3600)),
        ("Exited (137) 3 weeks ago", Some(137), None, Some(1_814_400)),
        ("Restarting (1) 5 seconds ago", Some(1), None, Some(5)),
        ("Created", None, None, None),
        ("Removal In Progress", None, None, None),
        ("", None, None, None),
    ] {
        assert_eq!(Status::parse(text), Status { exit_code, health, age }, "{text}");
    }
}

#[test]
fn the_own_name_is_told_from_link_aliases() {
    for (names, expected) in [
        (json!(["/web/db", "/db"]), "db"),
        (json!(["/db", "/web/db"]), "db"),
        (json!(["db"]), "db"),
        (json!(["/a/b", "/c/d"]), "a/b"),
        (json!(null), ""),
    ] {
        let value = json!({"Id": "a".repeat(64), "Names": names, "State": "stopping", "Created": "12"});
        let listed = ListEntry::parse(&value, &NamingPolicy::default(), &Names::default()).unwrap();
        assert_eq!(listed.identity.name, expected);
        let info = listed.into_info();
        assert_eq!((info.state, info.created_ns), (State::Running, Some(12_000_000_000)));
    }
}

#[test]
fn an_entry_without_an_id_is_none() {
    for value in [json!({"Names": ["/a"]}), json!(null), json!({"Id": 5})] {
        assert!(ListEntry::parse(&value, &NamingPolicy::default(), &Names::default()).is_none());
    }
}

#[test]
fn a_shared_network_is_found_by_id_or_name() {
    let id = ContainerId::parse(&[b'a'; 64]).unwrap();
    let info = ContainerInfo { name: "owner".to_owned(), ..ContainerInfo::unknown(id) };
    let names = Names { containers: [(id, Arc::new(info))].into(), generation: 1, ..Names::default() };
    for peer in [format!("container:{id}"), "container:owner".to_owned()] {
        assert_eq!(network_mode(&peer, &names), NetworkMode::Container(id), "{peer}");
    }
    assert_eq!(network_mode("container:stranger", &names), NetworkMode::Unknown);
    assert_eq!(network_mode("host", &names), NetworkMode::Host);
    assert_eq!(network_mode("shop_default", &names), NetworkMode::Named("shop_default".to_owned()));
    assert_eq!(network_mode("ns:/proc/1/ns/net", &names), NetworkMode::Unknown);
}
