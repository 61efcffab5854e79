//! The samples of one family: each container's by its rows, then the host's.

use std::sync::Arc;

use super::facts::{write_fact, write_machine};
use super::histogram;
use super::labels::{LabelSet, LabelSets};
use super::number::Number;
use super::output::Output;
use super::protobuf::Start;
use super::sample::{write_number, write_sample};
use super::view::{Exposed, View};
use crate::metrics::{Dimension, HostFact, Kind, Zero};
use crate::read::{Limits, Row, Sample, Value};

/// Writes the rows of one name: all samples of a container together, as gzip then repeats their labels in a few bits, and the host's
/// after them.
pub(super) fn write_family(view: &View<'_>, rows: &[Row], out: &mut Output) {
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

/// The values of a container or of the host, and what they are labelled with.
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

/// Computes a value; none where a part of it is absent.
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

const HOST_LABELS: &str = r#"id="/",image="",name="""#;

/// Writes the host's sample: from the root cgroup's files, else from `/proc`.
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
