//! Samples in table order → exposition text.
//!
//! Our own renderer, as label sets die with their containers and nothing may be allocated per sample: a registry of the client
//! library would need both. That one holds our own metrics only.

mod gzip;
mod header;
mod histogram;
mod labels;
mod number;
mod output;
mod protobuf;
mod self_metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use header::Type;
use labels::LabelSet;
pub use labels::LabelSets;
use number::Number;
pub use output::BufferPool;
use output::Output;
use protobuf::{SampleLabels, Start};

use crate::metrics::{Dimension, EngineFact, FamilySet, HostFact, Kind, MachineFact, Zero, escape_label};
use crate::name::{ContainerInfo, HealthStatus};
use crate::read::{HostFacts, Labels, Limits, Machine, Row, Sample, Value};

/// The exposition formats that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// Delimited protobuf, with the times at which counters began.
    Protobuf {
        /// Whether histograms have native buckets beside the classic ones.
        native: bool,
    },
}

/// One container, or the host, as it is to be exposed.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// Its label sets.
    pub sets: &'a LabelSets,
    /// Its values; none where it does not run.
    pub sample: Option<&'a Sample>,
    /// Its limits; none where it does not run.
    pub limits: Option<&'a Limits>,
    /// What the engine says of it.
    pub info: Option<&'a ContainerInfo>,
    /// Kills for lack of memory over all its runs; none where they are not known, or it neither runs nor is about to.
    pub oom_kills: Option<u64>,
    /// When it was last there, in milliseconds since the epoch.
    pub last_seen_ms: Option<u64>,
    /// Since when its kills for lack of memory are counted, in nanoseconds since the epoch.
    pub oom_since_ns: Option<u64>,
}

/// Everything that an exposition is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The rows of every schema that is exposed.
    pub rows: &'a [Row],
    /// The containers.
    pub containers: &'a [Exposed<'a>],
    /// The host's values by the root cgroup; none where the host is not asked for.
    pub host: Option<&'a Sample>,
    /// The host's values by `/proc`.
    pub facts: &'a HostFacts,
    /// The machine's facts.
    pub machine: &'a Machine,
    /// Version of the engine; empty where it is not known.
    pub engine_version: &'a str,
    /// The texts that samples refer to.
    pub labels: &'a Labels,
    /// Whether a collector could not read all it wanted.
    pub failed: bool,
    /// The families that were asked for.
    pub families: FamilySet,
    /// When eBPF programs began to count, in nanoseconds since the epoch.
    pub probed_since_ns: Option<u64>,
}

/// Renders one exposition.
#[must_use]
pub fn render(
    view: &View<'_>,
    self_metrics: &[prometheus::proto::MetricFamily],
    format: Format,
    gzip: bool,
    pool: &BufferPool,
) -> Bytes {
    let mut output = Output::new(format, gzip, pool);
    for rows in view.rows.chunk_by(|row, next| row.family.name == next.family.name) {
        write_family(view, rows, &mut output);
    }
    end(self_metrics, format, output)
}

/// Renders an exposition of our own metrics alone.
#[must_use]
pub fn render_self_metrics(
    self_metrics: &[prometheus::proto::MetricFamily],
    format: Format,
    gzip: bool,
    pool: &BufferPool,
) -> Bytes {
    end(self_metrics, format, Output::new(format, gzip, pool))
}

fn end(self_metrics: &[prometheus::proto::MetricFamily], format: Format, mut output: Output) -> Bytes {
    self_metrics::self_metrics(self_metrics, &mut output);
    if format == Format::OpenMetrics {
        output.text.extend_from_slice(b"# EOF\n");
    }
    output.finish()
}

fn kind(kind: Kind) -> Type {
    match kind {
        Kind::Counter => Type::Counter,
        Kind::Gauge => Type::Gauge,
        Kind::Histogram => Type::Histogram,
        Kind::Untyped => Type::Untyped,
    }
}

