//! Events of containers (`/events`): the action, and what it shows before the container is inspected.

use std::time::Instant;

use serde_json::Value;

use super::container::health;
use super::json::{integer, map, text};
use crate::discover::ContainerId;
use crate::name::{ContainerInfo, Health, HealthStatus, Identity, Moment, NamingPolicy, State};

/// Attributes of an event that are not labels of the container. They replace labels of the same names.
const NOT_LABELS: [&str; 9] =
    ["image", "name", "oldName", "exitCode", "containerExitCode", "execDuration", "signal", "execID", "container"];

/// An action on a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Start,
    Restart,
    Die,
    Oom,
    Pause,
    Unpause,
    Rename,
    Update,
    Destroy,
    Health,
    Other,
}

/// The words for the actions that are subscribed to. `died` and `remove` are those of Podman.
const WORDS: [(&str, Action); 13] = [
    ("create", Action::Create),
    ("start", Action::Start),
    ("restart", Action::Restart),
    ("die", Action::Die),
    ("died", Action::Die),
    ("oom", Action::Oom),
    ("pause", Action::Pause),
    ("unpause", Action::Unpause),
    ("rename", Action::Rename),
    ("update", Action::Update),
    ("destroy", Action::Destroy),
    ("remove", Action::Destroy),
    ("health_status", Action::Health),
];

impl Action {
    /// Returns Docker's word for the action, as a label value; `other` for an action that is not subscribed to.
    pub(super) fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, action)| *action == self).map_or("other", |(word, _)| word)
    }

    /// Parses a word, without what the engine appends after a colon.
    fn parse(word: &str) -> Self {
        let bare = word.split(':').next().unwrap_or_default().trim();
        WORDS.iter().find(|(known, _)| *known == bare).map_or(Self::Other, |(_, action)| *action)
    }
}

/// Returns the request that subscribes to events of the known actions, and so not to `exec_*`, `attach` and the like.
/// With `since_ns`, the engine first repeats the events that it remembers from that time on, in nanoseconds since the
/// epoch.
pub(super) fn subscription(since_ns: Option<u64>) -> String {
    let words = WORDS.map(|(word, _)| format!("%22{word}%22")).join(",");
    let since =
        since_ns.map_or_else(String::new, |ns| format!("since={}.{:09}&", ns / 1_000_000_000, ns % 1_000_000_000));
    format!("/events?{since}filters=%7B%22type%22:%5B%22container%22%5D,%22event%22:%5B{words}%5D%7D")
}

/// One event of one container.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: ContainerId,
    pub(super) action: Action,
    /// Time by the clock of the engine, in nanoseconds since the epoch.
    pub(super) time_ns: u64,
    /// The names of the container at the event; none if the event has no name.
    pub(super) identity: Option<Identity>,
    exit_code: Option<i64>,
    /// The result of a health check.
    health: Option<HealthStatus>,
}

impl Event {
    /// Parses an event. Returns none if it is not about a container.
    pub(super) fn parse(value: &Value, naming: &NamingPolicy) -> Option<Self> {
        if !matches!(text(value, "/Type"), "container" | "") {
            return None;
        }
        let either = |new, old| Some(text(value, new)).filter(|text| !text.is_empty()).unwrap_or(text(value, old));
        let word = either("/Action", "/status");
        let nanoseconds = integer(value, "/timeNano").or_else(|| integer(value, "/time")?.checked_mul(1_000_000_000));
        Some(Self {
            id: ContainerId::parse(either("/Actor/ID", "/id").as_bytes())?,
            action: Action::parse(word),
            time_ns: nanoseconds.and_then(|time| u64::try_from(time).ok()).unwrap_or_else(|| Moment::now().wall_ns),
            identity: identity(value, naming),
            exit_code: integer(value, "/Actor/Attributes/exitCode")
                .or_else(|| integer(value, "/Actor/Attributes/containerExitCode")),
            health: word.split_once(':').and_then(|(_, word)| health(word)),
        })
    }

