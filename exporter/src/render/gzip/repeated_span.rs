//! Repetitions: how a label set is written after another one ([`RepeatedSpan`]), what two texts have in common, and where in a stream a
//! text stood last ([`HashTable`]).
//!
//! Containers stand in the same order in every family, so a [`RepeatedSpan`] is computed once for two neighbours and used for as long as
//! both keep their labels. It is small: with many containers most of its cost is fetching it from memory.

use super::deflate::{Codes, MAX_BITS, WINDOW};

/// Number of literals that take no more bits than a copy from elsewhere.
const FEW: usize = 4;
/// Approximate number of bits of a copy and of a literal.
const COPY_BITS: usize = 20;
const LITERAL_BITS: usize = 6;

/// How a label set is written after another one, its model: the parts that are copies from the model, and the bits of the others.
#[derive(Debug, Default)]
pub(super) struct RepeatedSpan {
    parts: Vec<Part>,
    /// The bits of the text that the model does not have. Each part begins a word.
    words: Vec<u64>,
    /// By how much the distance of the farthest copy exceeds that of the sets' beginnings, in bytes.
    reach: usize,
}

/// Some label pairs that both sets have, or one pair that begins and ends like the model's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    begin: Copied,
    end: Copied,
    /// Length of the text between the two, and the number of its bits.
    own: u32,
    bits: u32,
    /// Hash of the part, where a copy from a set farther back may take fewer bits; else 0.
    hash: u32,
}

/// A copy: its length, and how much its distance exceeds that of the sets' beginnings.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    length: u32,
    shift: i32,
}

impl Copied {
    /// Returns length and distance, for a `distance` between the sets' beginnings.
    #[inline]
    fn at(self, distance: usize) -> (usize, usize) {
        (self.length as usize, distance.wrapping_add_signed(self.shift as isize))
    }
}

impl Part {
    /// Returns the length of the part.
    #[inline]
    pub(super) fn length(&self) -> usize {
        (self.begin.length + self.own + self.end.length) as usize
    }

    /// Returns the hash of the part, where a copy from a set farther back may take fewer bits.
    #[inline]
    pub(super) fn hash(&self) -> Option<u32> {
        (self.hash != 0).then_some(self.hash)
    }

    /// Returns length and distance of the copies at the part's beginning and at its end.
    #[inline]
    pub(super) fn copied(&self, distance: usize) -> [(usize, usize); 2] {
        [self.begin.at(distance), self.end.at(distance)]
    }

    /// Returns the length of the text between the copies, and the number of its bits.
    #[inline]
    pub(super) fn own(&self) -> (usize, u32) {
        (self.own as usize, self.bits)
    }
}

impl RepeatedSpan {
    /// Returns whether every copy is from within the window, for a `distance` between the sets' beginnings.
    #[inline]
    pub(super) fn is_near(&self, distance: usize) -> bool {
        distance + self.reach <= WINDOW
    }