/// Writes the rows of one name: all samples of a container together, as the next one with the same labels costs little then, and the
/// host's after them.
fn write_family(view: &View<'_>, rows: &[Row], out: &mut Output) {
    let wanted = || rows.iter().filter(|row| view.families.has(row.number));
    let Some(first) = wanted().next() else { return };
    out.family = Some((first.family, Arc::clone(&first.help)));
    for (position, container) in view.containers.iter().enumerate() {
        for (index, row) in wanted().enumerate() {
            out.begin_row(index);
            write_of_container(view, row, container, position, out);
        }
    }
    for (index, row) in wanted().enumerate() {
        out.begin_row(index);
        match &row.value {
            Value::Machine(fact) => write_machine(view, row, *fact, out),
            _ => write_host(view, row, out),
        }
    }
    out.family = None;
}

fn write_of_container(view: &View<'_>, row: &Row, container: &Exposed<'_>, position: usize, out: &mut Output) {
    let labels = set_of(row, container.sets, position);
    match &row.value {
        Value::Machine(_) => {}
        Value::Engine(fact) => {
            if is_in_schema(row, container) {
                write_fact(row, container, labels, *fact, out);
            }
        }
        Value::OomKills(_) => {
            if let Some(kills) = container.oom_kills {
                let start = container.oom_since_ns.map_or(Start::Unknown, Start::At);
                write_number(row, "", labels, kills, start, out);
            }
        }
        value => {
            if let Some(sample) = container.sample.filter(|_| is_given(row, container)) {
                let of = Of { sample, limits: container.limits, labels, start: start_of(view, row, container) };
                write_value(view, row, value, of, out);
            }
        }
    }
}

/// The label set that a row's schema uses.
fn set_of<'a>(row: &Row, sets: &'a LabelSets, position: usize) -> LabelSet<'a> {
    sets.set(row.family.kind == Kind::Untyped, position)
}

/// Whether the container has series in the row's schema.
fn is_in_schema(row: &Row, container: &Exposed<'_>) -> bool {
    row.family.kind != Kind::Untyped || !container.sets.docker_stats().is_empty()
}

fn is_given(row: &Row, container: &Exposed<'_>) -> bool {
    is_in_schema(row, container)
        && row.family.given.is_none_or(|limit| container.limits.is_some_and(|limits| limits.get(limit).is_some()))
}

/// When the row's counter of this container began.
fn start_of(view: &View<'_>, row: &Row, container: &Exposed<'_>) -> Start {
    let run = container.info.and_then(|info| info.started_ns);
    match (row.family.collector.is_probed(), run, view.probed_since_ns) {
        (false, Some(_), _) => Start::Run,
        (false, None, _) | (true, _, None) => Start::Unknown,
        (true, Some(run), Some(probed)) if run >= probed => Start::Run,
        (true, _, Some(probed)) => Start::At(probed),
    }
}

/// Whose values they are.
#[derive(Clone, Copy)]
struct Of<'a> {
    sample: &'a Sample,
    limits: Option<&'a Limits>,
    labels: LabelSet<'a>,
    /// When its counters began.
    start: Start,
}

fn write_value(view: &View<'_>, row: &Row, value: &Value, of: Of<'_>, out: &mut Output) {
    let Of { sample, limits, labels, start } = of;
    if let Value::Column(dimension, column) = value {
        for (key, value) in sample.table(*dimension).column(*column) {
            write_number(row, view.labels.of(*dimension).text(key), labels, value, start, out);
        }
        return;
    }
    if let Value::Histogram(index, bounds) = value {
        if let Some(histogram) = sample.histogram(*index) {
            histogram::write(row, labels, bounds, histogram, start, out);
        }
        return;
    }
    let replaced = row.series.unless.is_some_and(|dimension: Dimension| !sample.table(dimension).is_empty());
    if let Some(value) = evaluate(value, sample, limits).filter(|_| !replaced) {
        write_number(row, "", labels, value, start, out);
    }
}

