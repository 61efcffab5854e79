//! The state of the view: the rows, their order, and what the user has chosen. Draws nothing.

use std::time::{Duration, Instant};

use super::Options;
use super::client::Answer;
use super::exposition::{Counter, Gauge};
use super::format::safe;
use super::model::{CGROUPS, Model, Row};
use super::numbers::Numbers;

/// Time after which the rows are sorted again.
const RESORT: Duration = Duration::from_secs(10);

/// The value that rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// CPU time per second.
    Cpu,
    /// Working set.
    Memory,
    /// Working set against the limit.
    MemoryPercent,
    /// Bytes received and sent.
    Network,
    /// Bytes read and written.
    Disk,
    /// Highest pressure.
    Pressure,
    /// Restarts by policy.
    Restarts,
    /// Time since the start.
    Uptime,
    /// Name.
    Name,
}

impl Sort {
    /// Every order with its word for `--sort`.
    pub const ALL: &[(&str, Self)] = &[
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("memory-percent", Self::MemoryPercent),
        ("network", Self::Network),
        ("disk", Self::Disk),
        ("pressure", Self::Pressure),
        ("restarts", Self::Restarts),
        ("uptime", Self::Uptime),
        ("name", Self::Name),
    ];

    pub(super) fn next(self, forward: bool) -> Self {
        let index = Self::ALL.iter().position(|(_, sort)| *sort == self).unwrap_or(0);
        let next = if forward { index + 1 } else { index + Self::ALL.len() - 1 };
        Self::ALL.get(next % Self::ALL.len()).map_or(self, |(_, sort)| *sort)
    }

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, sort)| *sort == self).map_or("", |(word, _)| word)
    }
}

/// The CPU time that is shown as 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CpuScale {
    /// One core.
    Core,
    /// The container's CPU quota, or all cores without one.
    Limit,
    /// All cores of the host.
    Host,
}

/// The screen that is shown below the lines about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Table,
    Detail,
    Help,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// A project, with its number of containers and the sums of their numbers.
    Group { name: String, count: usize, numbers: Box<Numbers> },
    /// A container or cgroup, by its key.
    Container(String),
}

/// The state of the view.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct App {
    pub(super) model: Model,
    /// Name of the exporter's host.
    pub(super) host_name: String,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) editing: bool,
    /// Whether stopped containers are shown.
    pub(super) all: bool,
    /// Whether rows are grouped by project.
    pub(super) grouped: bool,
    pub(super) scale: CpuScale,
    /// Whether network rates are in bits.
    pub(super) bits: bool,
    pub(super) paused: bool,
    pub(super) view: View,
    pub(super) interval: Duration,
    /// Key of the selected container; the selection follows it when rows move.
    pub(super) selected: Option<String>,
    pub(super) lines: Vec<Line>,
    /// The server's clock at the last poll, in seconds since the epoch.
    pub(super) clock: Option<f64>,
    /// Why the last poll failed.
    pub(super) error: Option<String>,
    /// When the last good answer arrived.
    pub(super) answered: Option<Instant>,
    /// When the rows were sorted.
    sorted: Option<Instant>,
}

impl App {
    pub(super) fn new(host_name: String, options: &Options, interval: Duration) -> Self {
        let Options { sort, all, .. } = *options;
        let filter = options.filter.clone();
        Self {
            model: Model::new(),
            host_name,
            sort,
            reversed: false,
            filter,
            editing: false,
            all,
            grouped: false,
            scale: CpuScale::Core,
            bits: false,
            paused: false,
            view: View::Table,
            interval,
            selected: None,
            lines: Vec::new(),
            clock: None,
            error: None,
            answered: None,
            sorted: None,
        }
    }

    /// Takes an answer. `started` is when the view was opened.
    pub(super) fn take(&mut self, answer: &Answer, started: Instant) {
        let Answer { text, asked, arrived, date } = answer;
        let arrived = *arrived;
        let first_rates = self.model.interval.is_none();
        // The time that the exporter takes to answer is part of the expected interval.
        let pace = self.interval + arrived.saturating_duration_since(*asked);
        self.model.take(text, arrived.saturating_duration_since(started).as_secs_f64(), pace.as_secs_f64());
        self.clock = *date;
        self.error = None;
        self.answered = Some(arrived);
        let due = self.sorted.is_none_or(|sorted| arrived.saturating_duration_since(sorted) >= RESORT);
        let changed =
            self.shown().count() != self.lines.iter().filter(|line| matches!(line, Line::Container(_))).count();
        if due || first_rates || changed {
            self.arrange(arrived);
        } else if self.grouped {
            self.sum_groups();
        }
    }

