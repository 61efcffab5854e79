//! Our own metrics, held by the `prometheus` crate, in the format of the rest.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::Format;
use super::header::{Type, header};
use super::number::float;
use super::output::Output;
use crate::metrics::{Unit, escape_label};

/// Appends every family of a registry.
pub(super) fn own(families: &[MetricFamily], format: Format, output: &mut Output) {
    let Output { text: out, scratch, .. } = output;
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Type::Counter,
            MetricType::GAUGE => Type::Gauge,
            _ => Type::Untyped,
        };
        header(family.name(), family.help(), kind, unit(family.name()), format, out);
        for metric in family.get_metric() {
            let value = match kind {
                Type::Counter => metric.get_counter().get_value(),
                Type::Gauge | Type::Histogram | Type::Untyped => metric.get_gauge().get_value(),
            };
            sample(family.name(), metric, value, scratch, out);
        }
    }
}

fn unit(name: &str) -> Unit {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    match () {
        () if stem.ends_with("_seconds") => Unit::Seconds,
        () if stem.ends_with("_bytes") => Unit::Bytes,
        () => Unit::None,
    }
}

fn sample(name: &str, metric: &Metric, value: f64, labels: &mut String, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    labels.clear();
    for pair in metric.get_label() {
        labels.push(if labels.is_empty() { '{' } else { ',' });
        labels.push_str(pair.name());
        labels.push_str("=\"");
        escape_label(pair.value(), labels);
        labels.push('"');
    }
    if !labels.is_empty() {
        labels.push('}');
    }
    out.extend_from_slice(labels.as_bytes());
    out.push(b' ');
    float(value, out);
    out.push(b'\n');
}
