//! Writes the samples of one family: each container's by its rows, then the host's.

use std::sync::Arc;

use super::columns::{Columns, WantedRow, is_given, is_in_schema, plain_value};
use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use super::protobuf::Start;
use super::sample::{write_histogram, write_number, write_sample};
use super::{Exposed, Format, View};
use crate::metrics::{EngineFact, HostFact, Kind, MachineFact, Zero, push_label};
use crate::name::HealthStatus;
use crate::read::{Row, Sample, Value};

/// Writes the rows of one name. All samples of a container stand together, as gzip then repeats their labels in a few bits; those of
/// the host stand last.
pub(super) fn write_family(view: &View<'_>, rows: &[WantedRow<'_>], columns: &Columns, out: &mut Output) {
    let Some(first) = rows.first() else { return };
    out.family = Some((first.row.family, Arc::clone(&first.row.help)));
    for (position, container) in view.containers.iter().enumerate() {
        out.begin_container(position);
        for (index, WantedRow { row, column }) in rows.iter().enumerate() {
            out.begin_row(index);
            let labels = || set_of(row, columns.labels(position, container));
            match column {
                Some(column) => {
                    if let Some(value) = columns.get(*column, position) {
                        write_number(row, "", labels(), value, start_of(view, row, container, out.format), out);
                    }
                }
                None => write_of_container(view, row, container, labels(), out),
            }
        }
    }
    for (index, WantedRow { row, .. }) in rows.iter().enumerate() {
        out.begin_row(index);
        match &row.value {
            Value::Machine(fact) => write_machine(view, row, *fact, out),
            _ => write_host(view, row, out),
        }
    }
    out.family = None;
}

/// Writes a row of a container whose values stand in no column.
fn write_of_container(view: &View<'_>, row: &Row, container: &Exposed<'_>, labels: LabelSet<'_>, out: &mut Output) {
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
        _ => {
            if let Some(sample) = container.sample.filter(|_| is_given(row, container)) {
                let start = start_of(view, row, container, out.format);
                write_values(view, row, sample, labels, start, out);
            }
        }
    }
}

/// Returns the label set that a row's schema uses.
fn set_of<'a>(row: &Row, labels: LabelSet<'a>) -> LabelSet<'a> {
    if row.family.kind == Kind::Untyped { labels.in_docker_stats() } else { labels }
}

/// Returns when the row's counter of this container began. Text has no starts, and finding one out means reading the engine's report.
fn start_of(view: &View<'_>, row: &Row, container: &Exposed<'_>, format: Format) -> Start {
    if !matches!(format, Format::Protobuf { .. }) {
        return Start::Unknown;
    }
    let run = container.info.and_then(|info| info.started_ns);
    match (row.family.collector.is_probed(), run, view.probed_since_ns) {
        (false, Some(_), _) => Start::Run,
        (false, None, _) | (true, _, None) => Start::Unknown,
        (true, Some(run), Some(probed)) if run >= probed => Start::Run,
        (true, _, Some(probed)) => Start::At(probed),
    }
}

/// Writes the rows of a table, a histogram, or the plain value of the host.
fn write_values(view: &View<'_>, row: &Row, sample: &Sample, labels: LabelSet<'_>, start: Start, out: &mut Output) {
    match &row.value {
        Value::Column(dimension, column) => {
            for (key, value) in sample.table(*dimension).column(*column) {
                write_number(row, view.labels.of(*dimension).text(key), labels, value, start, out);
            }
        }
        Value::Histogram(index, bounds) => {
            if let Some(histogram) = sample.histogram(*index) {
                write_histogram(row, labels, bounds, histogram, start, out);
            }
        }
        _ => {
            if let Some(value) = plain_value(row, sample, None) {
                write_number(row, "", labels, value, start, out);
            }
        }
    }
}

/// Writes a fact that the engine reports of a container.
fn write_fact(row: &Row, container: &Exposed<'_>, labels: LabelSet<'_>, fact: EngineFact, out: &mut Output) {
    let extra = match (fact, container.labels.of) {
        (EngineFact::Info, Some(sets)) => &sets.info,
        (EngineFact::State, Some(sets)) => &sets.state,
        _ => "",
    };
    match fact_of(container, fact) {
        Some(Fact::Time(time)) => write_number(row, "", labels, time, Start::Unknown, out),
        Some(Fact::Number(number)) => {
            // The one counter among these facts.
            let created = container.info.filter(|_| fact == EngineFact::Restarts).and_then(|info| info.created_ns);
            let start = created.map_or(Start::Unknown, Start::At);
            write_sample(row, extra, labels, Number::Signed(number), start, out);
        }
        None => {}
    }
}

/// The value of a fact.
enum Fact {
    Number(i64),
    /// A time in the unit of the row's source.
    Time(u64),
}

fn fact_of(container: &Exposed<'_>, fact: EngineFact) -> Option<Fact> {
    let running = container.sample.is_some();
    match fact {
        EngineFact::LastSeen => return container.last_seen_ms.map(Fact::Time),
        EngineFact::Seen => return Some(Fact::Number(1)),
        EngineFact::IsUp => {
            let is_up = running && container.info.is_none_or(|info| info.state.is_alive());
            return Some(Fact::Number(i64::from(is_up)));
        }
        _ => {}
    }
    let info = container.info?;
    let ended = !info.state.is_alive();
    match fact {
        EngineFact::Started => info.started_ns.map(Fact::Time),
        EngineFact::Created => info.created_ns.map(Fact::Time),
        EngineFact::Finished => {
            info.finished.filter(|_| ended && info.reported.end).map(|moment| Fact::Time(moment.wall_ns))
        }
        EngineFact::Info => Some(Fact::Number(1)),
        EngineFact::State => info.reported.state.then_some(Fact::Number(1)),
        EngineFact::ExitCode => info.exit_code.filter(|_| ended).map(Fact::Number),
        EngineFact::OomKilled => {
            let is_known = info.exit_code.is_some() && (info.reported.end || info.oom_killed);
            (ended && is_known).then_some(Fact::Number(i64::from(info.oom_killed)))
        }
        EngineFact::Restarts => info.restarts.map(|count| Fact::Number(i64::try_from(count).unwrap_or(i64::MAX))),
        EngineFact::HealthState | EngineFact::FailingStreak if ended || !info.reported.health => None,
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

/// Writes a fact of the machine.
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
        push_label(name, value, &mut labels);
    }
    write_sample(row, &labels, LabelSet::fixed(""), Number::Signed(1), Start::Unknown, out);
    out.scratch = labels;
}

const HOST_LABELS: &str = r#"id="/",image="",name="""#;

/// Writes the host's sample: from the root cgroup's files, else from `/proc`.
fn write_host(view: &View<'_>, row: &Row, out: &mut Output) {
    let Some(sample) = view.host.filter(|_| row.series.host != HostFact::None && row.family.kind != Kind::Untyped)
    else {
        return;
    };
    if let HostFact::Disk(field) = row.series.host {
        for (device, value, exponent) in view.facts.disks(field) {
            write_of_procfs(row, device, value, exponent, out);
        }
        return;
    }
    let before = out.samples;
    if !row.series.host.is_of_procfs() {
        let labels = LabelSet::fixed(HOST_LABELS);
        write_values(view, row, sample, labels, Start::Unknown, out);
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