    /// Returns the rows that pass the filter and `--all`.
    fn shown(&self) -> impl Iterator<Item = &Row> {
        let filter = self.filter.to_lowercase();
        self.model.rows.values().filter(move |row| {
            (self.all || !is_stopped(row))
                && (filter.is_empty()
                    || [
                        &*display_name(row),
                        &row.image,
                        row.project.as_deref().unwrap_or_default(),
                        row.state.as_deref().unwrap_or_default(),
                        &row.key,
                    ]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&filter)))
        })
    }

    /// Sorts, filters and groups the rows.
    pub(super) fn arrange(&mut self, now: Instant) {
        self.sorted = Some(now);
        let host = &self.model.host;
        let mut rows: Vec<(&Row, Option<f64>, String)> = self
            .shown()
            .map(|row| (row, sort_value(self.sort, row, host, self.clock), display_name(row).to_lowercase()))
            .collect();
        rows.sort_by(|(_, a, a_name), (_, b, b_name)| {
            let names = if self.sort == Sort::Name && self.reversed { b_name.cmp(a_name) } else { a_name.cmp(b_name) };
            // Rows without a value come last in both directions.
            match (a, b) {
                (Some(a), Some(b)) if self.reversed => a.total_cmp(b).then(names),
                (Some(a), Some(b)) => b.total_cmp(a).then(names),
                (a, b) => b.is_some().cmp(&a.is_some()).then(names),
            }
        });
        let mut lines = Vec::with_capacity(rows.len());
        if self.grouped {
            let mut projects: Vec<&str> = Vec::new();
            for (row, ..) in &rows {
                let project = row.group();
                if !projects.contains(&project) {
                    projects.push(project);
                }
            }
            for project in projects {
                let members: Vec<_> = rows.iter().filter(|(row, ..)| row.group() == project).collect();
                lines.push(Line::Group { name: project.to_owned(), count: members.len(), numbers: Box::default() });
                lines.extend(members.iter().map(|(row, ..)| Line::Container(row.key.clone())));
            }
        } else {
            lines.extend(rows.iter().map(|(row, ..)| Line::Container(row.key.clone())));
        }
        self.lines = lines;
        self.sum_groups();
        let keys: Vec<&String> = self.keys().collect();
        if self.selected.as_ref().is_none_or(|selected| !keys.contains(&selected)) {
            self.selected = keys.first().map(|key| (*key).clone());
        }
    }

    /// Updates the sums of the groups.
    fn sum_groups(&mut self) {
        let model = &self.model;
        let of = |project: &str| {
            // Cgroups contain each other, so a sum would count the same use twice.
            let rows = model.rows.values().filter(|row| project != CGROUPS && row.group() == project);
            rows.map(|row| Numbers::of(row, &model.host)).collect::<Vec<_>>()
        };
        for line in &mut self.lines {
            let Line::Group { name, numbers, .. } = line else { continue };
            let members = of(name);
            let sum = |value: fn(&Numbers) -> Option<f64>| members.iter().filter_map(value).reduce(|a, b| a + b);
            **numbers = Numbers {
                cpu_percent: sum(|numbers| numbers.cpu_percent),
                working_set: sum(|numbers| numbers.working_set),
                receive: sum(|numbers| numbers.receive),
                transmit: sum(|numbers| numbers.transmit),
                read: sum(|numbers| numbers.read),
                write: sum(|numbers| numbers.write),
                ..Numbers::default()
            };
        }
    }

    /// Returns the keys of the shown containers in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.lines.iter().filter_map(|line| match line {
            Line::Container(key) => Some(key),
            Line::Group { .. } => None,
        })
    }

    /// Returns the selected container's row.
    pub(super) fn selected_row(&self) -> Option<&Row> {
        self.model.rows.get(self.selected.as_ref()?)
    }
}

/// Returns the name that is shown: that of the engine, else the first 12 digits of the id, else the cgroup's path.
pub(super) fn display_name(row: &Row) -> String {
    if !row.name.is_empty() {
        return safe(&row.name);
    }
    if row.key.len() == 64 { row.key.chars().take(12).collect() } else { safe(&row.id) }
}

/// Returns whether the container has ended or has not begun.
pub(super) fn is_stopped(row: &Row) -> bool {
    matches!(row.state.as_deref(), Some("exited" | "dead" | "created" | "removing"))
}

/// Returns the seconds since a container's start, or of a stopped one since its end.
pub(super) fn age(row: &Row, clock: Option<f64>) -> Option<f64> {
    let since = if is_stopped(row) { row.gauges.get(Gauge::FinishTime) } else { row.gauges.get(Gauge::StartTime) };
    clock.zip(since).map(|(clock, since)| (clock - since).max(0.0))
}

/// Returns the value that a row is sorted by. Rates are smoothed, so that rows do not jump.
fn sort_value(sort: Sort, row: &Row, host: &Row, clock: Option<f64>) -> Option<f64> {
    let sum = |a: Counter, b: Counter| match (row.smooth.get(a), row.smooth.get(b)) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    };
    match sort {
        Sort::Cpu => row.smooth.get(Counter::Cpu),
        Sort::Memory => row.gauges.get(Gauge::WorkingSet),
        Sort::MemoryPercent => Numbers::of(row, host).memory_percent,
        Sort::Network => sum(Counter::Receive, Counter::Transmit),
        Sort::Disk => sum(Counter::Read, Counter::Write),
        Sort::Pressure => Numbers::of(row, host).pressure().map(|(_, value)| value),
        Sort::Restarts => row.gauges.get(Gauge::Restarts),
        Sort::Uptime => age(row, clock),
        Sort::Name => None,
    }
}
