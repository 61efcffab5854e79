//! Writes the samples of one series: one number, or the samples of a histogram.

use super::Format;
use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use super::protobuf::{Buckets, SampleLabels, Start};
use crate::metrics::{Bounds, Kind, Zero};
use crate::read::{Histogram, Row};

/// Decimal places of the kernel's latencies.
const NANOSECONDS: u8 = 9;

/// Writes a sample of one of the kernel's integers, unless it is a zero that the row leaves out.
#[inline]
pub(super) fn write_number(
    row: &Row,
    dimension: &str,
    labels: LabelSet<'_>,
    value: u64,
    start: Start,
    out: &mut Output,
) {
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

/// Writes a sample. `dimension` is a label beside those of the row and of the container; empty for none.
#[inline]
pub(super) fn write_sample(
    row: &Row,
    dimension: &str,
    labels: LabelSet<'_>,
    number: Number,
    start: Start,
    out: &mut Output,
) {
    if let Format::Protobuf { .. } = out.format {
        out.open();
        let encoded = SampleLabels { row: &row.labels, dimension, set: labels.encoded() };
        let block = out.encoder.number(row.family.kind, encoded, number, start, &mut out.text);
        out.record_block(labels, block);
        return;
    }
    begin_line(row, "", dimension, labels, out);
    number.write(&mut out.text);
    out.text.push(b'\n');
}

/// Writes the samples of a histogram: `_bucket` for each bound, `_sum` and `_count`. The buckets are counted one by one and exposed
/// cumulated, so that the count always equals that of the last bucket.
pub(super) fn write_histogram(
    row: &Row,
    labels: LabelSet<'_>,
    bounds: &Bounds,
    histogram: &Histogram,
    start: Start,
    out: &mut Output,
) {
    let sum = Number::Decimal { value: histogram.sum_ns, exponent: NANOSECONDS, unit: row.family.unit.exponent() };
    if let Format::Protobuf { native } = out.format {
        out.open();
        let encoded = SampleLabels { row: &row.labels, dimension: "", set: labels.encoded() };
        let buckets = Buckets { counts: &histogram.buckets, first_power: bounds.first_power, sum };
        let block = out.encoder.histogram(encoded, buckets, native, start, &mut out.text);
        out.record_block(labels, block);
        return;
    }
    let mut line = |suffix, bound, number: Number| {
        begin_line(row, suffix, bound, labels, out);
        number.write(&mut out.text);
        out.text.push(b'\n');
    };
    let integer = |value| Number::Integer { value, exponent: 0, unit: 0 };
    let mut count = 0;
    let mut buckets = histogram.buckets.iter();
    for (index, bound) in bounds.labels.iter().enumerate() {
        // Two of the kernel's buckets end at this bound or below it, but only one at the first bound.
        count += buckets.by_ref().take(if index == 0 { 1 } else { 2 }).sum::<u64>();
        line("_bucket", bound, integer(count));
    }
    count += buckets.sum::<u64>();
    line("_bucket", r#"le="+Inf""#, integer(count));
    line("_sum", "", sum);
    line("_count", "", integer(count));
}

/// Writes name and labels of a line of text, and the blank before the value.
fn begin_line(row: &Row, suffix: &str, dimension: &str, labels: LabelSet<'_>, out: &mut Output) {
    out.open();
    let text = &mut out.text;
    text.extend_from_slice(row.family.name.as_bytes());
    if !suffix.is_empty() {
        text.extend_from_slice(suffix.as_bytes());
    }
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::Format;
    use super::super::output::BufferPool;
    use super::{LabelSet, Output, Start, write_histogram};
    use crate::metrics::{FAMILIES, Kind, Probed, Source};
    use crate::read::{Histogram, Row, Value};

    #[test]
    fn buckets_are_cumulated_and_end_with_all() {
        let families = FAMILIES.iter().copied().flatten();
        let mut series = families
            .filter(|family| family.kind == Kind::Histogram)
            .flat_map(|family| family.series.iter().map(move |series| (family, series)));
        let (family, series) = series.next().unwrap();
        let Source::Probe(what) = series.v1 else { panic!("{series:?}") };
        let labels = Cow::Borrowed(series.labels);
        let row = Row {
            family,
            number: 0,
            series,
            labels,
            value: Value::Slot(0),
            exponent: 0,
            column: None,
            help: std::sync::Arc::default(),
        };
        let mut histogram = Histogram { sum_ns: 21_000_000_500, ..Histogram::default() };
        (histogram.buckets[0], histogram.buckets[1], histogram.buckets[2]) = (3, 1, 4);
        (histogram.buckets[20], histogram.buckets[21]) = (5, 1);
        let mut out = Output::new(Format::Text, false, &BufferPool::default());
        write_histogram(
            &row,
            LabelSet::fixed("id=\"/a\""),
            Probed::bounds(what).unwrap(),
            &histogram,
            Start::Unknown,
            &mut out,
        );
        let text = String::from_utf8(out.finish().to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 14);
        let name = "container_blkio_latency_seconds";
        let bucket =
            |bound: &str, count| format!("{name}_bucket{{operation=\"read\",le=\"{bound}\",id=\"/a\"}} {count}");
        assert_eq!(lines[0], bucket("1.52587890625e-05", 3));
        assert_eq!((lines[1], lines[2]), (&*bucket("6.103515625e-05", 8), &*bucket("0.000244140625", 8)));
        assert_eq!((lines[8], lines[9]), (&*bucket("1.0", 8), &*bucket("4.0", 8)));
        assert_eq!((lines[10], lines[11]), (&*bucket("16.0", 13), &*bucket("+Inf", 14)));
        assert_eq!(lines[12], format!("{name}_sum{{operation=\"read\",id=\"/a\"}} 21.0000005"));
        assert_eq!(lines[13], format!("{name}_count{{operation=\"read\",id=\"/a\"}} 14"));
    }
}
