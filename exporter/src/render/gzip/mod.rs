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
use joint::Joint;
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
    /// The last label set, and where in the stream it began.
    last: Option<(Mark, usize)>,
    /// What stood between the last two label sets: its place in the stream, and its length.
    between: (usize, usize),
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
    /// The sets that it is known to follow: most families have it after the same one, some leave that one out.
    known: [Option<u64>; 2],
    joints: [Joint; 2],
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            codes: Codes::new(),
            bits: Bits::default(),
            crc: Hasher::new(),
            written: 0,
            stream: 0,
            last: None,
            between: (0, 0),
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
        self.last = None;
        self.between = (0, 0);
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
        let Self { codes, bits, stream, last, between, places, words, pairs, .. } = self;
        let pen = Pen::new(text, from, codes, bits);
        let mut piece = Piece { pen, codes, before, stream: *stream, last, between, places, words, pairs };
        for mark in marks {
            piece.between(mark.at);
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
    last: &'a mut Option<(Mark, usize)>,
    between: &'a mut (usize, usize),
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
    fn between(&mut self, to: usize) {
        let from = self.pen.at;
        let new = self.pen.text.get(from..to).unwrap_or_default();
        let (model_at, model_length) = std::mem::replace(self.between, (self.before + from, new.len()));
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
        let at = self.before + mark.at;
        let last = self.last.replace((mark, at));
        if self.places.len() <= mark.place {
            self.places.resize_with(mark.place + 1, Place::default);
        }
        let mut places = std::mem::take(self.places);
        if let Some(place) = places.get_mut(mark.place) {
            self.set_at(place, mark, last);
        }
        *self.places = places;
    }

    fn set_at(&mut self, place: &mut Place, mark: Mark, last: Option<(Mark, usize)>) {
        let at = self.before + mark.at;
        let end = mark.at + mark.length;
        if let Some(before) = place.replace(mark.set, self.stream, at).filter(|before| at - before <= WINDOW) {
            return self.pen.copy(at - before, mark.length);
        }
        let Some((model, model_at)) = last.filter(|(_, model_at)| at - model_at <= WINDOW) else {
            return self.search(end);
        };
        if mark.length.max(model.length) > WINDOW {
            return self.search(end);
        }
        if place.known(model.set).is_none() {
            let (text, set) = (self.text(model_at, model.length), self.text(at, mark.length));
            place.learn(model.set, text, set, self.codes);
        }
        match place.known(model.set).filter(|joint| joint.is_near(at - model_at)) {
            Some(joint) => self.joint(joint, at - model_at),
            None => self.search(end),
        }
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
    fn replace(&mut self, set: u64, stream: u64, at: usize) -> Option<usize> {
        if self.set != set {
            (self.set, self.known) = (set, [None; 2]);
        } else if self.stream == stream {
            return Some(std::mem::replace(&mut self.at, at));
        }
        (self.stream, self.at) = (stream, at);
        None
    }

    /// How it follows another set.
    fn known(&self, before: u64) -> Option<&Joint> {
        let [first, second] = &self.joints;
        match self.known {
            [known, _] if known == Some(before) => Some(first),
            [_, known] if known == Some(before) => Some(second),
            _ => None,
        }
    }

    /// Finds out how it follows another set.
    fn learn(&mut self, before: u64, text: &[u8], set: &[u8], codes: &Codes) {
        self.known.reverse();
        self.joints.reverse();
        let ([known, _], [joint, _]) = (&mut self.known, &mut self.joints);
        *known = Some(before);
        joint.make(text, set, codes);
    }
}
