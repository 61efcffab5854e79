//! A label set written after another one: which parts of it are copies from there, and the ready bits of the others.
//!
//! Containers stand in the same order in every family, so this is computed once for two neighbours and used for as long as
//! both keep their labels. It is small: with many containers most of its cost is fetching it from memory.

use super::bits::MOST;
use super::codes::Codes;
use super::prefix_match::{common_prefix, common_suffix, hash};
use super::symbol_writer::WINDOW;

/// So many literals take no more bits than a copy from elsewhere.
const FEW: usize = 4;
/// About how many bits a copy and a literal take.
const COPY_BITS: usize = 20;
const LITERAL_BITS: usize = 6;

/// A label set, as to be written after another one.
#[derive(Debug, Default)]
pub(super) struct RepeatedSpan {
    parts: Vec<Part>,
    /// The bits of what is not in the other one, each part beginning a word.
    words: Vec<u64>,
    /// How much farther back than the other set's beginning the farthest copy is from.
    reach: usize,
}

/// Some label pairs that both have, or one pair that only begins and ends like the other's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    begin: Copied,
    end: Copied,
    /// Length of what is between the two, and the number of its bits.
    own: u32,
    bits: u32,
    /// Hash of the whole part, where a copy from a set farther back may take fewer bits; else 0.
    hash: u32,
}

/// A length, and by how much its distance exceeds that of the sets' beginnings.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    length: u32,
    shift: i32,
}

impl Copied {
    /// Returns length and distance, where the sets' beginnings are so far apart.
    #[inline]
    fn at(self, distance: usize) -> (usize, usize) {
        (self.length as usize, distance.wrapping_add_signed(self.shift as isize))
    }
}

impl Part {
    /// Returns its length.
    #[inline]
    pub(super) fn length(&self) -> usize {
        (self.begin.length + self.own + self.end.length) as usize
    }

    /// Returns its hash, where a copy from a set farther back may take fewer bits.
    #[inline]
    pub(super) fn hash(&self) -> Option<u32> {
        (self.hash != 0).then_some(self.hash)
    }

    /// Returns length and distance of the copies at its beginning and at its end.
    #[inline]
    pub(super) fn copied(&self, distance: usize) -> [(usize, usize); 2] {
        [self.begin.at(distance), self.end.at(distance)]
    }

    /// Returns the length of its own text, and the number of its bits.
    #[inline]
    pub(super) fn own(&self) -> (usize, u32) {
        (self.own as usize, self.bits)
    }
}

impl RepeatedSpan {
    /// Whether every copy is from within the window, where the sets' beginnings are so far apart.
    #[inline]
    pub(super) fn is_near(&self, distance: usize) -> bool {
        distance + self.reach <= WINDOW
    }

    /// Returns each part, with the bits of its own text.
    #[inline]
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, &[u64])> {
        let mut words = self.words.as_slice();
        self.parts.iter().map(move |part| {
            let (own, rest) = words.split_at_checked(part.bits.div_ceil(MOST) as usize).unwrap_or_default();
            words = rest;
            (*part, own)
        })
    }

    /// Computes how `set` is written after `one`, each not longer than the window.
    pub(super) fn make(&mut self, one: &[u8], set: &[u8], codes: &Codes) {
        self.parts.clear();
        self.words.clear();
        self.reach = 0;
        let mut pairs_of_one = pairs(one);
        for (at, pair) in pairs(set) {
            let (from, model) = pairs_of_one.next().unwrap_or((one.len(), &[]));
            let shift = difference(at, from);
            if model == pair {
                self.add_equal(pair.len(), shift);
            } else {
                self.add_different(pair, model, shift, codes);
            }
        }
    }

    fn add_equal(&mut self, length: usize, shift: i32) {
        let equal = self.copied(length, shift);
        match self.parts.last_mut() {
            Some(Part { end, .. }) if end.length > 0 && end.shift == shift => end.length += equal.length,
            Some(Part { begin, own: 0, .. }) if begin.shift == shift => begin.length += equal.length,
            _ => self.parts.push(Part { begin: equal, ..Part::default() }),
        }
    }

    fn add_different(&mut self, pair: &[u8], model: &[u8], shift: i32, codes: &Codes) {
        let begin = common_prefix(pair, model);
        let rest = pair.get(begin..).unwrap_or_default();
        let end = common_suffix(rest, model.get(begin..).unwrap_or_default());
        let own = rest.get(..rest.len() - end).unwrap_or_default();
        let part = Part {
            begin: self.copied(begin, shift),
            end: self.copied(end, shift + difference(pair.len(), model.len())),
            own: small(own.len()),
            bits: self.add_words(own, codes),
            hash: if own.len() > FEW { hash(pair) } else { 0 },
        };
        self.parts.push(part);
    }

    fn copied(&mut self, length: usize, shift: i32) -> Copied {
        self.reach = self.reach.max(usize::try_from(shift).unwrap_or(0));
        Copied { length: small(length), shift }
    }

    /// Adds the bits of a text. Returns their number.
    fn add_words(&mut self, text: &[u8], codes: &Codes) -> u32 {
        let (mut bits, mut word, mut used) = (0, 0, 0);
        for code in text.iter().map(|byte| codes.literal(*byte)) {
            word |= code.bits << used;
            used += code.count;
            bits += code.count;
            if used >= MOST {
                self.words.push(word & ((1 << MOST) - 1));
                used -= MOST;
                word = code.bits >> (code.count - used);
            }
        }
        if used > 0 {
            self.words.push(word);
        }
        bits
    }
}

