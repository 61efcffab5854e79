//! The samples of one histogram: `_bucket` for each bound, `_sum`, `_count`. The same in both text formats.

use super::format::Format;
use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use super::protobuf::{Buckets, SampleLabels, Start};
use crate::metrics::Bounds;
use crate::read::{Histogram, Row};

/// The kernel's latencies are nanoseconds.
const NANOSECONDS: u8 = 9;

/// Writes a histogram's samples. The buckets are counted one by one and exposed cumulated, so that count and buckets always agree.
pub(super) fn write(
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
    let mut count = 0;
    let mut buckets = histogram.buckets.iter();
    for (index, bound) in bounds.exposed.iter().enumerate() {
        // Two of the kernel's buckets end at this bound or below it, but only one at the first bound.
        count += buckets.by_ref().take(if index == 0 { 1 } else { 2 }).sum::<u64>();
        begin(row, "_bucket", Some(bound), labels, out);
        integer(count, out);
    }
    count += buckets.sum::<u64>();
    begin(row, "_bucket", Some("+Inf"), labels, out);
    integer(count, out);
    begin(row, "_sum", None, labels, out);
    sum.write(&mut out.text);
    out.text.push(b'\n');
    begin(row, "_count", None, labels, out);
    integer(count, out);
}

fn integer(value: u64, out: &mut Output) {
    out.text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.text.push(b'\n');
}

/// Writes name and labels, and the blank before the value.
fn begin(row: &Row, suffix: &str, bound: Option<&str>, labels: LabelSet<'_>, out: &mut Output) {
    out.open();
    let (before, after) = if bound.is_some() { ("le=\"", "\"") } else { ("", "") };
    let separator = if row.labels.is_empty() || bound.is_none() { "" } else { "," };
    let own = !row.labels.is_empty() || bound.is_some();
    let comma = if own && !labels.text.is_empty() { "," } else { "" };
    let bound = bound.unwrap_or_default();
    for part in [row.family.name, suffix, "{", &row.labels, separator, before, bound, after, comma, labels.text] {
        out.text.extend_from_slice(part.as_bytes());
    }
    out.record_label_set(labels);
    out.text.extend_from_slice(b"} ");
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::format::Format;
    use super::super::output::BufferPool;
    use super::{LabelSet, Output, Start, write};
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
        write(&row, LabelSet::fixed("id=\"/a\""), Probed::bounds(what).unwrap(), &histogram, Start::Unknown, &mut out);
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
