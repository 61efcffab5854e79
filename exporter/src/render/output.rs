//! The body that is being written. With gzip, text is compressed piece by piece, so that the whole text is never in memory.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::Format;
use super::columns::Columns;
use super::gzip::{Gzip, HISTORY, LabelSpan};
use super::header::header;
use super::labels::LabelSet;
use super::protobuf::{Block, Encoder};
use crate::metrics::{Family, Kind, Unit};

/// Size of the pieces in which text is compressed: small enough to be still in the processor's cache.
const PIECE_BYTES: usize = 64 * 1024;
/// Maximum number of bodies in the pool.
const MAX_BODIES: usize = 2;
/// Number of bodies in a row that use less than half of their memory, after which the rest of it is freed: one uncompressed answer takes
/// ten times the memory of the compressed ones that Prometheus asks for.
const MAX_ROOMY: u32 = 8;

/// The memory of answered scrapes, for the next ones. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct BufferPool(Arc<Mutex<PoolState>>);

#[derive(Debug, Default)]
struct PoolState {
    bodies: Vec<Vec<u8>>,
    /// Number of bodies returned since the last one that used more than half of its memory.
    roomy: u32,
    scratch: String,
    columns: Columns,
    encoder: Encoder,
    /// One for the text formats and one for protobuf, as label sets are other bytes there.
    compressors: [Option<Box<Compressor>>; 2],
}

impl BufferPool {
    /// Calls `change` with the pool locked. It must be quick, as a client's connection may wait to return a body.
    fn with<T>(&self, change: impl FnOnce(&mut PoolState) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A body that returns to the pool once the last client has received it.
struct Pooled {
    buffer: Vec<u8>,
    pool: BufferPool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let needed = buffer.len();
        buffer.clear();
        self.pool.with(|state| {
            state.roomy = if needed < buffer.capacity() / 2 { state.roomy + 1 } else { 0 };
            if state.roomy > MAX_ROOMY {
                state.roomy = 0;
                buffer.shrink_to(needed + needed / 4);
                state.columns = Columns::default();
            }
            if state.bodies.len() < MAX_BODIES {
                state.bodies.push(buffer);
            }
        });
    }
}

/// The state of compression.
#[derive(Debug)]
struct Compressor {
    gzip: Gzip,
    /// Where label sets stand in the text.
    label_spans: Vec<LabelSpan>,
    /// Memory for the text, kept from scrape to scrape.
    text: Vec<u8>,
    /// How many bytes of the text are compressed.
    done: usize,
}

/// A body that is being written.
#[derive(Debug)]
pub(super) struct Output {
    /// The text. With gzip, the part that is not compressed yet, and before it what the compressor may refer to.
    pub(super) text: Vec<u8>,
    /// Memory for the text of labels.
    pub(super) scratch: String,
    /// Memory for the values of all containers.
    pub(super) columns: Columns,
    /// The family whose header is yet to be written, before its first sample: a family without samples has none.
    pub(super) family: Option<(&'static Family, Arc<str>)>,
    /// The container that is being written, by its place in the view.
    container: usize,
    /// The row that is being written, by its place in the family.
    row: usize,
    /// Number of samples begun.
    pub(super) samples: usize,
    /// The state of protobuf.
    pub(super) encoder: Encoder,
    compressor: Option<Box<Compressor>>,
    pub(super) format: Format,
    pool: BufferPool,
}

/// Returns the compressor of a format.
fn compressor(format: Format, [texts, protobuf]: &mut [Option<Box<Compressor>>; 2]) -> &mut Option<Box<Compressor>> {
    match format {
        Format::Text | Format::OpenMetrics => texts,
        Format::Protobuf { .. } => protobuf,
    }
}

/// Returns a small number for a label set of the container at this place in the view.
fn index_of(container: usize, set: u64) -> usize {
    container * 2 + usize::from(set % 2 == 1)
}

impl Output {
    pub(super) fn new(format: Format, gzip: bool, pool: &BufferPool) -> Self {
        let (mut text, scratch, columns, encoder, mut compressor) = pool.with(|state| {
            let compressor = gzip.then(|| {
                let known = compressor(format, &mut state.compressors).take();
                known.unwrap_or_else(|| Box::new(Compressor::new(format)))
            });
            let PoolState { bodies, scratch, columns, encoder, .. } = state;
            let body = bodies.pop().unwrap_or_default();
            (body, std::mem::take(scratch), std::mem::take(columns), std::mem::take(encoder), compressor)
        });
        if let Some(compressor) = &mut compressor {
            text = compressor.begin(text);
        }
        Self {
            text,
            scratch,
            columns,
            family: None,
            container: 0,
            row: 0,
            samples: 0,
            encoder,
            compressor,
            format,
            pool: pool.clone(),
        }
    }

    /// Begins a container. It must be called before each container of a family.
    #[inline]
    pub(super) fn begin_container(&mut self, position: usize) {
        self.container = position;
    }

