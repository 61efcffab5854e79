//! Renders expositions: the samples of all containers in the order of the metric table, as text or as protobuf, with or without gzip.
//!
//! The registry of the client library holds the exporter's own metrics alone. Containers come and go with their label sets, and a scrape
//! of them allocates nothing per sample: the registry allows neither.

mod columns;
mod family;
mod gzip;
mod header;
mod labels;
mod number;
mod output;
mod protobuf;
mod sample;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prometheus::proto::{MetricFamily, MetricType};

use self::family::write_family;
pub use self::labels::{LabelSet, LabelSets};
use self::number::Number;
pub use self::output::BufferPool;
use self::output::Output;
use self::protobuf::{SampleLabels, Set, Start};
use crate::metrics::{FamilySet, Kind, Unit, push_label};
use crate::name::ContainerInfo;
use crate::read::{HostFacts, Labels, Limits, Machine, Row, Sample};

/// The exposition formats.
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

/// A container as it is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// The labels of its samples. A copy of the set itself, because following a pointer to it would cost each sample two misses of the
    /// processor's cache.
    pub labels: LabelSet<'a>,
    /// Its values, while it runs.
    pub sample: Option<&'a Sample>,
    /// Its limits, while it runs.
    pub limits: Option<&'a Limits>,
    /// The engine's report on the container.
    pub info: Option<&'a ContainerInfo>,
    /// OOM kills over all its runs, where they are known and the container runs or is about to.
    pub oom_kills: Option<u64>,
    /// When it was last seen, in milliseconds since the epoch.
    pub last_seen_ms: Option<u64>,
    /// Since when its OOM kills are counted, in nanoseconds since the epoch.
    pub oom_since_ns: Option<u64>,
}

/// Everything that an exposition is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The rows of every schema that is exposed.
    pub rows: &'a [Row],
    /// The containers.
    pub containers: &'a [Exposed<'a>],
    /// The host's values from the root cgroup, where the host is asked for.
    pub host: Option<&'a Sample>,
    /// The host's values from `/proc`.
    pub facts: &'a HostFacts,
    /// The machine's facts.
    pub machine: &'a Machine,
    /// Version of the engine; empty where none is known.
    pub engine_version: &'a str,
    /// The texts that samples refer to.
    pub labels: &'a Labels,
    /// Whether a collector failed.
    pub failed: bool,
    /// The families that were asked for.
    pub families: FamilySet,
    /// When eBPF programs began to count, in nanoseconds since the epoch.
    pub probed_since_ns: Option<u64>,
}

/// Renders one exposition.
#[must_use]
pub fn render(view: &View<'_>, self_metrics: &[MetricFamily], format: Format, gzip: bool, pool: &BufferPool) -> Bytes {
    let mut output = Output::new(format, gzip, pool);
    let mut columns = std::mem::take(&mut output.columns);
    let wanted = columns.fill(view.rows, &view.families, view.containers);
    for rows in wanted.chunk_by(|one, next| one.row.family.name == next.row.family.name) {
        write_family(view, rows, &columns, &mut output);
    }
    output.columns = columns;
    end(self_metrics, output)
}

/// Renders an exposition of the exporter's own metrics alone.
#[must_use]
pub fn render_self_metrics(self_metrics: &[MetricFamily], format: Format, gzip: bool, pool: &BufferPool) -> Bytes {
    end(self_metrics, Output::new(format, gzip, pool))
}

/// Appends the exporter's own metrics and the end of the exposition.
fn end(self_metrics: &[MetricFamily], mut output: Output) -> Bytes {
    write_self_metrics(self_metrics, &mut output);
    if output.format == Format::OpenMetrics {
        output.text.extend_from_slice(b"# EOF\n");
    }
    output.finish()
}

/// Appends every family of a registry.
fn write_self_metrics(families: &[MetricFamily], out: &mut Output) {
    let mut labels = std::mem::take(&mut out.scratch);
    for family in families.iter().filter(|family| !family.get_metric().is_empty()) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            _ => Kind::Untyped,
        };
        out.begin_family(family.name(), family.help(), kind, unit(family.name()));
        for metric in family.get_metric() {
            let value = match kind {
                Kind::Counter => metric.get_counter().get_value(),
                Kind::Gauge | Kind::Histogram | Kind::Untyped => metric.get_gauge().get_value(),
            };
            labels.clear();
            metric.get_label().iter().for_each(|pair| push_label(pair.name(), pair.value(), &mut labels));
            write_self_sample(family.name(), kind, &labels, Number::Float(value), out);
        }
    }
    out.scratch = labels;
}

fn unit(name: &str) -> Unit {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    match () {
        () if stem.ends_with("_seconds") => Unit::Seconds,
        () if stem.ends_with("_bytes") => Unit::Bytes,
        () => Unit::None,
    }
}

fn write_self_sample(name: &str, kind: Kind, labels: &str, value: Number, out: &mut Output) {
    if let Format::Protobuf { .. } = out.format {
        let labels = SampleLabels { row: labels, dimension: "", set: Set::Other("") };
        out.encoder.number(kind, labels, value, Start::Unknown, &mut out.text);
        return;
    }
    let (open, close) = if labels.is_empty() { ("", " ") } else { ("{", "} ") };
    for part in [name, open, labels, close] {
        out.text.extend_from_slice(part.as_bytes());
    }
    value.write(&mut out.text);
    out.text.push(b'\n');
}
