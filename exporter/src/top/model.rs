//! Turns expositions into rates. The live page does the same in `exporter/page/arithmetic.js`, and the tests compare
//! both with the same numbers.
//!
//! A rate is the increase of a counter between two polls, divided by the time between them. It is unknown at the first
//! poll, after a restart of the container, after a counter fell, and after missed polls.

use std::collections::{HashMap, VecDeque};

use super::exposition::{Counter, FAMILIES, Gauge, Pressure, Role, Values, each_sample, labels};

/// Shortest time over which pressure is computed, in seconds. The kernel updates these counters every two seconds, so that
/// two polls close together may read the same value.
const PRESSURE_SPAN: f64 = super::PRESSURE_SPAN.as_secs_f64();
/// Maximum time between two polls that gives a rate, in intervals.
const GAP_INTERVALS: f64 = 3.0;
/// Weight of the newest rate in a smoothed rate.
const SMOOTHING: f64 = 0.3;
/// Name of the group of cgroups that are not containers. No project can have this name.
pub(super) const CGROUPS: &str = "/";
/// Points of a sparkline.
const HISTORY: usize = 60;

/// The values of one container, of one cgroup, or of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// A container's id (64 hexadecimal digits), else the cgroup's path.
    pub(super) key: String,
    /// Path of the cgroup.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    /// Compose project or swarm stack.
    pub(super) project: Option<String>,
    pub(super) network_mode: Option<String>,
    pub(super) state: Option<String>,
    pub(super) gauges: Values<{ Gauge::COUNT }>,
    /// Increases per second at the last poll.
    pub(super) rates: Values<{ Counter::COUNT }>,
    /// Share of the CFS periods in which the quota was used up.
    pub(super) throttled_share: Option<f64>,
    /// Share of the time in which a task waited, in per cent.
    pub(super) pressure_percent: Values<{ Pressure::COUNT }>,
    /// Smoothed rates, for sorting.
    pub(super) smooth: Values<{ Counter::COUNT }>,
    /// Number of the last polls in a row in which the container used at least 90 % of its CPU limit.
    pub(super) busy_polls: u32,
    /// Whether the container has restarted since it was first seen here.
    pub(super) restarted: bool,
    /// Whether a process of the container was killed for lack of memory since it was first seen here.
    pub(super) oom_killed: bool,
    /// CPU per cent of the last polls, the oldest first.
    pub(super) history: VecDeque<Option<f64>>,
    /// Increases since the poll before.
    increase: Values<{ Counter::COUNT }>,
    pressure: Values<{ Pressure::COUNT }>,
    /// Earlier values of `pressure` with their times, the oldest first.
    pressures: VecDeque<(f64, Values<{ Pressure::COUNT }>)>,
    start: Option<f64>,
    restarts: Option<f64>,
    /// Whether this poll gives no rates, because of a restart or because a counter fell.
    gap: bool,
    /// Number of the last poll that had this row.
    seen: u64,
}

/// One set of labels. The exporter writes it with the same bytes at each poll, so that it is parsed once.
#[derive(Debug)]
struct LabelSet {
    labels: Vec<(&'static str, String)>,
    /// Key of the row; none for a metric of the machine or of the exporter.
    key: Option<String>,
    /// The last value of each counter family, with the number of its poll.
    counters: HashMap<&'static str, (f64, u64)>,
    /// Number of the last poll that had these labels.
    seen: u64,
}

/// All rows, with the values that the next poll is compared with.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) rows: HashMap<String, Row>,
    pub(super) host: Row,
    /// Whether every engine answers; none while this is unknown.
    pub(super) docker_up: Option<bool>,
    pub(super) failed_collectors: Vec<String>,
    /// Seconds between the two polls of the rates; none if there are no rates.
    pub(super) interval: Option<f64>,
    label_sets: HashMap<String, LabelSet>,
    roles: HashMap<&'static str, (&'static str, Role)>,
    polls: u64,
    time: Option<f64>,
}

/// The labels that are kept.
const LABELS: [&str; 8] = [
    "id",
    "name",
    "image",
    "state",
    "network_mode",
    "collector",
    "container_label_com_docker_compose_project",
    "container_label_com_docker_stack_namespace",
];

impl Model {
    pub(super) fn new() -> Self {
        let roles = FAMILIES.iter().map(|&(family, role)| (family, (family, role))).collect();
        let host = Row { key: "/".to_owned(), id: "/".to_owned(), ..Row::default() };
        Self { host, roles, ..Self::default() }
    }

