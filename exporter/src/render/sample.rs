//! One sample with a number, in every format.

use super::format::Format;
use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use super::protobuf::{SampleLabels, Start};
use crate::metrics::{Kind, Zero};
use crate::read::Row;

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

/// Writes a sample.
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
        let block = out.encoder.number(row.family.kind.into(), encoded, number, start, &mut out.text);
        out.record_block(labels, block);
        return;
    }
    begin_sample(row, dimension, labels, out);
    number.write(&mut out.text);
    out.text.push(b'\n');
}

/// Writes name and labels, and the blank before the value.
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
