//! One container in an engine's answers: an entry of the list (`/containers/json`), and an inspection
//! (`/containers/ID/json`).

use serde_json::Value;

use super::json::{flag, integer, map, positive, short_text, text, time_ns};
use crate::discover::ContainerId;
use crate::name::{
    ContainerInfo, Dropped, FixedMatch, Health, HealthStatus, Identity, Limits, Moment, Names, NamingPolicy,
    NetworkMode, Reported, State,
};

/// The CFS period that `--cpus` (`NanoCpus`) implies, in microseconds.
const DEFAULT_CPU_PERIOD_US: u64 = 100_000;

/// An entry of the list.
#[derive(Clone, Debug)]
pub(super) struct ListEntry {
    pub(super) id: ContainerId,
    pub(super) identity: Identity,
    pub(super) state: Option<State>,
    pub(super) status: Status,
    image_id: String,
    created_ns: Option<u64>,
    network_mode: NetworkMode,
}

/// Contents of a status text, such as `Up 5 minutes (healthy)` or `Exited (3) 2 hours ago`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) exit_code: Option<i64>,
    pub(super) health: Option<HealthStatus>,
    /// Seconds since the start or the exit, rounded down to the unit of the text.
    pub(super) age: Option<u64>,
}

impl ListEntry {
    /// Parses an entry. Returns none if it has no container id.
    pub(super) fn parse(value: &Value, naming: &NamingPolicy, names: &Names) -> Option<Self> {
        let id = ContainerId::parse(text(value, "/Id").as_bytes())?;
        let created = integer(value, "/Created").and_then(|seconds| u64::try_from(seconds).ok());
        Some(Self {
            id,
            identity: naming.identify(name(value), text(value, "/Image"), map(value, "/Labels")),
            state: state(text(value, "/State")),
            status: Status::parse(text(value, "/Status")),
            image_id: short_text(value, "/ImageID").to_owned(),
            created_ns: created.and_then(|seconds| seconds.checked_mul(1_000_000_000)),
            network_mode: network_mode(short_text(value, "/HostConfig/NetworkMode"), names),
        })
    }

    /// Returns what the entry says of a container that is not known yet.
    pub(super) fn into_info(self) -> ContainerInfo {
        let state = self.state.unwrap_or(State::Created);
        ContainerInfo {
            health: self.health(),
            reported: Reported { state: self.state.is_some(), health: true, end: false },
            name: self.identity.name,
            image: self.identity.image,
            image_id: self.image_id,
            labels: self.identity.labels,
            selected: self.identity.selected,
            state,
            exit_code: self.status.exit_code.filter(|_| !state.is_alive()),
            created_ns: self.created_ns,
            network_mode: self.network_mode,
            ..ContainerInfo::unknown(self.id)
        }
    }

    /// Returns whether the entry shows something else than what is known of the container.
    pub(super) fn differs(&self, known: &ContainerInfo) -> bool {
        let exit_code = self.status.exit_code.filter(|_| !known.state.is_alive());
        let health = self.status.health.filter(|_| known.state.is_alive());
        known.name != self.identity.name
            || self.state.is_some_and(|state| state != known.state)
            || exit_code.is_some_and(|code| known.exit_code != Some(code))
            || health.is_some_and(|status| known.health.map(|health| health.status) != Some(status))
    }

    /// Applies what the entry shows of a known container. The inspection that follows has the rest.
    pub(super) fn apply(&self, info: &mut ContainerInfo, selected: bool) {
        info.name.clone_from(&self.identity.name);
        info.selected = selected;
        if let Some(health) =
            self.health().filter(|health| info.health.is_none_or(|known| known.status != health.status))
        {
            (info.health, info.reported.health) = (Some(health), true);
        }
        info.reported.state |= self.state.is_some();
        let Some(state) = self.state.filter(|state| *state != info.state) else { return };
        // The number of restarts, which belongs to an end, comes with the inspection.
        (info.state, info.reported.state, info.reported.end) = (state, state.is_alive(), false);
        info.pid = None;
        if state == State::Running {
            info.started_ns = None;
        }
        info.exit_code = self.status.exit_code.filter(|_| !state.is_alive());
        if state.is_alive() {
            info.finished = None;
        }
    }

    /// Returns the result of the health check; none if there is no check.
    fn health(&self) -> Option<Health> {
        let status = self.status.health?;
        // The list does not show the number of failures in a row.
        Some(Health { status, failing_streak: (status == HealthStatus::Healthy).then_some(0) })
    }
}

/// Returns the container's own name. The list also has the names by which other containers link to it (`--link`):
/// `/other/alias`.
fn name(value: &Value) -> &str {
    let names = value.pointer("/Names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut first = "";
    for name in names {
        let bare = name.trim_start_matches('/');
        if !bare.contains('/') {
            return bare;
        }
        if first.is_empty() {
            first = bare;
        }
    }
    first
}

impl Status {
    /// Parses a status text.
    fn parse(text: &str) -> Self {
        let brackets = text.split('(').skip(1).filter_map(|rest| rest.split(')').next());
        let mut status = Self { age: age(text), ..Self::default() };
        brackets.for_each(|inner| {
            status.exit_code = status.exit_code.or_else(|| inner.parse().ok());
            status.health = status.health.or_else(|| health(inner.strip_prefix("health:").unwrap_or(inner)));
        });
        status
    }
}

/// Parses a duration as Docker writes it: `5 minutes`, `About a minute`, `Less than a second`. Returns seconds.
fn age(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).find_map(|pair| {
        let &[count, unit] = pair else { return None };
        let seconds = match unit.trim_end_matches('s') {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            "month" => 30 * 86_400,
            "year" => 365 * 86_400,
            _ => return None,
        };
        let count: u64 = match count {
            // "Less than a second" is 0; "About a minute" and "About an hour" are 1.
            "a" | "an" => u64::from(seconds != 1),
            number => number.parse().ok()?,
        };
        count.checked_mul(seconds)
    })
}

