//! Our own metrics, held by the `prometheus` crate, in the format of the rest.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::format::Format;
use super::header::Type;
use super::number::Number;
use super::output::Output;
use super::protobuf::{SampleLabels, Set, Start};
use crate::metrics::{Unit, escape_label};

/// Appends every family of a registry.
pub(super) fn self_metrics(families: &[MetricFamily], output: &mut Output) {
    let mut labels = std::mem::take(&mut output.scratch);
    for family in families.iter().filter(|family| !family.get_metric().is_empty()) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Type::Counter,
            MetricType::GAUGE => Type::Gauge,
            _ => Type::Untyped,
        };
        output.begin_family(family.name(), family.help(), kind, unit(family.name()));
        for metric in family.get_metric() {
            let value = match kind {
                Type::Counter => metric.get_counter().get_value(),
                Type::Gauge | Type::Histogram | Type::Untyped => metric.get_gauge().get_value(),
            };
            pairs(metric, &mut labels);
            sample(family.name(), kind, &labels, Number::Float(value), output);
        }
    }
    output.scratch = labels;
}

fn unit(name: &str) -> Unit {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    match () {
        () if stem.ends_with("_seconds") => Unit::Seconds,
        () if stem.ends_with("_bytes") => Unit::Bytes,
        () => Unit::None,
    }
}

fn pairs(metric: &Metric, labels: &mut String) {
    labels.clear();
    for pair in metric.get_label() {
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(pair.name());
        labels.push_str("=\"");
        escape_label(pair.value(), labels);
        labels.push('"');
    }
}

fn sample(name: &str, kind: Type, labels: &str, value: Number, output: &mut Output) {
    if let Format::Protobuf { .. } = output.format {
        let labels = SampleLabels { row: labels, dimension: "", set: Set::Other("") };
        output.encoder.number(kind, labels, value, Start::Unknown, &mut output.text);
        return;
    }
    let out = &mut output.text;
    out.extend_from_slice(name.as_bytes());
    let (open, close) = if labels.is_empty() { ("", " ") } else { ("{", "} ") };
    for part in [open, labels, close] {
        out.extend_from_slice(part.as_bytes());
    }
    value.write(out);
    out.push(b'\n');
}