/// The number that a value comes to; none where a part of it is absent.
fn evaluate(value: &Value, sample: &Sample, limits: Option<&Limits>) -> Option<u64> {
    match value {
        Value::Slot(slot) => sample.get(*slot),
        Value::Limit(limit) => limits?.get(*limit),
        Value::Difference(pair) => {
            let (minuend, subtrahend) = &**pair;
            Some(evaluate(minuend, sample, limits)?.saturating_sub(evaluate(subtrahend, sample, limits)?))
        }
        Value::FirstOf(values) => values.iter().find_map(|value| evaluate(value, sample, limits)),
        Value::Sum(values) => {
            let there = values.iter().filter_map(|value| evaluate(value, sample, limits));
            there.reduce(u64::saturating_add)
        }
        Value::Column(..) | Value::Histogram(..) | Value::Engine(_) | Value::OomKills(_) | Value::Machine(_) => None,
    }
}

fn write_number(row: &Row, dimension: &str, labels: LabelSet<'_>, value: u64, start: Start, out: &mut Output) {
    if value == 0 && row.series.zero == Zero::Omit {
        return;
    }
    let (exponent, unit) = (row.exponent, row.family.unit.exponent());
    let number = match row.family.kind {
        Kind::Untyped => Number::Integer { value, exponent, unit },
        _ => Number::Decimal { value, exponent, unit },
    };
    write_sample(row, dimension, labels, number, start, out);
}

fn write_sample(row: &Row, dimension: &str, labels: LabelSet<'_>, number: Number, start: Start, out: &mut Output) {
    if let Format::Protobuf { .. } = out.format {
        let labels = SampleLabels { row: &row.labels, dimension, set: labels };
        protobuf::number(kind(row.family.kind), labels, number, start, out);
        return;
    }
    begin_sample(row, dimension, labels, out);
    number.write(&mut out.text);
    out.text.push(b'\n');
}

/// Name and labels, and the blank before the value.
fn begin_sample(row: &Row, dimension: &str, labels: LabelSet<'_>, out: &mut Output) {
    out.open();
    let text = &mut out.text;
    text.extend_from_slice(row.family.name.as_bytes());
    let mut separator = b'{';
    for part in [&*row.labels, dimension, labels.text] {
        if !part.is_empty() {
            text.push(separator);
            text.extend_from_slice(part.as_bytes());
            separator = b',';
        }
    }
    out.record_label_set(labels);
    out.text.extend_from_slice(if separator == b',' { b"} " } else { b" " });
}

const HOST_LABELS: &str = r#"id="/",image="",name="""#;

/// The host's own sample: by the root cgroup's files, else by `/proc`.
fn write_host(view: &View<'_>, row: &Row, out: &mut Output) {
    let Some(host) = view.host.filter(|_| row.series.host != HostFact::None && row.family.kind != Kind::Untyped) else {
        return;
    };
    if let HostFact::Disk(field) = row.series.host {
        for (device, value, exponent) in view.facts.disks(field) {
            write_of_procfs(row, device, value, exponent, out);
        }
        return;
    }
    let before = out.samples;
    let host = Of { sample: host, limits: None, labels: LabelSet::fixed(HOST_LABELS), start: Start::Unknown };
    if !row.series.host.is_of_procfs() {
        write_value(view, row, &row.value, host, out);
    }
    if out.samples > before {
        return;
    }
    if let Some((value, exponent)) = view.facts.get(row.series.host) {
        write_of_procfs(row, "", value, exponent, out);
    }
}

fn write_of_procfs(row: &Row, dimension: &str, value: u64, exponent: u8, out: &mut Output) {
    if value > 0 || row.series.zero == Zero::Keep {
        let number = Number::Decimal { value, exponent, unit: row.family.unit.exponent() };
        write_sample(row, dimension, LabelSet::fixed(HOST_LABELS), number, Start::Unknown, out);
    }
}

fn write_fact(row: &Row, container: &Exposed<'_>, labels: LabelSet<'_>, fact: EngineFact, out: &mut Output) {
    let extra = match fact {
        EngineFact::Info => &container.sets.info,
        EngineFact::State => &container.sets.state,
        _ => "",
    };
    if fact == EngineFact::LastSeen {
        if let Some(seen) = container.last_seen_ms {
            write_number(row, "", labels, seen, Start::Unknown, out);
        }
    } else if let Some(Fact::Time(time)) = fact_of(container, fact) {
        write_number(row, "", labels, time, Start::Unknown, out);
    } else if let Some(Fact::Number(number)) = fact_of(container, fact) {
        // The one counter among these facts.
        let created = container.info.filter(|_| fact == EngineFact::Restarts).and_then(|info| info.created_ns);
        let start = created.map_or(Start::Unknown, Start::At);
        write_sample(row, extra, labels, Number::Signed(number), start, out);
    }
}