/// The answer to an inspection.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) info: ContainerInfo,
    /// The part of the filter's decision that image and labels determine.
    pub(super) fixed: FixedMatch,
    /// Numbers of truncated or dropped texts.
    pub(super) dropped: Dropped,
}

impl Inspected {
    /// Parses an answer. Returns none if it has no container id.
    pub(super) fn parse(value: &Value, naming: &NamingPolicy, names: &Names) -> Option<Self> {
        let id = ContainerId::parse(text(value, "/Id").as_bytes())?;
        let identity =
            naming.identify(text(value, "/Name"), text(value, "/Config/Image"), map(value, "/Config/Labels"));
        let state = life_cycle(value);
        let alive = state.is_alive();
        let finished = time_ns(text(value, "/State/FinishedAt")).filter(|_| !alive);
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
            created_ns: time_ns(text(value, "/Created")),
            started_ns: time_ns(text(value, "/State/StartedAt")),
            finished,
            network_mode: network_mode(short_text(value, "/HostConfig/NetworkMode"), names),
            pid: positive(value, "/State/Pid").filter(|_| alive).and_then(|pid| u32::try_from(pid).ok()),
            cgroup_parent: short_text(value, "/HostConfig/CgroupParent").to_owned(),
            restart_policy: restart_policy(value).to_owned(),
            limits: limits(value),
            ..ContainerInfo::unknown(id)
        };
        Some(Self { info, fixed: identity.fixed, dropped: identity.dropped })
    }
}

/// Returns the state by its word, or, if the word is unknown, by the flags beside it.
fn life_cycle(value: &Value) -> State {
    let flags = [
        ("/State/Dead", State::Dead),
        ("/State/Restarting", State::Restarting),
        ("/State/Paused", State::Paused),
        ("/State/Running", State::Running),
    ];
    let by_flag = || flags.into_iter().find(|(pointer, _)| flag(value, pointer)).map(|(_, state)| state);
    let never_ran = time_ns(text(value, "/State/StartedAt")).is_none();
    let fallback = if never_ran { State::Created } else { State::Exited };
    state(text(value, "/State/Status")).or_else(by_flag).unwrap_or(fallback)
}

/// Returns the result of the health check. Docker names it `Health`, older Podman `Healthcheck`.
fn health_check(value: &Value) -> Option<Health> {
    ["/State/Health", "/State/Healthcheck"].iter().find_map(|pointer| {
        let check = value.pointer(pointer)?;
        let status: HealthStatus = health(text(check, "/Status"))?;
        Some(Health { status, failing_streak: Some(positive(check, "/FailingStreak").unwrap_or_default()) })
    })
}

/// Returns the name of the restart policy. Docker writes `no` either as `no` or as the empty text.
fn restart_policy(value: &Value) -> &str {
    let name = short_text(value, "/HostConfig/RestartPolicy/Name");
    if name.is_empty() && value.pointer("/HostConfig/RestartPolicy").is_some() { "no" } else { name }
}

/// Returns the limits that the container was created with, or that were changed since.
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

/// Parses the word of Docker or Podman for a state.
fn state(word: &str) -> Option<State> {
    Some(match word.to_ascii_lowercase().as_str() {
        "created" | "configured" | "initialized" => State::Created,
        "running" | "stopping" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "removing" => State::Removing,
        "exited" | "stopped" => State::Exited,
        "dead" => State::Dead,
        _ => return None,
    })
}

/// Parses the word for the result of a health check; returns none if there is no check.
pub(super) fn health(word: &str) -> Option<HealthStatus> {
    Some(match word.trim() {
        "starting" => HealthStatus::Starting,
        "healthy" => HealthStatus::Healthy,
        "unhealthy" => HealthStatus::Unhealthy,
        _ => return None,
    })
}

/// Parses `HostConfig.NetworkMode`. The text names the container of a shared network by its id, or by one of the known
/// names.
fn network_mode(text: &str, names: &Names) -> NetworkMode {
    if let Some(peer) = text.strip_prefix("container:") {
        let by_name = || {
            let known = names.containers.values();
            known.filter(|info| info.removed.is_none()).find(|info| info.name == peer).map(|info| info.id)
        };
        let id = ContainerId::parse(peer.as_bytes()).or_else(by_name);
        return id.map_or(NetworkMode::Unknown, NetworkMode::Container);
    }
    match text {
        "" => NetworkMode::Unknown,
        "host" => NetworkMode::Host,
        // Podman writes this for a namespace whose owner is unknown.
        path if path.starts_with("ns:") => NetworkMode::Unknown,
        network => NetworkMode::Named(network.to_owned()),
    }
}

#[cfg(test)]
mod tests;
