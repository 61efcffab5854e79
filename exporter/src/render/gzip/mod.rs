//! Gzip for expositions: a deflate encoder that knows where the label sets stand.
//!
//! An exposition says the same label sets once per family, each next to the same neighbours, and only the digits between them are
//! new. So the bits of what a label set does not share with the one before it are made once and kept from scrape to
//! scrape ([`joint`]); what stands between two label sets is most often a copy from the line before but for the number; and the
//! rest (help texts, whatever is odd) goes through a plain search for repetitions. The codes are fixed ([`codes`]), as bits could
//! not be kept otherwise. What comes out is one ordinary deflate block: every inflater reads it.

mod alike;
mod bits;
mod codes;
mod joint;
mod pen;
#[cfg(test)]
mod tests;

use alike::{Seen, common_prefix, common_suffix, hash_of_four};
use bits::Bits;
use codes::{Codes, open_block};
use crc32fast::Hasher;
use joint::{Joint, unlikeness};
use pen::{Pen, SHORTEST, WINDOW};

/// No name, no time, no system: bytes are all there is.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Room for what stands before and after the text, and then some.
const ENDS: usize = 512;
/// A number has at most this many characters: what is longer between two label sets deserves a search.
const NUMBER: usize = 32;
/// How much of the text before a piece has to stand before it.
pub(super) const HISTORY: usize = WINDOW;
/// A copy that does not lengthen another one has to be worth its own bits.
const WORTH: usize = 5;
/// How many of the label sets before are looked at for one that is most like a new one: containers of a project take turns.
const MODELS: usize = 8;
/// Rows of one family whose lines are told apart: those of a container stand together.
const ROWS: usize = 16;

/// A label set in a text: a hint only, the text is complete without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where it begins.
    pub(super) at: usize,
    /// Its length in bytes.
    pub(super) length: usize,
    /// Which one it is. The same number always stands for the same text.
    pub(super) set: u64,
    /// A small number that is most often the same one for the same set.
    pub(super) place: usize,
    /// Which of the lines that its container has in the family.
    pub(super) row: usize,
}

/// The encoder, with what it keeps from stream to stream.
#[derive(Debug)]
pub(super) struct Gzip {
    codes: Codes,
    bits: Bits,
    crc: Hasher,
    /// Bytes of this stream that have been written.
    written: usize,
    /// Number of this stream.
    stream: u64,
    /// The places of the last label sets, each once; the latest at the end.
    recent: Recent,
    /// What stood before the last label set of each row, back to the one before: its place in the stream, and its length.
    between: [(usize, usize); ROWS],
    places: Vec<Place>,
    words: Seen,
    pairs: Seen,
}

/// What is kept of the label set at one place.
#[derive(Debug, Default)]
struct Place {
    set: u64,
    /// The stream that it was last in, and where.
    stream: u64,
    at: usize,
    length: usize,
    /// The sets, and their places, that it is known to be like: most families have the same ones, some leave one out.
    known: [Option<(u64, usize)>; 2],
    joints: [Joint; 2],
}

/// The places of the last label sets that differ.
#[derive(Debug, Default)]
struct Recent {
    places: [usize; MODELS],
    count: usize,
}

impl Recent {
    fn note(&mut self, place: usize) {
        if self.count > 0 && self.places.get((self.count - 1) % MODELS) == Some(&place) {
            return;
        }
        if let Some(slot) = self.places.get_mut(self.count % MODELS) {
            *slot = place;
        }
        self.count += 1;
    }