/// Returns about how many bits it takes to write a set after another one.
pub(super) fn bits_after(one: &[u8], set: &[u8]) -> usize {
    let mut pairs_of_one = pairs(one);
    let mut equal = false;
    let bits = pairs(set).map(|(_, pair)| {
        let (_, model) = pairs_of_one.next().unwrap_or_default();
        let begin = common_prefix(pair, model);
        let rest = pair.get(begin..).unwrap_or_default();
        let own = rest.len() - common_suffix(rest, model.get(begin..).unwrap_or_default());
        let was_equal = std::mem::replace(&mut equal, own == 0);
        if own == 0 && was_equal { 0 } else { COPY_BITS + own * LITERAL_BITS }
    });
    bits.sum()
}

/// No set is longer than the window.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn difference(one: usize, other: usize) -> i32 {
    i32::try_from(one.cast_signed() - other.cast_signed()).unwrap_or(i32::MAX)
}

/// The tag of a label in protobuf; no text begins with it.
const ENCODED: u8 = 0x0a;

/// The label pairs of a set, each with what separates it from the one before, and where they begin. Where a value has what
/// looks like a separator, there are more.
fn pairs(set: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = set;
    std::iter::from_fn(move || {
        let at = set.len() - rest.len();
        let end = if rest.first() == Some(&ENCODED) { end_of_encoded(rest) } else { end_of_text(rest) };
        let (pair, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after;
        (!pair.is_empty()).then_some((at, pair))
    })
}

fn end_of_text(rest: &[u8]) -> usize {
    rest.windows(2).skip(1).position(|two| two == b"\",").map_or(rest.len(), |before| before + 1)
}

/// A pair in protobuf says how long it is, in one byte or in two.
fn end_of_encoded(rest: &[u8]) -> usize {
    match *rest {
        [_, length @ 0..0x80, ..] => 2 + usize::from(length),
        [_, low, high @ 0..0x80, ..] => 3 + (usize::from(low & 0x7f) | usize::from(high) << 7),
        _ => rest.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn pairs_are_told_apart_in_either_form() {
        let texts = |set: &'static [u8]| pairs(set).map(|(_, pair)| pair).collect::<Vec<_>>();
        assert_eq!(texts(b"a=\"1\",b=\"2\",c=\"3\""), [&b"a=\"1"[..], b"\",b=\"2", b"\",c=\"3\""]);
        assert_eq!(texts(b"\x0a\x02xy\x0a\x01z\x1a\x09\x09"), [&b"\x0a\x02xy"[..], b"\x0a\x01z", b"\x1a\x09\x09"]);
        assert_eq!(texts(b"\x0a\x83\x00xyz\x0a\x7fz"), [&b"\x0a\x83\x00xyz"[..], b"\x0a\x7fz"], "cut short");
        assert_eq!(texts(b"\x0a\xff\xff"), [b"\x0a\xff\xff"]);
    }
}
