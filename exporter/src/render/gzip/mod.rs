//! Gzip for expositions: a deflate encoder that knows where the label sets stand.
//!
//! An exposition has the same label sets in every family, in the same order; only the numbers between them change.
//!
//! - A label set is written as copies from the set before it. The bits of the text that the two do not share are cached from scrape to
//!   scrape ([`repeated_span`]).
//! - The text between two label sets is mostly a copy from the line before, except for the number.
//! - All else, such as help texts, goes through a plain search for repetitions.
//!
//! The codes are fixed ([`deflate`]), as bits could not be cached otherwise. The result is one ordinary deflate block, which every inflater
//! reads.

mod deflate;
mod repeated_span;
#[cfg(test)]
mod tests;

use crc32fast::Hasher;
use deflate::{Bits, Codes, Lengths, PROTOBUF, SHORTEST, SymbolWriter, TEXT, WINDOW, open_block};
use repeated_span::{HashTable, RepeatedSpan, bits_after, common_prefix, common_suffix, hash_of_eight, hash_of_four};

/// The header of a stream (RFC 1952), without name, time and system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Room for the bytes before and after the text, with a margin.
const ENDS: usize = 512;
/// Maximum length of a number in bytes. Longer text between two label sets is searched for repetitions.
const MAX_NUMBER: usize = 32;
/// Number of bytes before a piece that must stand in memory with it, so that it can copy from them.
pub(super) const HISTORY: usize = WINDOW;
/// The shortest copy that takes fewer bits than its bytes, unless it lengthens the copy before it.
const MIN_COPY: usize = 5;
/// Number of earlier label sets that are compared to find the most similar one, as the containers of several services take turns.
const MODELS: usize = 8;
/// Number of rows of one family that are distinguished. The lines of all rows stand together for each container.
const ROWS: usize = 16;

/// A hint where a label set stands in a text. The text is written without it, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelSpan {
    /// Where the set begins.
    pub(super) at: usize,
    /// Its length in bytes.
    pub(super) length: usize,
    /// A number that always stands for the same text.
    pub(super) set: u64,
    /// A small number, most often the same for the same set.
    pub(super) index: usize,
    /// The row of the family, by its place.
    pub(super) row: usize,
}

/// The encoder. Its caches are kept from stream to stream.
#[derive(Debug)]
pub(super) struct Gzip {
    lengths: &'static Lengths,
    codes: Codes,
    bits: Bits,
    crc: Hasher,
    /// Number of bytes written to this stream, before compression.
    written: usize,
    /// Number of this stream.
    stream: u64,
    /// The last label sets.
    recent: Recent,
    /// The last text between two label sets for each row: its position in the stream, and its length.
    between: [(usize, usize); ROWS],
    /// The label sets, by their index.
    slots: Vec<Slot>,
    /// Where four bytes stood last.
    words: HashTable,
    /// Where a label pair or a number stood last.
    pairs: HashTable,
}

/// The cache of one label set.
#[derive(Debug, Default)]
struct Slot {
    set: u64,
    /// The last stream that had the set, and where.
    stream: u64,
    at: usize,
    length: usize,
    /// The sets that it was written after, and their slots. There are two, as some families leave a container out.
    models: [Option<(u64, usize)>; 2],
    /// How it is written after each of them.
    repeated_spans: [RepeatedSpan; 2],
}

/// The slots of the last label sets, without repetitions in a row.
#[derive(Debug, Default)]
struct Recent {
    slots: [usize; MODELS],
    count: usize,
}

impl Recent {
    fn note(&mut self, index: usize) {
        if self.count > 0 && self.slots.get((self.count - 1) % MODELS) == Some(&index) {
            return;
        }
        if let Some(recent) = self.slots.get_mut(self.count % MODELS) {
            *recent = index;
        }
        self.count += 1;
    }