    /// Takes one exposition. `time` is when its first byte arrived, in seconds of a monotonic clock; `pace` is the expected
    /// time between polls in seconds.
    pub(super) fn take(&mut self, text: &str, time: f64, pace: f64) {
        self.polls += 1;
        self.docker_up = None;
        self.failed_collectors.clear();
        for row in self.rows.values_mut().chain([&mut self.host]) {
            row.clear_poll();
        }
        let mut moved = false;
        each_sample(text, |family, labels, value| moved |= self.sample(family, labels, value));
        let elapsed = self.time.map(|before| time - before);
        // The exporter answered with the collection of the last poll: its rates stay.
        if !moved && elapsed.is_some_and(|elapsed| elapsed < GAP_INTERVALS * pace) {
            return;
        }
        self.interval = elapsed.filter(|&elapsed| elapsed > 0.0 && elapsed <= GAP_INTERVALS * pace);
        self.time = Some(time);
        let polls = self.polls;
        self.rows.retain(|_, row| row.seen == polls);
        self.label_sets.retain(|_, set| set.seen == polls);
        let cores = self.host.gauges.get(Gauge::Cores);
        for row in self.rows.values_mut().chain([&mut self.host]) {
            row.update_rates(time, self.interval);
            row.update_marks(cores);
        }
    }

    /// Takes one sample. Returns whether it is a counter whose value differs from that of the last poll.
    fn sample(&mut self, family: &str, text: &str, value: f64) -> bool {
        let Some(&(family, role)) = self.roles.get(family) else { return false };
        if !self.label_sets.contains_key(text) {
            self.label_sets.insert(text.to_owned(), LabelSet::new(text));
        }
        let Some(set) = self.label_sets.get_mut(text) else { return false };
        set.seen = self.polls;
        let row = match set.key.as_deref() {
            None => {
                match role {
                    Role::Gauge(gauge) => self.host.gauges.set(gauge, Some(value)),
                    Role::DockerUp => self.docker_up = Some(self.docker_up.unwrap_or(true) && value > 0.0),
                    Role::CollectorSuccess if value == 0.0 => self.failed_collectors.extend(set.get("collector")),
                    _ => {}
                }
                return false;
            }
            Some("/") => &mut self.host,
            Some(key) => self.rows.entry(key.to_owned()).or_insert_with(|| Row::new(key)),
        };
        if row.seen != self.polls {
            row.seen = self.polls;
            set.describe(row);
        }
        match role {
            Role::Counter(counter) => return set.count(family, value, self.polls, row, counter),
            Role::Pressure(pressure) => row.pressure.set(pressure, Some(value)),
            Role::Gauge(gauge) => row.gauges.set(gauge, Some(value)),
            Role::State if value > 0.0 => row.state = set.get("state"),
            Role::Info => row.network_mode = set.get("network_mode"),
            Role::State | Role::DockerUp | Role::CollectorSuccess => {}
        }
        false
    }
}

impl LabelSet {
    fn new(text: &str) -> Self {
        let labels: Vec<_> = labels(text)
            .into_iter()
            .filter_map(|(name, value)| LABELS.iter().find(|label| **label == name).map(|label| (*label, value)))
            .collect();
        let key = labels.iter().find(|(name, _)| *name == "id").map(|(_, id)| key_of(id).to_owned());
        Self { labels, key, counters: HashMap::new(), seen: 0 }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.clone())
    }

    /// Copies the labels of a container into its row.
    fn describe(&self, row: &mut Row) {
        row.id = self.get("id").unwrap_or_default();
        row.name = self.get("name").unwrap_or_default();
        row.image = self.get("image").unwrap_or_default();
        let of = |label| self.get(label).filter(|value| !value.is_empty());
        row.project = of("container_label_com_docker_compose_project")
            .or_else(|| of("container_label_com_docker_stack_namespace"));
    }

    /// Adds the increase of a counter to its row. Returns whether its value has changed.
    fn count(&mut self, family: &'static str, value: f64, poll: u64, row: &mut Row, counter: Counter) -> bool {
        let Some((before, at)) = self.counters.insert(family, (value, poll)) else { return true };
        let increase = value - before;
        if at + 1 == poll {
            if increase < 0.0 {
                row.gap = true;
            } else {
                row.increase.add(counter, increase);
            }
        }
        increase != 0.0
    }
}