    /// Applies what the event alone shows.
    pub(super) fn apply(&self, info: &mut ContainerInfo) {
        match self.action {
            Action::Start => Self::apply_start(info),
            Action::Die => self.apply_end(info),
            Action::Oom => info.oom_killed = true,
            Action::Pause => Self::set_state(info, State::Paused),
            Action::Unpause => Self::set_state(info, State::Running),
            Action::Health => self.apply_health(info),
            Action::Create if !info.reported.state => Self::set_state(info, State::Created),
            // Podman reports `restart` even if that has failed. The tracker applies a new name.
            Action::Create | Action::Restart | Action::Rename | Action::Update | Action::Destroy | Action::Other => {}
        }
    }

    /// Returns whether the container existed when the event arrived. Events of the other actions may arrive after its
    /// removal.
    pub(super) fn proves_existence(&self) -> bool {
        !matches!(self.action, Action::Die | Action::Oom | Action::Health | Action::Destroy | Action::Other)
    }

    /// Returns whether the container has changed in a way that only an inspection shows.
    pub(super) fn needs_inspection(&self) -> bool {
        match self.action {
            Action::Create | Action::Start | Action::Restart | Action::Die | Action::Update => true,
            Action::Health => self.health != Some(HealthStatus::Healthy),
            Action::Rename => self.identity.is_none(),
            Action::Oom | Action::Pause | Action::Unpause | Action::Destroy | Action::Other => false,
        }
    }

    fn set_state(info: &mut ContainerInfo, state: State) {
        (info.state, info.reported.state) = (state, true);
    }

    fn apply_start(info: &mut ContainerInfo) {
        Self::set_state(info, State::Running);
        // These values are of the previous run.
        (info.health, info.started_ns, info.reported.health, info.reported.end) = (None, None, false, false);
        info.pid = None;
        info.oom_killed = false;
        info.exit_code = None;
        info.finished = None;
    }

    fn apply_end(&self, info: &mut ContainerInfo) {
        info.state = State::Exited;
        // Not reported yet: the restart policy may start the container again, which the inspection shows.
        (info.reported.state, info.reported.end) = (false, false);
        info.pid = None;
        info.exit_code = self.exit_code;
        // The monotonic time is that of the arrival, because the clock of the engine may differ.
        info.finished = Some(Moment { wall_ns: self.time_ns, at: Instant::now() });
    }

    fn apply_health(&self, info: &mut ContainerInfo) {
        let Some(status) = self.health else { return };
        let streak = info.health.and_then(|health| health.failing_streak);
        let failing_streak = if status == HealthStatus::Healthy { Some(0) } else { streak };
        info.health = Some(Health { status, failing_streak });
        info.reported.health = true;
    }
}