    /// Returns each part, with the bits of the text between its copies.
    #[inline]
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, &[u64])> {
        let mut words = self.words.as_slice();
        self.parts.iter().map(move |part| {
            let (own, rest) = words.split_at_checked(part.bits.div_ceil(MAX_BITS) as usize).unwrap_or_default();
            words = rest;
            (*part, own)
        })
    }

    /// Computes how `set` is written after `model`, each not longer than the window.
    pub(super) fn make(&mut self, model: &[u8], set: &[u8], codes: &Codes) {
        self.parts.clear();
        self.words.clear();
        self.reach = 0;
        let mut model_pairs = pairs(model);
        for (at, pair) in pairs(set) {
            let (from, model_pair) = model_pairs.next().unwrap_or((model.len(), &[]));
            let shift = difference(at, from);
            if model_pair == pair {
                self.add_equal(pair.len(), shift);
            } else {
                self.add_different(pair, model_pair, shift, codes);
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

    fn add_different(&mut self, pair: &[u8], model_pair: &[u8], shift: i32, codes: &Codes) {
        let begin = common_prefix(pair, model_pair);
        let rest = pair.get(begin..).unwrap_or_default();
        let end = common_suffix(rest, model_pair.get(begin..).unwrap_or_default());
        let own = rest.get(..rest.len() - end).unwrap_or_default();
        let part = Part {
            begin: self.copied(begin, shift),
            end: self.copied(end, shift + difference(pair.len(), model_pair.len())),
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
            if used >= MAX_BITS {
                self.words.push(word & ((1 << MAX_BITS) - 1));
                used -= MAX_BITS;
                word = code.bits >> (code.count - used);
            }
        }
        if used > 0 {
            self.words.push(word);
        }
        bits
    }
}

/// Estimates the number of bits that a set takes after a model.
pub(super) fn bits_after(model: &[u8], set: &[u8]) -> usize {
    let mut model_pairs = pairs(model);
    let mut equal = false;
    let bits = pairs(set).map(|(_, pair)| {
        let (_, model_pair) = model_pairs.next().unwrap_or_default();
        let begin = common_prefix(pair, model_pair);
        let rest = pair.get(begin..).unwrap_or_default();
        let own = rest.len() - common_suffix(rest, model_pair.get(begin..).unwrap_or_default());
        let was_equal = std::mem::replace(&mut equal, own == 0);
        if own == 0 && was_equal { 0 } else { COPY_BITS + own * LITERAL_BITS }
    });
    bits.sum()
}

/// Narrows a length; no set is longer than the window.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn difference(one: usize, other: usize) -> i32 {
    i32::try_from(one.cast_signed() - other.cast_signed()).unwrap_or(i32::MAX)
}

/// The tag of a label in protobuf; no text begins with it.
const ENCODED: u8 = 0x0a;

/// Returns the label pairs of a set, as text or encoded, and where they begin. A pair has the separator before it. A value that contains a
/// separator is split.
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

/// Returns the end of a pair in protobuf, which begins with its length in one byte or in two.
fn end_of_encoded(rest: &[u8]) -> usize {
    match *rest {
        [_, length @ 0..0x80, ..] => 2 + usize::from(length),
        [_, low, high @ 0..0x80, ..] => 3 + (usize::from(low & 0x7f) | usize::from(high) << 7),
        _ => rest.len(),
    }
}

/// Returns the number of bytes that both texts begin with, compared eight at a time.
#[inline]
pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let ((one_words, one_rest), (other_words, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let mut length = 0;
    for (word, other) in one_words.iter().zip(other_words) {
        let difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let (one_rest, other_rest) = match one_words.len().cmp(&other_words.len()) {
        std::cmp::Ordering::Equal => (one_rest, other_rest),
        _ => (one.get(length..).unwrap_or_default(), other.get(length..).unwrap_or_default()),
    };
    length + one_rest.iter().zip(other_rest).take_while(|(byte, other)| byte == other).count()
}

/// Returns the number of bytes that both texts end with.
#[inline]
pub(super) fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    let shorter = one.len().min(other.len());
    let last = |text: &'_ [u8], count: usize| text.len() - count;
    let (one, other) = (one.get(last(one, shorter)..), other.get(last(other, shorter)..));
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let ((one_rest, one_words), (other_rest, other_words)) = (one.as_rchunks::<8>(), other.as_rchunks::<8>());
    let mut length = 0;
    for (word, other) in one_words.iter().rev().zip(other_words.iter().rev()) {
        let difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return length + difference.leading_zeros() as usize / 8;
        }
        length += 8;
    }
    length + one_rest.iter().rev().zip(other_rest.iter().rev()).take_while(|(byte, other)| byte == other).count()
}

/// The number of slots is two to this power.
const SLOTS_LOG2: u32 = 12;
/// The place of a text that has not been seen.
const NEVER: u32 = u32::MAX;

/// Where in a stream each text stood last, by its hash. The caller compares the texts, as several may share a hash.
#[derive(Debug)]
pub(super) struct HashTable(Vec<u32>);

impl HashTable {
    pub(super) fn new() -> Self {
        Self(vec![NEVER; 1 << SLOTS_LOG2])
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(NEVER);
    }

    /// Records that a text with this hash stands at `at`. Returns where one stood before.
    #[inline]
    pub(super) fn replace(&mut self, hash: u32, at: usize) -> Option<usize> {
        let slot = self.0.get_mut((hash >> (32 - SLOTS_LOG2)) as usize)?;
        let found = std::mem::replace(slot, u32::try_from(at).unwrap_or(NEVER));
        usize::try_from(found).ok().filter(|_| found != NEVER)
    }
}

const FACTOR: u32 = 0x9E37_79B1;
const LONG_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Returns a hash of the next four bytes; none at the end.
#[inline]
pub(super) fn hash_of_four(text: &[u8]) -> Option<u32> {
    text.first_chunk::<4>().map(|four| u32::from_le_bytes(*four).wrapping_mul(FACTOR))
}

/// Returns a hash of the next eight bytes; none where there are fewer.
#[inline]
pub(super) fn hash_of_eight(text: &[u8]) -> Option<u32> {
    let eight = u64::from_le_bytes(*text.first_chunk::<8>()?);
    let [.., a, b, c, d] = eight.wrapping_mul(LONG_FACTOR).to_le_bytes();
    Some(u32::from_le_bytes([a, b, c, d]))
}

/// Returns a hash of all bytes.
fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0, |hash: u32, byte| (hash.rotate_left(5) ^ u32::from(*byte)).wrapping_mul(FACTOR))
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