    /// Begins a row of the family. It must be called before each row.
    #[inline]
    pub(super) fn begin_row(&mut self, index: usize) {
        self.row = index;
    }

    /// Begins a sample, and writes the family's header before the first one. It must be called before each sample.
    #[inline]
    pub(super) fn open(&mut self) {
        self.samples += 1;
        if let Some((family, help)) = self.family.take() {
            self.begin_family(family.name, &help, family.kind, family.unit);
        }
        if !self.encoder.has_family() {
            self.pass_on();
        }
    }

    /// Writes the header of a family.
    pub(super) fn begin_family(&mut self, name: &str, help: &str, kind: Kind, unit: Unit) {
        if let Format::Protobuf { .. } = self.format {
            self.encoder.end_family(&mut self.text);
            self.pass_on();
            self.encoder.begin_family(name, help, kind, unit, &mut self.text);
        } else {
            header(name, help, kind, unit, self.format, &mut self.text);
        }
    }

    /// Compresses the text once there is a piece of it.
    #[inline]
    fn pass_on(&mut self) {
        if let Some(compressor) = &mut self.compressor
            && self.text.len() >= HISTORY + PIECE_BYTES
        {
            compressor.pass_on(&mut self.text);
        }
    }

    /// Records that the text ends with this label set.
    #[inline]
    pub(super) fn record_label_set(&mut self, LabelSet { text, number: set, .. }: LabelSet<'_>) {
        if let Some(compressor) = &mut self.compressor
            && set > 0
        {
            let (length, index) = (text.len(), index_of(self.container, set));
            compressor.label_spans.push(LabelSpan { at: self.text.len() - length, length, set, index, row: self.row });
        }
    }

    /// Records where in the text this label set is encoded.
    #[inline]
    pub(super) fn record_block(&mut self, set: LabelSet<'_>, block: Option<Block>) {
        if let Some(compressor) = &mut self.compressor
            && let Some(Block { at, length, with_start }) = block
        {
            // A block with the start of the container's counters is a text of its own.
            let index = index_of(self.container, set.number) * 2 + usize::from(with_start);
            let set = set.number * 2 + u64::from(with_start);
            compressor.label_spans.push(LabelSpan { at, length, set, index, row: self.row });
        }
    }

    /// Returns the body.
    pub(super) fn finish(mut self) -> Bytes {
        self.encoder.end_family(&mut self.text);
        let mut body = std::mem::take(&mut self.text);
        if let Some(compressor) = &mut self.compressor {
            body = compressor.finish(body);
        }
        self.pool.with(|state| {
            state.scratch = self.scratch;
            state.columns = self.columns;
            state.encoder = self.encoder;
            let room = compressor(self.format, &mut state.compressors);
            *room = self.compressor.or(room.take());
        });
        Bytes::from_owner(Pooled { buffer: body, pool: self.pool })
    }
}

impl Compressor {
    fn new(format: Format) -> Self {
        let gzip = Gzip::new(matches!(format, Format::Protobuf { .. }));
        Self { gzip, label_spans: Vec::new(), text: Vec::new(), done: 0 }
    }

    /// Begins a gzip stream in this body. Returns memory for the text, which `finish` takes back.
    fn begin(&mut self, body: Vec<u8>) -> Vec<u8> {
        self.gzip.begin(body);
        self.label_spans.clear();
        self.done = 0;
        std::mem::take(&mut self.text)
    }

    /// Compresses the new part of the text, and removes all but the end of it that the next piece may refer to.
    fn pass_on(&mut self, text: &mut Vec<u8>) {
        self.gzip.write(text, self.done, &self.label_spans);
        self.label_spans.clear();
        text.drain(..text.len().saturating_sub(HISTORY));
        self.done = text.len();
    }

    /// Compresses the rest of the text, and returns the body.
    fn finish(&mut self, mut text: Vec<u8>) -> Vec<u8> {
        self.pass_on(&mut text);
        text.clear();
        self.text = text;
        self.gzip.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{BufferPool, Format, MAX_ROOMY, Output};

    #[test]
    fn a_large_body_s_memory_is_given_back_when_small_ones_follow() {
        let pool = BufferPool::default();
        let answer = |bytes: usize| {
            let mut output = Output::new(Format::Text, false, &pool);
            output.text.resize(bytes, b'x');
            drop(output.finish());
            pool.with(|state| state.bodies.first().map_or(0, Vec::capacity))
        };
        assert!(answer(1 << 20) >= 1 << 20);
        for _ in 0..MAX_ROOMY {
            assert!(answer(1000) >= 1 << 20, "the next one may be large again");
        }
        assert!((1000..2000).contains(&answer(1000)));
        // Large and small ones in turns keep what they need.
        for _ in 0..3 * MAX_ROOMY {
            assert!(answer(1 << 20) >= 1 << 20 && answer(1000) >= 1 << 20);
        }
    }
}
