//! One entry of `/containers/json`: what it shows before the container is inspected, and by which fields a later list
//! shows a change.

use serde_json::Value;

use super::json::{health, integer, map, network_mode, short_text, state, text};
use crate::discover::ContainerId;
use crate::name::{ContainerInfo, Health, HealthStatus, Identity, Names, NamingPolicy, NetworkMode, Reported, State};

/// One container of the list.
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

/// Contents of the status text: `Up 5 minutes (healthy)`, `Exited (3) 2 hours ago`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) exit_code: Option<i64>,
    pub(super) health: Option<HealthStatus>,
    /// Seconds since the start or the exit, rounded down to the unit that is written.
    pub(super) age: Option<u64>,
}

impl ListEntry {
    /// Returns none for an entry without a container id.
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

    /// Returns the first report on a container.
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

    /// What it says of health: nothing where there is no check.
    pub(super) fn health(&self) -> Option<Health> {
        let status = self.status.health?;
        // Failures in a row are not in the list.
        Some(Health { status, failing_streak: (status == HealthStatus::Healthy).then_some(0) })
    }
}

/// Returns the container's own name, which has one slash: a container that others link to (`--link`) is also listed as
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
    fn parse(text: &str) -> Self {
        let mut brackets = text.split('(').skip(1).filter_map(|rest| rest.split(')').next());
        let mut status = Self { age: age(text), ..Self::default() };
        brackets.by_ref().for_each(|inner| {
            status.exit_code = status.exit_code.or_else(|| inner.parse().ok());
            status.health = status.health.or_else(|| health(inner.strip_prefix("health:").unwrap_or(inner)));
        });
        status
    }
}

/// `About a minute`, `5 minutes`, `Less than a second`, as Docker writes durations.
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
            // "Less than a second" is the only text with a second that is not counted.
            "a" | "an" => u64::from(seconds != 1),
            number => number.parse().ok()?,
        };
        count.checked_mul(seconds)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ListEntry, Status};
    use crate::name::{HealthStatus, Names, NamingPolicy, State};

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
}