    /// From the latest on.
    fn iter(&self) -> impl Iterator<Item = usize> {
        let first = self.count.saturating_sub(MODELS);
        (first..self.count).rev().filter_map(|at| self.places.get(at % MODELS).copied())
    }
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            codes: Codes::new(),
            bits: Bits::default(),
            crc: Hasher::new(),
            written: 0,
            stream: 0,
            recent: Recent::default(),
            between: [(0, 0); ROWS],
            places: Vec::new(),
            words: Seen::new(),
            pairs: Seen::new(),
        }
    }

    /// Begins a stream, which is appended to `out`.
    pub(super) fn begin(&mut self, mut out: Vec<u8>) {
        out.extend_from_slice(&HEADER);
        self.bits = Bits::new(out);
        self.bits.make_room(ENDS);
        open_block(&mut self.bits);
        self.crc = Hasher::new();
        self.written = 0;
        self.stream += 1;
        self.recent.count = 0;
        self.between = [(0, 0); ROWS];
        self.words.clear();
        self.pairs.clear();
    }

    /// Appends what stands in `text` from `from` on. Before that is what was appended last, [`HISTORY`] bytes of it or all.
    /// `marks` are those of what is new, in order, and do not overlap.
    pub(super) fn write(&mut self, text: &[u8], from: usize, marks: &[Mark]) {
        let new = text.get(from..).unwrap_or_default();
        self.crc.update(new);
        self.bits.make_room(new.len() * 2 + ENDS);
        let before = self.written - from;
        self.written += new.len();
        let Self { codes, bits, stream, recent, between, places, words, pairs, .. } = self;
        let pen = Pen::new(text, from, codes, bits);
        let mut piece = Piece { pen, codes, before, stream: *stream, recent, between, places, words, pairs };
        for mark in marks {
            piece.between(mark.at, mark.row);
            piece.set(*mark);
        }
        piece.search(text.len());
        piece.pen.flush();
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

/// A piece on its way.
struct Piece<'a> {
    pen: Pen<'a>,
    codes: &'a Codes,
    /// Where in the stream the text begins.
    before: usize,
    stream: u64,
    recent: &'a mut Recent,
    between: &'a mut [(usize, usize); ROWS],
    places: &'a mut Vec<Place>,
    words: &'a mut Seen,
    pairs: &'a mut Seen,
}