    /// Returns the slots, the latest first.
    fn iter(&self) -> impl Iterator<Item = usize> {
        let first = self.count.saturating_sub(MODELS);
        (first..self.count).rev().filter_map(|at| self.slots.get(at % MODELS).copied())
    }
}

impl Gzip {
    /// Makes an encoder for the text formats or for protobuf, whose caches are of no use for the other.
    pub(super) fn new(is_protobuf: bool) -> Self {
        let lengths = if is_protobuf { PROTOBUF } else { TEXT };
        Self {
            lengths,
            codes: Codes::new(lengths),
            bits: Bits::default(),
            crc: Hasher::new(),
            written: 0,
            stream: 0,
            recent: Recent::default(),
            between: [(0, 0); ROWS],
            slots: Vec::new(),
            words: HashTable::new(),
            pairs: HashTable::new(),
        }
    }

    /// Begins a stream at the end of `out`.
    pub(super) fn begin(&mut self, mut out: Vec<u8>) {
        out.extend_from_slice(&HEADER);
        self.bits = Bits::new(out);
        self.bits.make_room(ENDS);
        open_block(self.lengths, &mut self.bits);
        self.crc = Hasher::new();
        self.written = 0;
        self.stream += 1;
        self.recent.count = 0;
        self.between = [(0, 0); ROWS];
        self.words.clear();
        self.pairs.clear();
    }

    /// Appends the part of `text` from `from` on. Before it stands the text that was appended last: [`HISTORY`] bytes of it, or all.
    /// `label_spans` are those of the new part, in order and without overlap.
    pub(super) fn write(&mut self, text: &[u8], from: usize, label_spans: &[LabelSpan]) {
        let new = text.get(from..).unwrap_or_default();
        self.crc.update(new);
        self.bits.make_room(new.len() * 2 + ENDS);
        let before = self.written - from;
        self.written += new.len();
        let Self { codes, bits, stream, recent, between, slots, words, pairs, .. } = self;
        let symbol_writer = SymbolWriter::new(text, from, codes, bits);
        let mut chunk = Chunk { symbol_writer, codes, before, stream: *stream, recent, between, slots, words, pairs };
        for label_span in label_spans {
            chunk.between(label_span.at, label_span.row);
            chunk.set(*label_span);
        }
        chunk.search(text.len());
        chunk.symbol_writer.flush();
    }

    /// Ends the stream, and returns all bytes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let end = self.codes.end();
        self.bits.put(end.bits, end.count);
        let mut out = self.bits.finish();
        out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
        // RFC 1952: the length modulo 2^32.
        let [a, b, c, d, ..] = (self.written as u64).to_le_bytes();
        out.extend_from_slice(&[a, b, c, d]);
        out
    }
}

/// A piece of the text while it is compressed. Most fields are those of [`Gzip`].
struct Chunk<'a> {
    symbol_writer: SymbolWriter<'a>,
    codes: &'a Codes,
    /// Where in the stream the text begins.
    before: usize,
    stream: u64,
    recent: &'a mut Recent,
    between: &'a mut [(usize, usize); ROWS],
    slots: &'a mut Vec<Slot>,
    words: &'a mut HashTable,
    pairs: &'a mut HashTable,
}