enum Fact {
    Number(i64),
    Time(u64),
}

fn fact_of(container: &Exposed<'_>, fact: EngineFact) -> Option<Fact> {
    let running = container.sample.is_some();
    if fact == EngineFact::Seen {
        return Some(Fact::Number(1));
    }
    let info = container.info;
    if fact == EngineFact::IsUp {
        return Some(Fact::Number(i64::from(running && info.is_none_or(|info| info.state.is_alive()))));
    }
    let info = info?;
    let ended = !info.state.is_alive();
    match fact {
        EngineFact::Started => info.started_ns.map(Fact::Time),
        EngineFact::Created => info.created_ns.map(Fact::Time),
        EngineFact::Finished => {
            info.finished.filter(|_| ended && info.told.end).map(|moment| Fact::Time(moment.wall_ns))
        }
        EngineFact::Info => Some(Fact::Number(1)),
        EngineFact::State => info.told.state.then_some(Fact::Number(1)),
        EngineFact::ExitCode => info.exit_code.filter(|_| ended).map(Fact::Number),
        EngineFact::OomKilled => {
            let is_known = info.exit_code.is_some() && (info.told.end || info.oom_killed);
            (ended && is_known).then_some(Fact::Number(i64::from(info.oom_killed)))
        }
        EngineFact::Restarts => info.restarts.map(|count| Fact::Number(i64::try_from(count).unwrap_or(i64::MAX))),
        EngineFact::HealthState | EngineFact::FailingStreak if ended || !info.told.health => None,
        EngineFact::HealthState => {
            Some(Fact::Number(info.health.map_or(-1, |health| i64::from(health.status == HealthStatus::Healthy))))
        }
        EngineFact::FailingStreak => {
            let streak = info.health?.failing_streak?;
            Some(Fact::Number(i64::try_from(streak).unwrap_or(i64::MAX)))
        }
        EngineFact::Healthy => {
            let healthy = info.health.is_none_or(|health| health.status != HealthStatus::Unhealthy);
            Some(Fact::Number(i64::from(running && healthy)))
        }
        EngineFact::LastSeen | EngineFact::IsUp | EngineFact::Seen => None,
    }
}

fn write_machine(view: &View<'_>, row: &Row, fact: MachineFact, out: &mut Output) {
    let (memory, swap) = view.facts.machine_memory();
    let value = match fact {
        MachineFact::Cores => view.machine.cores,
        MachineFact::PhysicalCores => view.machine.physical_cores,
        MachineFact::Sockets => view.machine.sockets,
        MachineFact::Memory => memory,
        MachineFact::Swap => swap,
        MachineFact::ScrapeError => Some(u64::from(view.failed)),
        MachineFact::VersionInfo => {
            return write_versions(view, row, out);
        }
    };
    let labels = if fact == MachineFact::ScrapeError { "" } else { &view.machine.labels };
    if let Some(value) = value {
        write_number(row, "", LabelSet::fixed(labels), value, Start::Unknown, out);
    }
}

fn write_versions(view: &View<'_>, row: &Row, out: &mut Output) {
    let mut labels = std::mem::take(&mut out.scratch);
    labels.clear();
    for (name, value) in [
        ("cadvisorRevision", env!("BUILD_REVISION")),
        ("cadvisorVersion", env!("CARGO_PKG_VERSION")),
        ("dockerVersion", view.engine_version),
        ("kernelVersion", &view.machine.kernel),
        ("osVersion", &view.machine.system),
    ] {
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(name);
        labels.push_str("=\"");
        escape_label(value, &mut labels);
        labels.push('"');
    }
    write_sample(row, &labels, LabelSet::fixed(""), Number::Signed(1), Start::Unknown, out);
    out.scratch = labels;
}