/// Returns the names that an event has; none if it has no name of the container.
fn identity(value: &Value, naming: &NamingPolicy) -> Option<Identity> {
    let mut attributes = map(value, "/Actor/Attributes");
    attributes.retain(|(key, _)| !NOT_LABELS.contains(key));
    let name = text(value, "/Actor/Attributes/name");
    let image = text(value, "/Actor/Attributes/image");
    (!name.is_empty()).then(|| naming.identify(name, image, attributes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Action, Event, subscription};
    use crate::discover::ContainerId;
    use crate::name::{ContainerInfo, Health, HealthStatus, NamingPolicy, Reported, State};

    const ID: &str = "c7c9797c942e7936d998351a67edb810d5ee417a519b14a02be5873e5137a192";

    fn event(action: &str, attributes: Value) -> Event {
        let mut value = json!({"Type": "container", "Action": action, "time": 5, "timeNano": 5_000_000_001_i64,
            "Actor": {"ID": ID, "Attributes": {"name": "web", "image": "nginx"}}});
        if let Value::Object(more) = attributes {
            value["Actor"]["Attributes"].as_object_mut().unwrap().extend(more);
        }
        Event::parse(&value, &NamingPolicy::default()).unwrap()
    }

    fn info() -> ContainerInfo {
        let health = Some(Health { status: HealthStatus::Starting, failing_streak: Some(2) });
        let id = ContainerId::parse(ID.as_bytes()).unwrap();
        ContainerInfo { state: State::Running, pid: Some(9), health, ..ContainerInfo::unknown(id) }
    }

    fn after(event: &Event, mut info: ContainerInfo) -> ContainerInfo {
        event.apply(&mut info);
        info
    }

    #[test]
    fn death_is_known_at_once() {
        for action in ["die", "died"] {
            let dead = after(&event(action, json!({"exitCode": "3"})), info());
            let finished_ns = dead.finished.map(|moment| moment.wall_ns);
            assert_eq!((dead.state, dead.exit_code, finished_ns), (State::Exited, Some(3), Some(5_000_000_001)));
            assert_eq!(dead.pid, None, "the number may belong to another process by now");
        }
        assert_eq!(after(&event("died", json!({"containerExitCode": "4"})), info()).exit_code, Some(4));
    }

    #[test]
    fn an_end_does_not_tell_whether_another_run_follows() {
        let ended = after(&event("die", json!({"exitCode": "3"})), ContainerInfo { reported: Reported::ALL, ..info() });
        assert_eq!(ended.reported, Reported { health: true, ..Reported::default() });
    }

    #[test]
    fn what_was_told_of_the_run_before_is_not_of_this_one() {
        let before = ContainerInfo { started_ns: Some(5), reported: Reported::ALL, ..info() };
        let started = after(&event("start", json!(null)), before);
        assert_eq!((started.health, started.started_ns), (None, None));
        assert_eq!(started.reported, Reported { state: true, ..Reported::default() });
    }

    #[test]
    fn a_start_ends_the_story_of_the_last_run() {
        let dead = ContainerInfo { oom_killed: true, ..after(&event("die", json!({"exitCode": "3"})), info()) };
        let started = after(&event("start", json!(null)), dead);
        assert_eq!((started.state, started.exit_code, started.finished), (State::Running, None, None));
        assert!(!started.oom_killed);
        let restarted = event("restart", json!(null));
        assert_eq!(after(&restarted, info()), info());
        assert!(restarted.needs_inspection());
    }

    #[test]
    fn pause_oom_and_health_need_no_inspection() {
        assert_eq!(after(&event("pause", json!(null)), info()).state, State::Paused);
        assert_eq!(after(&event("unpause", json!(null)), info()).state, State::Running);
        assert!(after(&event("oom", json!(null)), info()).oom_killed);
        let healthy = event("health_status: healthy", json!(null));
        let expected = Health { status: HealthStatus::Healthy, failing_streak: Some(0) };
        assert_eq!(after(&healthy, info()).health, Some(expected));
        assert!(!healthy.needs_inspection());
        let unhealthy = event("health_status: unhealthy", json!(null));
        assert_eq!(after(&unhealthy, info()).health.unwrap().status, HealthStatus::Unhealthy);
        assert!(unhealthy.needs_inspection(), "the streak is not in the event");
    }

    #[test]
    fn an_event_names_the_container_and_its_labels() {
        let event = event("start", json!({"com.docker.compose.project": "shop", "exitCode": "1"}));
        let identity = event.identity.unwrap();
        assert_eq!((identity.name.as_str(), identity.image.as_str()), ("web", "nginx"));
        assert_eq!(identity.labels, [("container_label_com_docker_compose_project".to_owned(), "shop".to_owned())]);
    }

    #[test]
    fn action_labels_are_bounded() {
        for (word, expected) in [
            ("health_status: unhealthy", "health_status"),
            ("health_status", "health_status"),
            ("died", "die"),
            ("remove", "destroy"),
            ("exec_start: sh -c 'secret'", "other"),
        ] {
            assert_eq!(Action::parse(word).as_str(), expected);
        }
    }

    #[test]
    fn strange_events_are_no_events() {
        let parse = |value| Event::parse(&value, &NamingPolicy::default());
        assert!(parse(json!({"Type": "network", "Action": "create", "Actor": {"ID": ID}})).is_none());
        assert!(parse(json!({"Type": "container", "Action": "start", "Actor": {"ID": "short"}})).is_none());
        assert!(parse(json!(null)).is_none());
        let old_shape = parse(json!({"status": "start", "id": ID, "from": "nginx", "time": 7})).unwrap();
        assert_eq!((old_shape.action, old_shape.time_ns), (Action::Start, 7_000_000_000));
        assert!(old_shape.identity.is_none());
    }

    #[test]
    fn the_subscription_is_one_valid_request_target() {
        let target = subscription(None);
        assert!(subscription(Some(5_000_000_001)).starts_with("/events?since=5.000000001&filters="));
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"{}[]<>".contains(&byte)), "{target}");
        assert!(target.contains("%22health_status%22") && !target.contains("exec"));
    }
}