impl<'a> Piece<'a> {
    /// A part of the text by its place in the stream; nothing where that is not in the text any more.
    fn text(&self, at: usize, length: usize) -> &'a [u8] {
        let text = |from: usize| self.pen.text.get(from..from + length);
        at.checked_sub(self.before).and_then(text).unwrap_or_default()
    }

    /// Writes what stands before a label set: the number and the end of one line, the beginning of the next.
    fn between(&mut self, to: usize, row: usize) {
        let from = self.pen.at;
        let new = self.pen.text.get(from..to).unwrap_or_default();
        let Some(between) = self.between.get_mut(row % ROWS) else { return };
        let (model_at, model_length) = std::mem::replace(between, (self.before + from, new.len()));
        let model = self.text(model_at, model_length);
        let end = common_suffix(model, new);
        let distance = self.before + to - (model_at + model.len());
        if end < WORTH || distance > WINDOW {
            return self.search(to);
        }
        let far = self.before + from - model_at;
        let begin = common_prefix(model, new.get(..new.len() - end).unwrap_or_default());
        if begin > 0 && far <= WINDOW && (begin >= SHORTEST || self.pen.continues(far)) {
            self.pen.copy(far, begin);
        }
        if to - end - self.pen.at > NUMBER {
            self.search(to - end);
        } else if to - end > self.pen.at {
            self.pen.literals(to - end);
        }
        self.pen.copy(distance, end);
    }

    /// Writes a label set.
    fn set(&mut self, mark: Mark) {
        if self.places.len() <= mark.place {
            self.places.resize_with(mark.place + 1, Place::default);
        }
        let mut places = std::mem::take(self.places);
        self.set_among(&mut places, mark);
        *self.places = places;
        self.recent.note(mark.place);
    }

    fn set_among(&mut self, places: &mut [Place], mark: Mark) {
        let at = self.before + mark.at;
        let end = mark.at + mark.length;
        let Some(place) = places.get_mut(mark.place) else { return self.search(end) };
        if let Some(before) = place.replace(mark, self.stream, at).filter(|before| at - before <= WINDOW) {
            return self.pen.copy(at - before, mark.length);
        }
        if mark.length > WINDOW {
            return self.search(end);
        }
        let Some(place) = places.get(mark.place) else { return };
        let known = place.known.iter().zip(&place.joints).find_map(|(known, joint)| {
            let distance = at - self.place_of(places, (*known)?)?;
            joint.is_near(distance).then_some((joint, distance))
        });
        if let Some((joint, distance)) = known {
            return self.joint(joint, distance);
        }
        let Some((model, model_at)) = self.model(places, mark) else { return self.search(end) };
        let (text, set) = (self.text(model_at, model.length), self.text(at, mark.length));
        let Some(place) = places.get_mut(mark.place) else { return };
        let joint = place.learn((model.set, model.place), text, set, self.codes);
        if joint.is_near(at - model_at) { self.joint(joint, at - model_at) } else { self.search(end) }
    }

    /// Where in this stream a set was last.
    fn place_of(&self, places: &[Place], (set, place): (u64, usize)) -> Option<usize> {
        places.get(place).filter(|place| place.set == set && place.stream == self.stream).map(|place| place.at)
    }

    /// The set before that is most like this one, and where it was last. Of equally good ones the nearest.
    fn model(&self, places: &[Place], mark: Mark) -> Option<(Mark, usize)> {
        let at = self.before + mark.at;
        let set = self.text(at, mark.length);
        let models = self.recent.iter().filter_map(|index| {
            let place = places.get(index).filter(|place| place.stream == self.stream && index != mark.place)?;
            let near = at - place.at <= WINDOW && place.length <= WINDOW;
            let model = Mark { at: place.at, length: place.length, set: place.set, place: index, row: 0 };
            near.then(|| (model, self.text(place.at, place.length))).filter(|(_, text)| !text.is_empty())
        });
        models.min_by_key(|(_, text)| unlikeness(text, set)).map(|(model, _)| (model, model.at))
    }

    /// Writes a label set that follows another, which began `distance` before.
    fn joint(&mut self, joint: &Joint, distance: usize) {
        for (part, words) in joint.parts() {
            if part.hash().is_some_and(|hash| self.again(hash, part.length())) {
                continue;
            }
            let ([begin, end], (own, bits)) = (part.copied(distance), part.own());
            if begin.0 > 0 {
                self.pen.copy(begin.1, begin.0);
            }
            if own > 0 {
                self.pen.coded(words, bits, own);
            }
            if end.0 > 0 {
                self.pen.copy(end.1, end.0);
            }
        }
    }

    /// Writes a label pair as a copy from where it was last, if that is near.
    fn again(&mut self, hash: u32, length: usize) -> bool {
        let at = self.before + self.pen.at;
        let Some(found) = self.pairs.replace(hash, at).filter(|found| at - found <= WINDOW) else { return false };
        let again = !self.text(found, length).is_empty() && self.text(found, length) == self.text(at, length);
        if again {
            self.pen.copy(at - found, length);
        }
        again
    }

    /// Writes everything up to `to`, with the repetitions that a search finds.
    fn search(&mut self, to: usize) {
        let text = self.pen.text.get(..to).unwrap_or_default();
        let mut at = self.pen.at;
        while at < to {
            let here = text.get(at..).unwrap_or_default();
            let length = match self.seen_before(here, at) {
                Some((from, length)) if length >= WORTH => {
                    if self.pen.at < at {
                        self.pen.literals(at);
                    }
                    self.pen.copy(at - from, length);
                    for at in at + 1..at + length {
                        self.note(text.get(at..).unwrap_or_default(), at);
                    }
                    length
                }
                _ => 1,
            };
            at += length;
        }
        if self.pen.at < to {
            self.pen.literals(to);
        }
    }

    /// Where in the text something like `here` begins, and how much of it is alike.
    fn seen_before(&mut self, here: &[u8], at: usize) -> Option<(usize, usize)> {
        let found = self.note(here, at)?.checked_sub(self.before)?;
        let there = self.pen.text.get(found..)?;
        (at - found <= WINDOW).then(|| (found, common_prefix(there, here)))
    }

    /// Notes what begins at `at`. Where in the stream something with the same hash did last.
    fn note(&mut self, here: &[u8], at: usize) -> Option<usize> {
        self.words.replace(hash_of_four(here)?, self.before + at)
    }
}

impl Place {
    /// Notes that a set is at `at` of a stream. Where it was before in the same stream, if it was.
    fn replace(&mut self, mark: Mark, stream: u64, at: usize) -> Option<usize> {
        if self.set != mark.set {
            (self.set, self.length, self.known) = (mark.set, mark.length, [None; 2]);
        } else if self.stream == stream {
            return Some(std::mem::replace(&mut self.at, at));
        }
        (self.stream, self.at) = (stream, at);
        None
    }

    /// Finds out how it follows another set.
    fn learn(&mut self, model: (u64, usize), text: &[u8], set: &[u8], codes: &Codes) -> &Joint {
        self.known.reverse();
        self.joints.reverse();
        let ([known, _], [joint, _]) = (&mut self.known, &mut self.joints);
        *known = Some(model);
        joint.make(text, set, codes);
        joint
    }
}
