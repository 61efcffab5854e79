//! Gzip for expositions: a deflate encoder that knows where the label sets stand.
//!
//! An exposition has the same label sets in every family, each after the same other one, and only the numbers between them
//! are new. So the bits of what a label set does not share with the one before it are made once and cached from scrape to
//! scrape ([`repeated_span`]); what stands between two label sets is most often a copy from the line before but for the number; and the
//! rest, such as help texts, goes through a plain search for repetitions. The codes are fixed ([`codes`]), as bits could
//! not be cached otherwise. The result is one ordinary deflate block, which every inflater reads.

mod bits;
mod codes;
mod prefix_match;
mod repeated_span;
mod symbol_writer;
#[cfg(test)]
mod tests;

use bits::Bits;
use codes::{Codes, Lengths, open_block};
use crc32fast::Hasher;
use prefix_match::{HashTable, common_prefix, common_suffix, hash_of_eight, hash_of_four};
use repeated_span::{RepeatedSpan, bits_after};
use symbol_writer::{SHORTEST, SymbolWriter, WINDOW};

/// Without a name, a time and a system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Room for what stands before and after the text, with a margin.
const ENDS: usize = 512;
/// A number has at most this many bytes. What is longer between two label sets is searched for repetitions.
const NUMBER: usize = 32;
/// How many bytes of the text before a piece stand in memory with it.
pub(super) const HISTORY: usize = WINDOW;
/// The shortest copy that takes fewer bits than its bytes do, unless it lengthens the copy before.
const WORTH: usize = 5;
/// How many earlier label sets are compared to find the most similar one: services of a project take turns.
const MODELS: usize = 8;
/// How many rows of one family are distinguished, whose lines stand together for each container.
const ROWS: usize = 16;

/// Where a label set stands in a text. A hint: the text is complete without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelSpan {
    /// Where it begins.
    pub(super) at: usize,
    /// Its length in bytes.
    pub(super) length: usize,
    /// The same number always stands for the same text.
    pub(super) set: u64,
    /// A small number, most often the same for the same set.
    pub(super) index: usize,
    /// The row of the family that the line belongs to.
    pub(super) row: usize,
}

/// The encoder, with its caches from stream to stream.
#[derive(Debug)]
pub(super) struct Gzip {
    lengths: &'static Lengths,
    codes: Codes,
    bits: Bits,
    crc: Hasher,
    /// Bytes of this stream that have been written.
    written: usize,
    /// Number of this stream.
    stream: u64,
    /// The slots of the last label sets.
    recent: Recent,
    /// The text before the last label set of each row, from the label set before it on: position in the stream, and length.
    between: [(usize, usize); ROWS],
    slots: Vec<Slot>,
    words: HashTable,
    pairs: HashTable,
}

/// The cache of one label set.
#[derive(Debug, Default)]
struct Slot {
    set: u64,
    /// The stream that it was last in, and where.
    stream: u64,
    at: usize,
    length: usize,
    /// The sets, and their slots, that it is similar to. Two, as some families leave a container out.
    known: [Option<(u64, usize)>; 2],
    repeated_spans: [RepeatedSpan; 2],
}

/// The slots of the last label sets that differ.
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

    /// From the latest on.
    fn iter(&self) -> impl Iterator<Item = usize> {
        let first = self.count.saturating_sub(MODELS);
        (first..self.count).rev().filter_map(|at| self.slots.get(at % MODELS).copied())
    }
}

impl Gzip {
    /// One for the text formats or one for protobuf: what it keeps is of no use for the other.
    pub(super) fn new(is_protobuf: bool) -> Self {
        let lengths = if is_protobuf { codes::PROTOBUF } else { codes::TEXT };
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

    /// Begins a stream, which is appended to `out`.
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

    /// Appends what stands in `text` from `from` on. Before that is what was appended last, [`HISTORY`] bytes of it or all.
    /// `label_spans` are those of what is new, in order, and do not overlap.
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

    /// Ends the stream.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let end = self.codes.end();
        self.bits.put(end.bits, end.count);
        let mut out = self.bits.finish();
        out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
        // Modulo 2^32, says RFC 1952.
        let [a, b, c, d, ..] = (self.written as u64).to_le_bytes();
        out.extend_from_slice(&[a, b, c, d]);
        out
    }
}

