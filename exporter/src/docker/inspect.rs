//! `/containers/ID/json` → [`ContainerInfo`].

use serde_json::Value;

use super::json::{flag, health, integer, map, network_mode, positive, short_text, state, text};
use super::time::parse_ns;
use crate::discover::ContainerId;
use crate::name::{
    ContainerInfo, Dropped, FixedMatch, Health, HealthStatus, Limits, Moment, Names, NamingPolicy, Reported, State,
};

/// The CFS period that `--cpus` (`NanoCpus`) implies, in microseconds.
const DEFAULT_CPU_PERIOD_US: u64 = 100_000;

/// The engine's answer to an inspection.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) info: ContainerInfo,
    /// The part of the filter's decision that image and labels determine.
    pub(super) fixed: FixedMatch,
    /// Counts of truncated texts.
    pub(super) dropped: Dropped,
}

/// Parses an answer. Returns none if it has no container id: then it is not about a container.
pub(super) fn inspected(value: &Value, naming: &NamingPolicy, names: &Names) -> Option<Inspected> {
    let id = ContainerId::parse(text(value, "/Id").as_bytes())?;
    let identity = naming.identify(text(value, "/Name"), text(value, "/Config/Image"), map(value, "/Config/Labels"));
    let state = life_cycle(value);
    let alive = state.is_alive();
    let finished = parse_ns(text(value, "/State/FinishedAt")).filter(|_| !alive);
    let finished = finished.map(|wall_ns| Moment::at_wall(wall_ns, Moment::now()));
    let info = ContainerInfo {
        name: identity.name,
        image: identity.image,
        image_id: short_text(value, "/Image").to_owned(),
        labels: identity.labels,
        selected: identity.selected,
        state,
        health: health_check(value),
        reported: Reported::ALL,
        restarts: integer(value, "/RestartCount").and_then(|count| u64::try_from(count).ok()),
        exit_code: finished.and_then(|_| integer(value, "/State/ExitCode")),
        oom_killed: flag(value, "/State/OOMKilled"),
        created_ns: parse_ns(text(value, "/Created")),
        started_ns: parse_ns(text(value, "/State/StartedAt")),
        finished,
        network_mode: network_mode(short_text(value, "/HostConfig/NetworkMode"), names),
        pid: positive(value, "/State/Pid").filter(|_| alive).and_then(|pid| u32::try_from(pid).ok()),
        cgroup_parent: short_text(value, "/HostConfig/CgroupParent").to_owned(),
        restart_policy: restart_policy(value).to_owned(),
        limits: limits(value),
        ..ContainerInfo::unknown(id)
    };
    Some(Inspected { info, fixed: identity.fixed, dropped: identity.dropped })
}

/// Returns the state by its word; by the flags beside it if the word is unknown.
fn life_cycle(value: &Value) -> State {
    let flags = [
        ("/State/Dead", State::Dead),
        ("/State/Restarting", State::Restarting),
        ("/State/Paused", State::Paused),
        ("/State/Running", State::Running),
    ];
    let by_flag = || flags.into_iter().find(|(pointer, _)| flag(value, pointer)).map(|(_, state)| state);
    let never_ran = parse_ns(text(value, "/State/StartedAt")).is_none();
    let fallback = if never_ran { State::Created } else { State::Exited };
    state(text(value, "/State/Status")).or_else(by_flag).unwrap_or(fallback)
}

/// Older Podman says `Healthcheck` where Docker says `Health`.
fn health_check(value: &Value) -> Option<Health> {
    ["/State/Health", "/State/Healthcheck"].iter().find_map(|pointer| {
        let check = value.pointer(pointer)?;
        let status: HealthStatus = health(text(check, "/Status"))?;
        Some(Health { status, failing_streak: Some(positive(check, "/FailingStreak").unwrap_or_default()) })
    })
}

/// Docker's API gives `no` as either `no` or nothing.
fn restart_policy(value: &Value) -> &str {
    let name = short_text(value, "/HostConfig/RestartPolicy/Name");
    if name.is_empty() && value.pointer("/HostConfig/RestartPolicy").is_some() { "no" } else { name }
}

fn limits(value: &Value) -> Limits {
    let nano_cpus = positive(value, "/HostConfig/NanoCpus");
    let from_nano_cpus = nano_cpus.map(|nano| u128::from(nano) * u128::from(DEFAULT_CPU_PERIOD_US) / 1_000_000_000);
    let cpu_quota_us =
        positive(value, "/HostConfig/CpuQuota").or_else(|| from_nano_cpus.and_then(|quota| u64::try_from(quota).ok()));
    let period = positive(value, "/HostConfig/CpuPeriod");
    let memory_bytes = positive(value, "/HostConfig/Memory");
    let memory_and_swap = positive(value, "/HostConfig/MemorySwap");
    Limits {
        cpu_quota_us,
        cpu_period_us: period.or(cpu_quota_us.map(|_| DEFAULT_CPU_PERIOD_US)),
        cpu_shares: positive(value, "/HostConfig/CpuShares"),
        memory_bytes,
        swap_bytes: memory_and_swap.map(|both| both.saturating_sub(memory_bytes.unwrap_or_default())),
        memory_reservation_bytes: positive(value, "/HostConfig/MemoryReservation"),
        pids: positive(value, "/HostConfig/PidsLimit"),
    }
}

#[cfg(test)]
mod tests;