impl Row {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), ..Self::default() }
    }

    /// Returns whether this is a container, and not a cgroup that `--cgroups.include` names.
    pub(super) fn is_container(&self) -> bool {
        !self.key.starts_with('/')
    }

    /// Returns the name of the row's group: its project, or [`CGROUPS`].
    pub(super) fn group(&self) -> &str {
        if self.is_container() { self.project.as_deref().unwrap_or_default() } else { CGROUPS }
    }

    /// Clears the values of the last poll.
    fn clear_poll(&mut self) {
        self.gauges = Values::default();
        self.increase = Values::default();
        self.pressure = Values::default();
        self.state = None;
        self.network_mode = None;
        self.gap = false;
    }

    /// Turns the increases of a poll into rates.
    fn update_rates(&mut self, time: f64, interval: Option<f64>) {
        let start = self.gauges.get(Gauge::StartTime);
        self.gap |= self.start.is_some() && start != self.start;
        self.start = start;
        let interval = interval.filter(|_| !self.gap);
        self.rates = Values::default();
        self.throttled_share = None;
        if let Some(interval) = interval {
            for (_, role) in FAMILIES {
                if let Role::Counter(counter) = role {
                    self.rates.set(counter, self.increase.get(counter).map(|increase| increase / interval));
                }
            }
            let periods = self.increase.get(Counter::Periods).filter(|periods| *periods > 0.0);
            self.throttled_share =
                periods.map(|periods| self.increase.get(Counter::Throttled).unwrap_or(0.0) / periods);
        }
        for counter in [Counter::Cpu, Counter::Receive, Counter::Transmit, Counter::Read, Counter::Write] {
            let Some(rate) = self.rates.get(counter) else { continue };
            let before = self.smooth.get(counter).unwrap_or(rate);
            self.smooth.set(counter, Some(before + SMOOTHING * (rate - before)));
        }
        self.update_pressure(time, interval.is_none());
        self.history.push_back(self.rates.get(Counter::Cpu).map(|rate| 100.0 * rate));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// Updates what the views mark: a busy CPU, restarts and OOM kills.
    fn update_marks(&mut self, cores: Option<f64>) {
        let ceiling = self.cpu_limit_cores().or(cores);
        let busy = self.rates.get(Counter::Cpu).zip(ceiling).is_some_and(|(cpu, ceiling)| cpu >= 0.9 * ceiling);
        self.busy_polls = if busy { self.busy_polls.saturating_add(1) } else { 0 };
        let restarts = self.gauges.get(Gauge::Restarts);
        self.restarted |= self.restarts.zip(restarts).is_some_and(|(before, now)| now > before);
        self.restarts = restarts.or(self.restarts);
        self.oom_killed |= self.rates.get(Counter::OomKills).is_some_and(|rate| rate > 0.0);
    }

    /// Returns the cores of the CPU quota; none without one.
    pub(super) fn cpu_limit_cores(&self) -> Option<f64> {
        let quota = self.gauges.get(Gauge::CpuQuota).filter(|quota| *quota > 0.0);
        let period = self.gauges.get(Gauge::CpuPeriod).filter(|period| *period > 0.0);
        quota.zip(period).map(|(quota, period)| quota / period)
    }

    /// Computes the pressure since the newest poll that is at least [`PRESSURE_SPAN`] old.
    fn update_pressure(&mut self, time: f64, gap: bool) {
        if gap {
            self.pressures.clear();
        }
        self.pressures.push_back((time, self.pressure));
        while self.pressures.get(1).is_some_and(|(at, _)| time - at >= PRESSURE_SPAN) {
            self.pressures.pop_front();
        }
        self.pressure_percent = Values::default();
        let Some((at, base)) = self.pressures.front() else { return };
        let span = time - at;
        if span < PRESSURE_SPAN {
            return;
        }
        for pressure in Pressure::ALL {
            let increase = self.pressure.get(pressure).zip(base.get(pressure)).map(|(now, before)| now - before);
            let percent = increase.filter(|increase| *increase >= 0.0).map(|increase| 100.0 * increase / span);
            self.pressure_percent.set(pressure, percent.map(|percent| percent.min(100.0)));
        }
    }
}

/// Returns the last 64 hexadecimal digits in a cgroup's path, else the path. The path of a container in a container has the
/// ids of both.
fn key_of(id: &str) -> &str {
    let digits = |part: &&str| {
        part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    id.rsplit(|letter: char| !letter.is_ascii_digit() && !('a'..='f').contains(&letter)).find(digits).unwrap_or(id)
}
