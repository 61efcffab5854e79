//! The delimited protobuf format: `io.prometheus.client.MetricFamily` after `MetricFamily`, each after its length.
//!
//! Written by hand, as there is nothing to keep in objects: a container's labels are encoded once and copied from then on, and
//! all that changes from scrape to scrape is eight bytes of a number. Names keep their `_total` and types are those of the metric
//! table, so that this is the one format in which no name of cAdvisor's has to become untyped. Called by `output` and by what
//! writes rows.

mod histogram;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use histogram::{Buckets, histogram};
use wire::{bytes, encode_pairs, low_bits, tag, varint, write_time};

use super::header::{Type, has_suffix};
use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use crate::metrics::Unit;

/// A family's length is known at its end. Five bytes hold any length, as a number may have more bytes than it needs.
const LENGTH_BYTES: usize = 5;
/// Room for what stands before a counter's value.
const HEAD_BYTES: usize = 24;

/// When a counter began at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nobody knows.
    Unknown,
    /// When its container's run did.
    Run,
    /// At this moment, in nanoseconds since the epoch.
    At(u64),
}

/// The labels of a sample: those of its row, of a dimension, and the set that is on every sample of its container.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleLabels<'a> {
    pub(super) row: &'a str,
    pub(super) dimension: &'a str,
    pub(super) set: LabelSet<'a>,
}

/// What is remembered between the samples of an exposition.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Where the open family's length stands.
    family: Option<usize>,
    /// A row's own labels, those of a dimension, and a set that is no container's: alike from sample to sample, most often.
    pairs: [Pairs; 3],
    /// Memory for a number's text or the message of a histogram.
    memory: Vec<u8>,
}

/// Label pairs as text, and encoded.
#[derive(Debug, Default)]
struct Pairs {
    text: String,
    encoded: Vec<u8>,
}

/// The encoded labels of a container, and after them what stands before the value of a counter that began with its run.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    bytes: Box<[u8]>,
    labels: usize,
}

impl Pairs {
    fn set(&mut self, text: &str) {
        if self.text != text {
            text.clone_into(&mut self.text);
            self.encoded.clear();
            encode_pairs(text, &mut self.encoded);
        }
    }
}

impl Encoded {
    /// Encodes a label set.
    pub(super) fn new(set: &str, started_ns: Option<u64>) -> Self {
        let mut bytes = Vec::with_capacity(set.len() + 2 * HEAD_BYTES);
        encode_pairs(set, &mut bytes);
        let labels = bytes.len();
        if let Some(started) = started_ns {
            bytes.extend_from_slice(Head::counter(Some(started)).bytes());
        }
        Self { bytes: bytes.into_boxed_slice(), labels }
    }

    fn labels(&self) -> &[u8] {
        self.bytes.get(..self.labels).unwrap_or_default()
    }

    fn with_start(&self) -> Option<&[u8]> {
        (self.bytes.len() > self.labels).then_some(&self.bytes)
    }
}

impl Encoder {
    /// Whether a family is open, so that its length is yet to be written.
    #[inline]
    pub(super) fn has_family(&self) -> bool {
        self.family.is_some()
    }

    /// Begins a family; none is open.
    pub(super) fn begin_family(&mut self, name: &str, help: &str, kind: Type, unit: Unit, out: &mut Vec<u8>) {
        self.family = Some(out.len());
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        bytes(tag::FAMILY_NAME, name.as_bytes(), out);
        bytes(tag::FAMILY_HELP, help.as_bytes(), out);
        out.extend_from_slice(&[tag::FAMILY_TYPE, type_number(kind)]);
        let stem = if kind == Type::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        if let Some(unit) = unit.suffix().filter(|unit| has_suffix(stem, unit)) {
            bytes(tag::FAMILY_UNIT, unit.as_bytes(), out);
        }
    }

