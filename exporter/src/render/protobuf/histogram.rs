//! Histograms: classic buckets for every client, and native ones (schema 0) on demand.

use super::wire::{bytes, double_field, low_bits, tag, varint, varint_bytes, varint_field, write_time, zigzag};
use super::{Block, Encoder, SampleLabels, Set, Start};
use crate::render::number::Number;

/// A histogram to be encoded.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct Buckets<'a> {
    /// Counts of the values up to each bound and above the bound before, which is half of it. The last count is of the values above all
    /// bounds.
    pub(in crate::render) counts: &'a [u64],
    /// The first bound, as the exponent of a power of two of a second.
    pub(in crate::render) first_power: i32,
    /// The sum of all values, in seconds.
    pub(in crate::render) sum: Number,
}

impl Encoder {
    /// Appends the metric of a histogram: classic buckets, one for every second bound, and on demand native ones.
    pub(in crate::render) fn histogram(
        &mut self,
        labels: SampleLabels<'_>,
        buckets: Buckets<'_>,
        native: bool,
        start: Start,
        out: &mut Vec<u8>,
    ) -> Option<Block> {
        let start = match (start, labels.set) {
            (Start::Run, Set::Container(encoded)) => encoded.started_ns,
            (Start::At(ns), _) => Some(ns),
            (Start::Run | Start::Unknown, _) => None,
        };
        let mut message = std::mem::take(&mut self.memory);
        let sum = buckets.sum.to_double(&mut message);
        message.clear();
        write_histogram(buckets, sum, native, start, &mut message);
        let rest = 1 + varint_bytes(message.len() as u64) + message.len();
        let block = self.metric(labels, false, rest, out);
        bytes(tag::METRIC_HISTOGRAM, &message, out);
        self.memory = message;
        block
    }
}

fn write_histogram(buckets: Buckets<'_>, sum: f64, native: bool, start_ns: Option<u64>, out: &mut Vec<u8>) {
    let Buckets { counts, first_power, .. } = buckets;
    // The kernel counts while the buckets are read one by one, so that only their own sum fits them.
    varint_field(tag::SAMPLE_COUNT, counts.iter().sum(), out);
    double_field(tag::SAMPLE_SUM, sum, out);
    let mut cumulated = 0;
    let last = counts.len().saturating_sub(1);
    for (index, (power, count)) in (first_power..).zip(counts).enumerate().filter(|(index, _)| *index < last) {
        cumulated += count;
        if index.is_multiple_of(2) {
            out.extend_from_slice(&[tag::BUCKET, low_bits(1 + varint_bytes(cumulated) as u64 + 9)]);
            varint_field(tag::BUCKET_COUNT, cumulated, out);
            double_field(tag::BUCKET_BOUND, power_of_two(power), out);
        }
    }
    if native {
        write_native(counts, first_power, out);
    }
    if let Some(start) = start_ns {
        let at = out.len();
        out.extend_from_slice(&[tag::HISTOGRAM_START, 0]);
        write_time(start, &mut |byte| out.push(byte));
        let length = low_bits((out.len() - at - 2) as u64);
        out.get_mut(at + 1).into_iter().for_each(|byte| *byte = length);
    }
}

/// Writes native buckets of schema 0: the one with the bound 2^n has the index n. The zero bucket has the values up to the first bound.
fn write_native(counts: &[u64], first_power: i32, out: &mut Vec<u8>) {
    varint_field(tag::SCHEMA, 0, out);
    double_field(tag::ZERO_THRESHOLD, power_of_two(first_power), out);
    varint_field(tag::ZERO_COUNT, counts.first().copied().unwrap_or_default(), out);
    let filled = || (first_power..).zip(counts).skip(1).filter(|(_, count)| **count > 0);
    let (mut next, mut span) = (None, (0, 0));
    for (index, _) in filled() {
        match next {
            Some(expected) if expected == index => span.1 += 1,
            other => {
                if other.is_some() {
                    write_span(span, out);
                }
                span = (index - other.unwrap_or_default(), 1);
            }
        }
        next = Some(index + 1);
    }
    // A native histogram without observations must have one empty span, by which it is recognised.
    write_span(span, out);
    if next.is_none() {
        return;
    }
    let deltas = || {
        filled().scan(0_u64, |before, (_, count)| {
            Some(zigzag(count.wrapping_sub(std::mem::replace(before, *count)).cast_signed()))
        })
    };
    out.push(tag::POSITIVE_DELTA);
    varint(deltas().map(varint_bytes).sum::<usize>() as u64, out);
    deltas().for_each(|delta| varint(delta, out));
}

fn write_span((offset, length): (i32, u64), out: &mut Vec<u8>) {
    let offset = zigzag(i64::from(offset));
    out.extend_from_slice(&[tag::POSITIVE_SPAN, low_bits(2 + (varint_bytes(offset) + varint_bytes(length)) as u64)]);
    varint_field(tag::SPAN_OFFSET, offset, out);
    varint_field(tag::SPAN_LENGTH, length, out);
}

/// Returns 2^power, which is exact.
fn power_of_two(power: i32) -> f64 {
    2_f64.powi(power)
}
