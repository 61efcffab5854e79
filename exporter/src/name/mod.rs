//! Names of containers, and the engines' reports on them.
//!
//! [`crate::docker`] writes them and scrapes read them. A lookup takes a snapshot, and never waits for an engine.

mod filter;
mod naming;
mod store;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use filter::{ContainerFilter, FixedMatch, GlobError, MetricFilter};
pub use naming::{
    DEFAULT_LABELS, Dropped, Identity, LabelPolicy, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, NamingPolicy,
};
pub use store::{ContainerStore, MAX_CONTAINERS, Names, Stored};

use crate::discover::ContainerId;

/// Maximum length of a container's name in bytes.
pub const MAX_NAME: usize = 256;
/// Maximum length of an image's name in bytes.
pub const MAX_IMAGE: usize = 512;

/// An engine's report on one container. A change replaces it as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Id of the container.
    pub id: ContainerId,
    /// Name without the leading slash; the first one where the engine reports several.
    pub name: String,
    /// Image as given on the command line.
    pub image: String,
    /// Digest of the image's configuration (`sha256:…`).
    pub image_id: String,
    /// Allow-listed labels as `(container_label_<sanitised>, value)`, sorted by name, bounded in number and length.
    pub labels: Vec<(String, String)>,
    /// Whether `--containers.include` and `--containers.exclude` select the container.
    pub selected: bool,
    /// The state the engine reports.
    pub state: State,
    /// Health; none without a health check.
    pub health: Option<Health>,
    /// Which of these values the engine has reported.
    pub reported: Reported,
    /// Restarts by the restart policy, as the engine counts them; none while unknown.
    pub restarts: Option<u64>,
    /// Exit code of a container that is not running and has run.
    pub exit_code: Option<i64>,
    /// Whether the engine saw an out-of-memory kill in the container's last run.
    pub oom_killed: bool,
    /// Counts of the engine's `oom` events; none without an event stream.
    pub oom_events: Option<OomEvents>,
    /// When it was created, in nanoseconds since the epoch.
    pub created_ns: Option<u64>,
    /// When it was last started, in nanoseconds since the epoch.
    pub started_ns: Option<u64>,
    /// When its last run ended; none while it runs.
    pub finished: Option<Moment>,
    /// When the engine reported its removal. The report is kept for a while after that.
    pub removed: Option<Moment>,
    /// Where its network namespace comes from.
    pub network_mode: NetworkMode,
    /// Process id of its first process in the engine's pid namespace, while it runs.
    pub pid: Option<u32>,
    /// `--cgroup-parent` as given; empty for the engine's default.
    pub cgroup_parent: String,
    /// `no`, `always`, `on-failure`, `unless-stopped`; empty where unknown.
    pub restart_policy: String,
    /// Limits as the engine holds them; used where no cgroup file can be read.
    pub limits: Limits,
}

/// The life-cycle state of a container, in Docker's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Created and never started.
    Created,
    /// Its processes run.
    Running,
    /// Frozen.
    Paused,
    /// Its run has ended, and the engine is about to start it again.
    Restarting,
    /// Being removed, or gone.
    Removing,
    /// Its run has ended.
    Exited,
    /// The engine could not remove it.
    Dead,
}

impl ContainerInfo {
    /// Returns a container whose id is all that is known.
    #[must_use]
    pub fn unknown(id: ContainerId) -> Self {
        Self {
            id,
            name: String::new(),
            image: String::new(),
            image_id: String::new(),
            labels: Vec::new(),
            selected: true,
            state: State::Created,
            health: None,
            reported: Reported::default(),
            restarts: None,
            exit_code: None,
            oom_killed: false,
            oom_events: None,
            created_ns: None,
            started_ns: None,
            finished: None,
            removed: None,
            network_mode: NetworkMode::Unknown,
            pid: None,
            cgroup_parent: String::new(),
            restart_policy: String::new(),
            limits: Limits::default(),
        }
    }

    /// Returns the cgroup path that the engine gives the container. `systemd` says whether the engine uses systemd's cgroup driver.
    #[must_use]
    pub fn cgroup_path(&self, systemd: bool) -> String {
        let parent = match self.cgroup_parent.trim_matches('/') {
            "" if systemd => "system.slice",
            "" => "docker",
            parent => parent,
        };
        match parent.strip_suffix(".slice") {
            Some(name) => format!("{}/docker-{}.scope", slice_path(name), self.id),
            None => format!("/{parent}/{}", self.id),
        }
    }
}