    /// Writes the length of the open family, if there is one.
    pub(super) fn end_family(&mut self, out: &mut [u8]) {
        let Some(at) = self.family.take() else { return };
        let mut length = out.len().saturating_sub(at + LENGTH_BYTES);
        for (index, byte) in out.iter_mut().skip(at).take(LENGTH_BYTES).enumerate() {
            let more = if index + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = low_bits(length as u64) | more;
            length >>= 7;
        }
    }
}

fn type_number(kind: Type) -> u8 {
    match kind {
        Type::Counter => 0,
        Type::Gauge => 1,
        Type::Untyped => 3,
        Type::Histogram => 4,
    }
}

/// What stands before the eight bytes of a number: the message that it is in, and a counter's start.
struct Head {
    bytes: [u8; HEAD_BYTES],
    length: usize,
}

impl Head {
    /// Of a message that has nothing but the number.
    fn plain(tag: u8) -> Self {
        let mut head = Self { bytes: [0; HEAD_BYTES], length: 0 };
        head.push(&[tag, 9, tag::VALUE]);
        head
    }

    /// Of a counter. The start stands before the value, so that it can be cached with the labels.
    fn counter(start_ns: Option<u64>) -> Self {
        let Some(start) = start_ns else { return Self::plain(tag::METRIC_COUNTER) };
        let mut time = Self { bytes: [0; HEAD_BYTES], length: 0 };
        write_time(start, &mut |byte| time.push(&[byte]));
        let mut head = Self { bytes: [0; HEAD_BYTES], length: 0 };
        head.push(&[
            tag::METRIC_COUNTER,
            low_bits(time.length as u64) + 2 + 9,
            tag::COUNTER_START,
            low_bits(time.length as u64),
        ]);
        head.push(time.bytes());
        head.push(&[tag::VALUE]);
        head
    }

    fn push(&mut self, more: &[u8]) {
        for (to, byte) in self.bytes.iter_mut().skip(self.length).zip(more) {
            *to = *byte;
        }
        self.length += more.len();
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Appends the metric of one number.
pub(super) fn number(kind: Type, labels: SampleLabels<'_>, value: Number, start: Start, output: &mut Output) {
    output.open();
    let value = value.to_double(&mut output.encoder.memory);
    let encoded = labels.set.encoded();
    let with_start = encoded.filter(|_| kind == Type::Counter && start == Start::Run).and_then(Encoded::with_start);
    let head = match (kind, start) {
        (Type::Counter, _) if with_start.is_some() => Head { bytes: [0; HEAD_BYTES], length: 0 },
        (Type::Counter, Start::At(ns)) => Head::counter(Some(ns)),
        (Type::Counter, Start::Run | Start::Unknown) => Head::counter(None),
        (Type::Gauge, _) => Head::plain(tag::METRIC_GAUGE),
        (Type::Histogram | Type::Untyped, _) => Head::plain(tag::METRIC_UNTYPED),
    };
    metric(labels, with_start.or(encoded.map(Encoded::labels)), with_start.is_some(), head.length + 8, output);
    output.text.extend_from_slice(head.bytes());
    output.text.extend_from_slice(&value.to_le_bytes());
}

/// Appends a metric's labels, after which so many bytes are to follow. `block` is the encoded set, where it is cached.
fn metric(labels: SampleLabels<'_>, block: Option<&[u8]>, with_start: bool, rest: usize, output: &mut Output) {
    let Output { encoder, text: out, .. } = &mut *output;
    let [row, dimension, fixed] = &mut encoder.pairs;
    row.set(labels.row);
    dimension.set(labels.dimension);
    let set = block.unwrap_or_else(|| {
        fixed.set(labels.set.text);
        &fixed.encoded
    });
    out.push(tag::FAMILY_METRIC);
    varint((row.encoded.len() + dimension.encoded.len() + set.len() + rest) as u64, out);
    out.extend_from_slice(&row.encoded);
    out.extend_from_slice(&dimension.encoded);
    out.extend_from_slice(set);
    let length = set.len();
    if block.is_some() {
        output.mark_block(labels.set, length, with_start);
    }
}
