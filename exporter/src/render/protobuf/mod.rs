//! The delimited protobuf format: one `io.prometheus.client.MetricFamily` after another, each after its length.
//!
//! No objects are made in between: a container's labels are encoded once and copied from then on, and all that changes from scrape to
//! scrape is eight bytes of a number. Names keep their `_total` and types are those of the metric table: unlike in OpenMetrics, no name of
//! cAdvisor's becomes `unknown`.

mod histogram;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use histogram::Buckets;
use wire::{Head, bytes, encode_pairs, low_bits, tag, varint};

use super::header::has_suffix;
use super::number::Number;
use crate::metrics::{Kind, Unit};

/// Number of bytes of a family's length, which is known only at the family's end. A varint may have more bytes than it needs, and five hold
/// any length.
const LENGTH_BYTES: usize = 5;
/// Number of texts that a [`PairCache`] keeps.
const CACHED_TEXTS: usize = 16;

/// When a counter began at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Unknown.
    Unknown,
    /// When its container's run began.
    Run,
    /// At this moment, in nanoseconds since the epoch.
    At(u64),
}

/// The labels of a sample, as text: those of its row and of a dimension, and the set of its container.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleLabels<'a> {
    pub(super) row: &'a str,
    pub(super) dimension: &'a str,
    pub(super) set: Set<'a>,
}

/// The labels that all samples of a container, of the host or of the exporter have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Set<'a> {
    /// Of a container.
    Container(&'a Encoded),
    /// Of the host or of the exporter, as text.
    Other(&'a str),
}

/// Where a container's encoded labels were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) at: usize,
    pub(super) length: usize,
    /// Whether the start of the container's counters is in it.
    pub(super) with_start: bool,
}

/// The state between the samples of an exposition, and memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Where the open family's length stands; none while no family is open.
    family: Option<usize>,
    rows: PairCache,
    dimensions: PairCache,
    others: PairCache,
    /// The moment of the last [`Start::At`], and the head of a counter that began then.
    start: Option<(u64, Head)>,
    /// Memory for a number's text or for the message of a histogram.
    memory: Vec<u8>,
}

impl Encoder {
    /// Returns whether a family is open, so that its length is yet to be written.
    #[inline]
    pub(super) fn has_family(&self) -> bool {
        self.family.is_some()
    }

    /// Begins a family. None must be open.
    pub(super) fn begin_family(&mut self, name: &str, help: &str, kind: Kind, unit: Unit, out: &mut Vec<u8>) {
        self.family = Some(out.len());
        [&mut self.rows, &mut self.dimensions, &mut self.others].into_iter().for_each(PairCache::begin_family);
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        bytes(tag::FAMILY_NAME, name.as_bytes(), out);
        bytes(tag::FAMILY_HELP, help.as_bytes(), out);
        out.extend_from_slice(&[tag::FAMILY_TYPE, type_number(kind)]);
        let stem = if kind == Kind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
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

    /// Appends the metric of one number.
    pub(super) fn number(
        &mut self,
        kind: Kind,
        labels: SampleLabels<'_>,
        value: Number,
        start: Start,
        out: &mut Vec<u8>,
    ) -> Option<Block> {
        let value = value.to_double(&mut self.memory).to_le_bytes();
        let head = match (kind, start, labels.set) {
            (Kind::Gauge, ..) => Head::GAUGE,
            (Kind::Histogram | Kind::Untyped, ..) => Head::UNTYPED,
            (Kind::Counter, Start::Run, Set::Container(encoded)) if encoded.with_start().is_some() => Head::NONE,
            (Kind::Counter, Start::At(ns), _) => self.counter_since(ns),
            (Kind::Counter, Start::Run | Start::Unknown, _) => Head::COUNTER,
        };
        let with_start = head.length == 0;
        let block = self.metric(labels, with_start, head.length + value.len(), out);
        out.extend_from_slice(head.bytes());
        out.extend_from_slice(&value);
        block
    }

    /// Returns the head of a counter that began then; mostly all of an exposition began at the same moment.
    fn counter_since(&mut self, ns: u64) -> Head {
        match self.start {
            Some((known, head)) if known == ns => head,
            _ => self.start.insert((ns, Head::counter(ns))).1,
        }
    }

    /// Appends a metric's labels, after which `rest` more bytes of it must follow.
    fn metric(&mut self, labels: SampleLabels<'_>, with_start: bool, rest: usize, out: &mut Vec<u8>) -> Option<Block> {
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

fn type_number(kind: Kind) -> u8 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Untyped => 3,
        Kind::Histogram => 4,
    }
}

/// The encoded labels of a container, and after them the head of a counter that began with the container's run.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    bytes: Box<[u8]>,
    /// Length of the labels in bytes.
    labels: usize,
    started_ns: Option<u64>,
}

impl Encoded {
    /// Encodes a label set of a container. `started_ns` is when its run began, in nanoseconds since the epoch.
    pub(super) fn new(set: &str, started_ns: Option<u64>) -> Self {
        let mut bytes = Vec::with_capacity(set.len() + 2 * size_of::<Head>());
        encode_pairs(set, &mut bytes);
        let labels = bytes.len();
        if let Some(started) = started_ns {
            bytes.extend_from_slice(Head::counter(started).bytes());
        }
        Self { bytes: bytes.into_boxed_slice(), labels, started_ns }
    }

    #[inline]
    fn labels(&self) -> &[u8] {
        self.bytes.get(..self.labels).unwrap_or_default()
    }

    /// Returns the labels and the head; none where the start is unknown.
    #[inline]
    fn with_start(&self) -> Option<&[u8]> {
        self.started_ns.is_some().then_some(&self.bytes)
    }
}

/// A cache of encoded label pairs by their text. In a family the same few texts take turns, as the samples of a container stand together.
#[derive(Debug, Default)]
struct PairCache {
    entries: Vec<Pairs>,
    /// Number of entries of this family. The others are kept for their memory.
    used: usize,
    /// The entry that was used last.
    last: usize,
}

/// Label pairs, as text and encoded.
#[derive(Debug, Default)]
struct Pairs {
    text: String,
    encoded: Vec<u8>,
}

impl PairCache {
    /// Removes the texts of the family before.
    fn begin_family(&mut self) {
        self.used = 0;
        self.last = 0;
    }

    /// Returns the encoded form of a text.
    #[inline]
    fn encoded(&mut self, text: &str) -> &[u8] {
        if text.is_empty() {
            return &[];
        }
        let is_at = |at: usize| self.entries.get(at).filter(|_| at < self.used).is_some_and(|pairs| pairs.text == text);
        let next = if self.last + 1 < self.used { self.last + 1 } else { 0 };
        self.last = if is_at(next) {
            next
        } else if let Some(found) = (0..self.used).find(|at| is_at(*at)) {
            found
        } else {
            self.encode(text)
        };
        self.entries.get(self.last).map_or(&[], |pairs| &pairs.encoded)
    }

    /// Encodes a text into a new entry, or where the cache is full into the one after the last. Returns its place.
    fn encode(&mut self, text: &str) -> usize {
        let at = if self.used < CACHED_TEXTS { self.used } else { (self.last + 1) % CACHED_TEXTS };
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, Pairs::default);
        }
        self.used = self.used.max(at + 1);
        if let Some(pairs) = self.entries.get_mut(at) {
            text.clone_into(&mut pairs.text);
            pairs.encoded.clear();
            encode_pairs(text, &mut pairs.encoded);
        }
        at
    }
}