impl State {
    /// Returns the word that Docker uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Returns whether the container has live processes, and so a cgroup.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The parts that an engine has reported of a container since it was found, started or ended. Events and lists have some of them. The
/// inspection that follows has all; until then the others are unknown, or are of the run before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The state. The event of an end does not have it, as another run may follow.
    pub state: bool,
    /// The health, or that there is no health check.
    pub health: bool,
    /// When the last run ended, and whether by an out-of-memory kill.
    pub end: bool,
}

impl Reported {
    /// All parts.
    pub const ALL: Self = Self { state: true, health: true, end: true };
}

/// The outcome of a container's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failed probes in a row; none until the engine has reported it.
    pub failing_streak: Option<u64>,
}

/// Docker's health verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// Within the start period or before the first probe has passed.
    Starting,
    /// The last probe passed.
    Healthy,
    /// As many consecutive probes failed as the check allows.
    Unhealthy,
}

/// Where a container's network namespace comes from (`--network`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// That of another container.
    Container(ContainerId),
    /// Its own, on the network of this name (`bridge`, `none`, a user's network).
    Named(String),
    /// Unknown.
    Unknown,
}

/// The limits in the engine's configuration of a container; none means not limited or unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CFS quota in microseconds per period (from `CpuQuota` or `NanoCpus`).
    pub cpu_quota_us: Option<u64>,
    /// CFS period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Relative CPU weight, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap limit in bytes, without memory.
    pub swap_bytes: Option<u64>,
    /// Memory reservation in bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Maximum number of tasks.
    pub pids: Option<u64>,
}

/// A moment on two clocks: the wall clock's time is shown, and durations are computed from the monotonic one, so that setting the host's
/// clock affects none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since the epoch.
    pub wall_ns: u64,
    /// The same on the monotonic clock.
    pub at: Instant,
}

impl Moment {
    /// Returns the current moment.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), at: Instant::now() }
    }

    /// Converts a time of the wall clock, relative to `now`. A future time counts as now.
    #[must_use]
    pub fn at_wall(wall_ns: u64, now: Self) -> Self {
        let age = Duration::from_nanos(now.wall_ns.saturating_sub(wall_ns));
        Self { wall_ns, at: now.at.checked_sub(age).unwrap_or(now.at) }
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub fn wall_ms(self) -> u64 {
        self.wall_ns / 1_000_000
    }
}

/// Counts of the engine's `oom` events of a container since the exporter started, by its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomEvents {
    /// Number of observed starts.
    pub runs: u64,
    /// Events in all runs before this one.
    pub earlier: u64,
    /// Events in the run before this one, a part of `earlier`.
    pub previous: u64,
    /// Events in this run.
    pub current: u64,
}

impl OomEvents {
    /// Counts an event of this run, or of the previous one if it is late.
    pub fn record(&mut self, late: bool) {
        if late {
            self.earlier += 1;
            self.previous += 1;
        } else {
            self.current += 1;
        }
    }

    /// Begins a new run.
    pub fn start(&mut self) {
        *self = Self { runs: self.runs + 1, earlier: self.earlier + self.current, previous: self.current, current: 0 };
    }

    /// Returns the number of events in all runs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.earlier + self.current
    }
}

/// Returns the cgroup path of a systemd slice: `a-b` is in `a`, and `-` is the root.
fn slice_path(name: &str) -> String {
    if name == "-" {
        return String::new();
    }
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).flat_map(|outer| ["/", outer, ".slice"]).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ContainerId, ContainerInfo, Moment};

    #[test]
    fn a_path_is_the_one_that_the_kernel_s_files_are_found_under() {
        let id = ContainerId::parse("a".repeat(64).as_bytes()).unwrap();
        let path = |parent: &str, systemd| {
            ContainerInfo { cgroup_parent: parent.to_owned(), ..ContainerInfo::unknown(id) }.cgroup_path(systemd)
        };
        assert_eq!(path("", false), format!("/docker/{id}"));
        assert_eq!(path("/jobs/night/", false), format!("/jobs/night/{id}"));
        assert_eq!(path("", true), format!("/system.slice/docker-{id}.scope"));
        assert_eq!(path("shop-web.slice", true), format!("/shop.slice/shop-web.slice/docker-{id}.scope"));
        assert_eq!(path("-.slice", true), format!("/docker-{id}.scope"));
    }

    #[test]
    fn a_wall_time_keeps_its_age_on_the_monotonic_clock() {
        let now = Moment::now();
        let before = Moment::at_wall(now.wall_ns - 5_000_000_000, now);
        assert_eq!(now.at - before.at, Duration::from_secs(5));
        let to_come = Moment::at_wall(now.wall_ns + 5_000_000_000, now);
        assert_eq!((to_come.at, to_come.wall_ns), (now.at, now.wall_ns + 5_000_000_000));
        assert!(Moment::at_wall(0, now).at <= now.at);
    }
}