/// A piece of the text while it is compressed.
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
    /// Returns a part of the text by its position in the stream; nothing where it is no longer in memory.
    fn text(&self, at: usize, length: usize) -> &'a [u8] {
        let text = |from: usize| self.symbol_writer.text.get(from..from + length);
        at.checked_sub(self.before).and_then(text).unwrap_or_default()
    }

    /// Writes what stands before a label set: the number and the end of one line, the beginning of the next.
    fn between(&mut self, to: usize, row: usize) {
        let from = self.symbol_writer.at;
        let new = self.symbol_writer.text.get(from..to).unwrap_or_default();
        let Some(between) = self.between.get_mut(row % ROWS) else { return };
        let (model_at, model_length) = std::mem::replace(between, (self.before + from, new.len()));
        let model = self.text(model_at, model_length);
        let end = common_suffix(model, new);
        let distance = self.before + to - (model_at + model.len());
        if end < WORTH && new.len() <= NUMBER {
            return self.number(new);
        }
        if end < WORTH || distance > WINDOW {
            return self.search(to);
        }
        let far = self.before + from - model_at;
        let begin = common_prefix(model, new.get(..new.len() - end).unwrap_or_default());
        if begin > 0 && far <= WINDOW && (begin >= SHORTEST || self.symbol_writer.continues(far)) {
            self.symbol_writer.copy(far, begin);
        }
        if to - end - self.symbol_writer.at > NUMBER {
            self.search(to - end);
        } else if to - end > self.symbol_writer.at {
            self.symbol_writer.literals(to - end);
        }
        self.symbol_writer.copy(distance, end);
    }

    /// Writes the few bytes of a number that stand between two label sets in protobuf: as a copy from where the same were last, or as
    /// they are.
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
        let known = slot.known.iter().zip(&slot.repeated_spans).find_map(|(known, repeated_span)| {
            let distance = at - self.position_of(slots, (*known)?)?;
            repeated_span.is_near(distance).then_some((repeated_span, distance))
        });
        if let Some((repeated_span, distance)) = known {
            return self.repeated_span(repeated_span, distance);
        }
        let Some((model, model_at)) = self.model(slots, label_span) else { return self.search(end) };
        let (text, set) = (self.text(model_at, model.length), self.text(at, label_span.length));
        let Some(slot) = slots.get_mut(label_span.index) else { return };
        let repeated_span = slot.learn((model.set, model.index), text, set, self.codes);
        if repeated_span.is_near(at - model_at) {
            self.repeated_span(repeated_span, at - model_at);
        } else {
            self.search(end);
        }
    }

    /// Returns where in this stream a set was last.
    fn position_of(&self, slots: &[Slot], (set, index): (u64, usize)) -> Option<usize> {
        slots.get(index).filter(|slot| slot.set == set && slot.stream == self.stream).map(|slot| slot.at)
    }

    /// Returns the most similar of the sets before, and where it was last. Of equally similar ones the nearest.
    fn model(&self, slots: &[Slot], label_span: LabelSpan) -> Option<(LabelSpan, usize)> {
        let at = self.before + label_span.at;
        let set = self.text(at, label_span.length);
        let models = self.recent.iter().filter_map(|index| {
            let slot = slots.get(index).filter(|slot| slot.stream == self.stream && index != label_span.index)?;
            let near = at - slot.at <= WINDOW && slot.length <= WINDOW;
            let model = LabelSpan { at: slot.at, length: slot.length, set: slot.set, index, row: 0 };
            near.then(|| (model, self.text(slot.at, slot.length))).filter(|(_, text)| !text.is_empty())
        });
        models.min_by_key(|(_, text)| bits_after(text, set)).map(|(model, _)| (model, model.at))
    }

    /// Writes a label set that follows another, which began `distance` before.
    fn repeated_span(&mut self, repeated_span: &RepeatedSpan, distance: usize) {
        for (part, words) in repeated_span.parts() {
            if part.hash().is_some_and(|hash| self.again(hash, part.length())) {
                continue;
            }
            let ([begin, end], (own, bits)) = (part.copied(distance), part.own());
            if begin.0 > 0 {
                self.symbol_writer.copy(begin.1, begin.0);
            }
            if own > 0 {
                self.symbol_writer.coded(words, bits, own);
            }
            if end.0 > 0 {
                self.symbol_writer.copy(end.1, end.0);
            }
        }
    }

    /// Writes a label pair as a copy from where it was last, if that is near.
    fn again(&mut self, hash: u32, length: usize) -> bool {
        let at = self.before + self.symbol_writer.at;
        let Some(found) = self.pairs.replace(hash, at).filter(|found| at - found <= WINDOW) else { return false };
        let again = !self.text(found, length).is_empty() && self.text(found, length) == self.text(at, length);
        if again {
            self.symbol_writer.copy(at - found, length);
        }
        again
    }

    /// Writes everything up to `to`, with the repetitions that a search finds.
    fn search(&mut self, to: usize) {
        let text = self.symbol_writer.text.get(..to).unwrap_or_default();
        let mut at = self.symbol_writer.at;
        while at < to {
            let here = text.get(at..).unwrap_or_default();
            let length = match self.seen_before(here, at) {
                Some((from, length)) if length >= WORTH => {
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

    /// Returns where in the text the same bytes as those of `here` begin, and how many are equal.
    fn seen_before(&mut self, here: &[u8], at: usize) -> Option<(usize, usize)> {
        let found = self.note(here, at)?.checked_sub(self.before)?;
        let there = self.symbol_writer.text.get(found..)?;
        (at - found <= WINDOW).then(|| (found, common_prefix(there, here)))
    }

    /// Notes what begins at `at`. Returns where in the stream something with the same hash began last.
    fn note(&mut self, here: &[u8], at: usize) -> Option<usize> {
        self.words.replace(hash_of_four(here)?, self.before + at)
    }
}

impl Slot {
    /// Notes that a set is at `at` of a stream. Returns where it was before in the same stream, if it was.
    fn replace(&mut self, label_span: LabelSpan, stream: u64, at: usize) -> Option<usize> {
        if self.set != label_span.set {
            (self.set, self.length, self.known) = (label_span.set, label_span.length, [None; 2]);
        } else if self.stream == stream {
            return Some(std::mem::replace(&mut self.at, at));
        }
        (self.stream, self.at) = (stream, at);
        None
    }

    /// Finds out how it follows another set.
    fn learn(&mut self, model: (u64, usize), text: &[u8], set: &[u8], codes: &Codes) -> &RepeatedSpan {
        self.known.reverse();
        self.repeated_spans.reverse();
        let ([known, _], [repeated_span, _]) = (&mut self.known, &mut self.repeated_spans);
        *known = Some(model);
        repeated_span.make(text, set, codes);
        repeated_span
    }
}