impl<'a> Chunk<'a> {
    /// Returns a part of the text by its position in the stream; an empty one where it is no longer in memory.
    fn text(&self, at: usize, length: usize) -> &'a [u8] {
        let text = |from: usize| self.symbol_writer.text.get(from..from + length);
        at.checked_sub(self.before).and_then(text).unwrap_or_default()
    }

    /// Writes the text before a label set: the number and the end of one line, and the beginning of the next.
    fn between(&mut self, to: usize, row: usize) {
        let from = self.symbol_writer.at;
        let new = self.symbol_writer.text.get(from..to).unwrap_or_default();
        let Some(between) = self.between.get_mut(row % ROWS) else { return };
        let (model_at, model_length) = std::mem::replace(between, (self.before + from, new.len()));
        let model = self.text(model_at, model_length);
        let end = common_suffix(model, new);
        let distance = self.before + to - (model_at + model.len());
        if end < MIN_COPY && new.len() <= MAX_NUMBER {
            return self.number(new);
        }
        if end < MIN_COPY || distance > WINDOW {
            return self.search(to);
        }
        let far = self.before + from - model_at;
        let begin = common_prefix(model, new.get(..new.len() - end).unwrap_or_default());
        if begin > 0 && far <= WINDOW && (begin >= SHORTEST || self.symbol_writer.continues(far)) {
            self.symbol_writer.copy(far, begin);
        }
        if to - end - self.symbol_writer.at > MAX_NUMBER {
            self.search(to - end);
        } else if to - end > self.symbol_writer.at {
            self.symbol_writer.literals(to - end);
        }
        self.symbol_writer.copy(distance, end);
    }

    /// Writes a number that stands between two label sets in protobuf: as a copy from where the same one stood last, or as literals.
    fn number(&mut self, number: &[u8]) {
        let known = hash_of_eight(number).is_some_and(|hash| self.again(hash, number.len()));
        if !known {
            self.symbol_writer.literals(self.symbol_writer.at + number.len());
        }
    }

    /// Writes a label set.
    fn set(&mut self, label_span: LabelSpan) {
        if self.slots.len() <= label_span.index {
            self.slots.resize_with(label_span.index + 1, Slot::default);
        }
        let mut slots = std::mem::take(self.slots);
        self.set_among(&mut slots, label_span);
        *self.slots = slots;
        self.recent.note(label_span.index);
    }

    fn set_among(&mut self, slots: &mut [Slot], label_span: LabelSpan) {
        let at = self.before + label_span.at;
        let end = label_span.at + label_span.length;
        let Some(slot) = slots.get_mut(label_span.index) else { return self.search(end) };
        if let Some(before) = slot.replace(label_span, self.stream, at).filter(|before| at - before <= WINDOW) {
            return self.symbol_writer.copy(at - before, label_span.length);
        }
        if label_span.length > WINDOW {
            return self.search(end);
        }
        let Some(slot) = slots.get(label_span.index) else { return };
        let known = slot.models.iter().zip(&slot.repeated_spans).find_map(|(model, repeated_span)| {
            let distance = at - self.position_of(slots, (*model)?)?;
            repeated_span.is_near(distance).then_some((repeated_span, distance))
        });
        if let Some((repeated_span, distance)) = known {
            return self.repeated_span(repeated_span, distance);
        }
        let Some(model) = self.model(slots, label_span) else { return self.search(end) };
        let (model_text, set) = (self.text(model.at, model.length), self.text(at, label_span.length));
        let Some(slot) = slots.get_mut(label_span.index) else { return };
        let repeated_span = slot.learn((model.set, model.index), model_text, set, self.codes);
        if repeated_span.is_near(at - model.at) {
            self.repeated_span(repeated_span, at - model.at);
        } else {
            self.search(end);
        }
    }

    /// Returns where in this stream a set stood last.
    fn position_of(&self, slots: &[Slot], (set, index): (u64, usize)) -> Option<usize> {
        slots.get(index).filter(|slot| slot.set == set && slot.stream == self.stream).map(|slot| slot.at)
    }

    /// Returns the most similar of the last sets, with its place in the stream. Of equally similar ones it is the nearest.
    fn model(&self, slots: &[Slot], label_span: LabelSpan) -> Option<LabelSpan> {
        let at = self.before + label_span.at;
        let set = self.text(at, label_span.length);
        let models = self.recent.iter().filter_map(|index| {
            let slot = slots.get(index).filter(|slot| slot.stream == self.stream && index != label_span.index)?;
            let near = at - slot.at <= WINDOW && slot.length <= WINDOW;
            let model = LabelSpan { at: slot.at, length: slot.length, set: slot.set, index, row: 0 };
            near.then(|| (model, self.text(slot.at, slot.length))).filter(|(_, text)| !text.is_empty())
        });
        models.min_by_key(|(_, text)| bits_after(text, set)).map(|(model, _)| model)
    }

    /// Writes a label set after another one that begins `distance` before it.
    fn repeated_span(&mut self, repeated_span: &RepeatedSpan, distance: usize) {
        for (part, words) in repeated_span.parts() {
            if part.hash().is_some_and(|hash| self.again(hash, part.length())) {
                continue;
            }
            let ([(begin, begin_distance), (end, end_distance)], (own, bits)) = (part.copied(distance), part.own());
            if begin > 0 {
                self.symbol_writer.copy(begin_distance, begin);
            }
            if own > 0 {
                self.symbol_writer.coded(words, bits, own);
            }
            if end > 0 {
                self.symbol_writer.copy(end_distance, end);
            }
        }
    }

    /// Writes the next `length` bytes, which have this hash, as a copy from where they stood last. Returns whether that is near enough.
    fn again(&mut self, hash: u32, length: usize) -> bool {
        let at = self.before + self.symbol_writer.at;
        let Some(found) = self.pairs.replace(hash, at).filter(|found| at - found <= WINDOW) else { return false };
        let again = !self.text(found, length).is_empty() && self.text(found, length) == self.text(at, length);
        if again {
            self.symbol_writer.copy(at - found, length);
        }
        again
    }

    /// Writes the text up to `to`, with the repetitions that a search finds.
    fn search(&mut self, to: usize) {
        let text = self.symbol_writer.text.get(..to).unwrap_or_default();
        let mut at = self.symbol_writer.at;
        while at < to {
            let here = text.get(at..).unwrap_or_default();
            let length = match self.seen_before(here, at) {
                Some((from, length)) if length >= MIN_COPY => {
                    if self.symbol_writer.at < at {
                        self.symbol_writer.literals(at);
                    }
                    self.symbol_writer.copy(at - from, length);
                    for at in at + 1..at + length {
                        self.note(text.get(at..).unwrap_or_default(), at);
                    }
                    length
                }
                _ => 1,
            };
            at += length;
        }
        if self.symbol_writer.at < to {
            self.symbol_writer.literals(to);
        }
    }

    /// Returns where in the text bytes like those of `here` begin, and how many are equal.
    fn seen_before(&mut self, here: &[u8], at: usize) -> Option<(usize, usize)> {
        let found = self.note(here, at)?.checked_sub(self.before)?;
        let there = self.symbol_writer.text.get(found..)?;
        (at - found <= WINDOW).then(|| (found, common_prefix(there, here)))
    }

    /// Records the bytes that begin at `at`. Returns where in the stream bytes with the same hash began last.
    fn note(&mut self, here: &[u8], at: usize) -> Option<usize> {
        self.words.replace(hash_of_four(here)?, self.before + at)
    }
}

impl Slot {
    /// Records that a set stands at `at` of a stream. Returns where it stood before in the same stream, if it did.
    fn replace(&mut self, label_span: LabelSpan, stream: u64, at: usize) -> Option<usize> {
        if self.set != label_span.set {
            (self.set, self.length, self.models) = (label_span.set, label_span.length, [None; 2]);
        } else if self.stream == stream {
            return Some(std::mem::replace(&mut self.at, at));
        }
        (self.stream, self.at) = (stream, at);
        None
    }

    /// Computes how the set is written after another one, in place of the older of the two that are known.
    fn learn(&mut self, model: (u64, usize), model_text: &[u8], set: &[u8], codes: &Codes) -> &RepeatedSpan {
        self.models.reverse();
        self.repeated_spans.reverse();
        let ([first, _], [repeated_span, _]) = (&mut self.models, &mut self.repeated_spans);
        *first = Some(model);
        repeated_span.make(model_text, set, codes);
        repeated_span
    }
}
