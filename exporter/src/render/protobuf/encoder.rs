//! Families, and metrics with one number.

use super::head::Head;
use super::pairs::{Encoded, PairCache};
use super::wire::{bytes, low_bits, tag, varint};
use crate::metrics::Unit;
use crate::render::header::{Type, has_suffix};
use crate::render::number::Number;

/// Bytes of a family's length, which is known at its end: a varint may have more bytes than it needs, and five hold any length.
const LENGTH_BYTES: usize = 5;

/// When a counter began at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) enum Start {
    /// Not known.
    Unknown,
    /// With its container's run.
    Run,
    /// At this moment, in nanoseconds since the epoch.
    At(u64),
}

/// The labels of a sample: those of its row, of a dimension, and the set that is on every sample of its container.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct SampleLabels<'a> {
    pub(in crate::render) row: &'a str,
    pub(in crate::render) dimension: &'a str,
    pub(in crate::render) set: Set<'a>,
}

/// The labels that are on every sample.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) enum Set<'a> {
    /// Of a container.
    Container(&'a Encoded),
    /// Of the host or of the exporter, as text.
    Other(&'a str),
}

/// Where a container's encoded labels were written.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct Block {
    pub(in crate::render) at: usize,
    pub(in crate::render) length: usize,
    /// Whether the start of the container's counters is in it.
    pub(in crate::render) with_start: bool,
}

/// The state between the samples of an exposition, and memory that is used again.
#[derive(Debug, Default)]
pub(in crate::render) struct Encoder {
    /// Where the open family's length stands.
    family: Option<usize>,
    rows: PairCache,
    dimensions: PairCache,
    others: PairCache,
    /// The last start that was not a container's, and what stands before the value of a counter that began then.
    start: Option<(u64, Head)>,
    /// Memory for a number's text or the message of a histogram.
    pub(super) memory: Vec<u8>,
}

impl Encoder {
    /// Whether a family is open, so that its length is yet to be written.
    #[inline]
    pub(in crate::render) fn has_family(&self) -> bool {
        self.family.is_some()
    }

    /// Begins a family; none is open.
    pub(in crate::render) fn begin_family(
        &mut self,
        name: &str,
        help: &str,
        kind: Type,
        unit: Unit,
        out: &mut Vec<u8>,
    ) {
        self.family = Some(out.len());
        [&mut self.rows, &mut self.dimensions, &mut self.others].into_iter().for_each(PairCache::begin_family);
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
    pub(in crate::render) fn end_family(&mut self, out: &mut [u8]) {
        let Some(at) = self.family.take() else { return };
        let mut length = out.len().saturating_sub(at + LENGTH_BYTES);
        for (index, byte) in out.iter_mut().skip(at).take(LENGTH_BYTES).enumerate() {
            let more = if index + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = low_bits(length as u64) | more;
            length >>= 7;
        }
    }

    /// Appends the metric of one number.
    pub(in crate::render) fn number(
        &mut self,
        kind: Type,
        labels: SampleLabels<'_>,
        value: Number,
        start: Start,
        out: &mut Vec<u8>,
    ) -> Option<Block> {
        let value = value.to_double(&mut self.memory).to_le_bytes();
        let head = match (kind, start, labels.set) {
            (Type::Gauge, ..) => Head::GAUGE,
            (Type::Histogram | Type::Untyped, ..) => Head::UNTYPED,
            (Type::Counter, Start::Run, Set::Container(encoded)) if encoded.with_start().is_some() => Head::NONE,
            (Type::Counter, Start::At(ns), _) => self.counter_since(ns),
            (Type::Counter, Start::Run | Start::Unknown, _) => Head::COUNTER,
        };
        let with_start = head.length == 0;
        let block = self.metric(labels, with_start, head.length + value.len(), out);
        out.extend_from_slice(head.bytes());
        out.extend_from_slice(&value);
        block
    }

    fn counter_since(&mut self, ns: u64) -> Head {
        match self.start {
            Some((known, head)) if known == ns => head,
            _ => self.start.insert((ns, Head::counter(Some(ns)))).1,
        }
    }

    /// Appends a metric's labels, after which so many bytes are to follow.
    pub(super) fn metric(
        &mut self,
        labels: SampleLabels<'_>,
        with_start: bool,
        rest: usize,
        out: &mut Vec<u8>,
    ) -> Option<Block> {
        let (row, dimension) = (self.rows.encoded(labels.row), self.dimensions.encoded(labels.dimension));
        let (set, is_block) = match labels.set {
            Set::Container(encoded) => {
                (encoded.with_start().filter(|_| with_start).unwrap_or_else(|| encoded.labels()), true)
            }
            Set::Other(text) => (self.others.encoded(text), false),
        };
        out.push(tag::FAMILY_METRIC);
        varint((row.len() + dimension.len() + set.len() + rest) as u64, out);
        out.extend_from_slice(row);
        out.extend_from_slice(dimension);
        let at = out.len();
        out.extend_from_slice(set);
        is_block.then_some(Block { at, length: set.len(), with_start })
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
