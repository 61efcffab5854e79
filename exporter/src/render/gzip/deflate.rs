//! Deflate (RFC 1951): bits, Huffman codes, and a piece of text written as symbols.
//!
//! Deflate lets every stream bring its own codes. This encoder always brings one of two, [`TEXT`] or [`PROTOBUF`], so that the bits of a
//! label set can be cached from scrape to scrape. Their lengths come from the symbols of expositions of 100 and of 1,000 containers. Apart
//! from repetitions these have ids and numbers: digits have short codes, and in protobuf the zeros that most doubles end in. Copies are
//! from a line or a family before. Every byte has a code.

/// How far back deflate can copy from, in bytes.
pub(super) const WINDOW: usize = 32 * 1024;
/// The shortest and the longest copy of deflate, in bytes.
pub(super) const SHORTEST: usize = 3;
const LONGEST: usize = 258;
/// Number of symbols for literals, the end of a block and lengths of copies, and the symbol of the end among them.
const LITERALS: usize = 286;
const END: usize = 256;
/// Number of symbols for distances.
const DISTANCES: usize = 30;

/// Maximum number of bits that can be put at once: up to seven more may be in the word already.
pub(super) const MAX_BITS: u32 = u64::BITS - 8;

/// Bits in deflate's order, lowest first: bytes, and the bits that do not make a whole byte yet.
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// The bytes before `at` are written. The room behind them is for whole words, as writing words is several times faster.
    bytes: Vec<u8>,
    at: usize,
    word: u64,
    used: u32,
}

impl Bits {
    /// Makes bits that are appended to these bytes.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { at: bytes.len(), bytes, ..Self::default() }
    }

    /// Makes room for so many bytes more. Bits beyond the room are lost.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let wanted = self.at + bytes + size_of::<u64>();
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }

    /// Appends the lowest `count` bits, at most [`MAX_BITS`]; those above must be 0.
    #[inline]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        let (word, used) = (self.word | bits << self.used, self.used + count);
        if let Some(slot) = self.bytes.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *slot = word.to_le_bytes();
        }
        self.at += (used / 8) as usize;
        self.word = word >> (used / 8 * 8);
        self.used = used % 8;
    }

    /// Returns the bytes, the last one filled up with zeros.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let Self { mut bytes, at, word, used } = std::mem::take(self);
        bytes.truncate(at);
        bytes.extend(word.to_le_bytes().first().filter(|_| used > 0));
        bytes
    }
}

/// The lengths of all codes, in bits.
#[derive(Debug)]
pub(super) struct Lengths {
    /// Length of each literal's code, but for those that have the length `others`.
    literals: &'static [(&'static [u8], u8)],
    others: u8,
    /// Lengths of the codes of the end of the block and of every length symbol.
    copies: [u8; LITERALS - END],
    distances: [u8; DISTANCES],
}

/// The codes for both text formats.
pub(super) const TEXT: &Lengths = &Lengths {
    literals: &[
        (b"0123456789ef", 4),
        (b"abcd", 5),
        (b" ", 8),
        (b"or}", 9),
        (b"\n-./:_ghijklmnpqstuvwxyz", 10),
        (b"\",=", 11),
        (b"\t!#$%&'()*+;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^`{|~", 13),
    ],
    others: 14,
    copies: [14, 8, 11, 12, 10, 12, 12, 12, 12, 12, 12, 12, 12, 9, 6, 9, 9, 9, 8, 8, 8, 7, 12, 7, 12, 10, 10, 9, 8, 7],
    distances: [9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 7, 2, 7, 4, 2, 4, 3, 5, 6, 7, 8, 8, 7, 6, 3],
};

/// The codes for protobuf. A double ends in zeros and begins with one of a few exponents; any bytes stand between.
pub(super) const PROTOBUF: &Lengths = &Lengths {
    literals: &[
        (b"\x0001234", 4),
        (b"56789abcdef", 5),
        (b"\x09\x22", 6),
        (b"\x02\x06\x10\x12\x1a\x40\x41", 7),
        (b"\x01\x08\x0a\x20\x3f\x42\x80\xa0\xc0\xe0", 9),
        (b",-./:;<=>CDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`ghijklmnopqrstuvwxyz{|}~", 12),
    ],
    others: 11,
    copies: [13, 9, 10, 8, 10, 10, 9, 9, 13, 10, 9, 9, 9, 7, 9, 6, 8, 10, 10, 11, 13, 7, 13, 6, 13, 12, 13, 13, 13, 7],
    distances: [6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 3, 5, 6, 2, 5, 4, 6, 6, 6, 6, 6, 6, 6, 3],
};

/// The longest code of a literal, in bits.
const LONGEST_CODE: u8 = 14;

const _: () = assert!(4 * LONGEST_CODE as u32 <= MAX_BITS, "four literals are put at once");

/// Number of deflate's codes for repeated code lengths, none of which is used.
const REPEAT_CODES: usize = 3;

/// Some bits, and their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    pub(super) bits: u64,
    pub(super) count: u32,
}

/// The codes, ready to be written.
#[derive(Debug)]
pub(super) struct Codes {
    literals: [Code; 256],
    /// By length of the copy, with the extra bits.
    lengths: [Code; LONGEST + 1],
    distances: [Code; DISTANCES],
    end: Code,
}

impl Code {
    /// Returns this code followed by the next one.
    fn then(self, next: Self) -> Self {
        Self { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

impl Codes {
    pub(super) fn new(lengths: &Lengths) -> Self {
        let symbols = canonical(&lengths.symbols());
        let of = |symbol: usize| symbols.get(symbol).copied().unwrap_or_default();
        let distances = canonical(&lengths.distances);
        Self {
            literals: std::array::from_fn(of),
            lengths: std::array::from_fn(|length| length_code(length, of)),
            distances: std::array::from_fn(|symbol| distances.get(symbol).copied().unwrap_or_default()),
            end: of(END),
        }
    }

    #[inline]
    pub(super) fn literal(&self, byte: u8) -> Code {
        self.literals.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// Returns the code of a copy: `length` from [`SHORTEST`] to [`LONGEST`], `distance` from 1 to [`WINDOW`].
    #[inline]
    fn copy(&self, length: usize, distance: usize) -> Code {
        let length = self.lengths.get(length).copied().unwrap_or_default();
        let (symbol, extra) = distance_symbol(distance);
        length.then(self.distances.get(symbol).copied().unwrap_or_default()).then(extra)
    }

    pub(super) fn end(&self) -> Code {
        self.end
    }
}

/// Opens the only block of a stream. It brings its codes by their lengths, each written in four bits.
pub(super) fn open_block(lengths: &Lengths, bits: &mut Bits) {
    let last_and_dynamic = 0b101;
    bits.put(last_and_dynamic, 3);
    bits.put(LITERALS as u64 - 257, 5);
    bits.put(DISTANCES as u64 - 1, 5);
    bits.put(15, 4);
    // The lengths, 0 to 15, are themselves Huffman-coded. With equal lengths for all, the code of each is its own number.
    for place in 0..19 {
        bits.put(if place < REPEAT_CODES { 0 } else { 4 }, 3);
    }
    for length in lengths.symbols().into_iter().chain(lengths.distances) {
        bits.put(reversed(u64::from(length), 4), 4);
    }
}

impl Lengths {
    /// Returns the length of the code of every literal, of the end and of every length symbol.
    fn symbols(&self) -> [u8; LITERALS] {
        let mut bits = [self.others; LITERALS];
        for (bytes, count) in self.literals {
            for byte in *bytes {
                if let Some(place) = bits.get_mut(usize::from(*byte)) {
                    *place = *count;
                }
            }
        }
        bits.iter_mut().skip(END).zip(self.copies).for_each(|(place, count)| *place = count);
        bits
    }
}

/// Assigns codes in the order of length and symbol (RFC 1951, 3.2.2).
fn canonical(lengths: &[u8]) -> Vec<Code> {
    let mut codes = vec![Code::default(); lengths.len()];
    let mut next = 0;
    for length in 1..=15 {
        next <<= 1;
        for (code, _) in codes.iter_mut().zip(lengths).filter(|(_, own)| u32::from(**own) == length) {
            *code = Code { bits: reversed(next, length), count: length };
            next += 1;
        }
    }
    codes
}

/// Reverses bits: Huffman codes are read from their highest bit on, all else from the lowest.
fn reversed(bits: u64, count: u32) -> u64 {
    bits.reverse_bits() >> (64 - count)
}

/// Returns symbol and extra bits of a length (RFC 1951, 3.2.5); nothing below [`SHORTEST`].
fn length_code(length: usize, symbol: impl Fn(usize) -> Code) -> Code {
    match length {
        0..SHORTEST => Code::default(),
        LONGEST => symbol(285),
        _ => {
            let (step, extra) = in_steps(length - SHORTEST, 2);
            symbol(257 + step).then(extra)
        }
    }
}

#[inline]
fn distance_symbol(distance: usize) -> (usize, Code) {
    in_steps(distance.saturating_sub(1), 1)
}

/// Returns the range of a value, and the value's place in it: each doubling of the value has `2^steps` ranges.
#[inline]
fn in_steps(value: usize, steps: u32) -> (usize, Code) {
    let doublings = (usize::BITS - value.leading_zeros()).saturating_sub(1);
    let count = doublings.saturating_sub(steps);
    let range = (value >> count) + ((count as usize) << steps);
    let bits = value as u64 & ((1 << count) - 1);
    (range, Code { bits, count })
}

/// Writes a piece of text as symbols, from its beginning to its end: as literals, as copies, or by bits made before.
#[derive(Debug)]
pub(super) struct SymbolWriter<'a> {
    pub(super) text: &'a [u8],
    /// How many bytes of the text are written.
    pub(super) at: usize,
    codes: &'a Codes,
    bits: &'a mut Bits,
    /// Where in the text the last copy begins, which may still grow.
    copied_from: usize,
    /// How far back it copies from; 0 for no copy.
    distance: usize,
}

impl<'a> SymbolWriter<'a> {
    pub(super) fn new(text: &'a [u8], at: usize, codes: &'a Codes, bits: &'a mut Bits) -> Self {
        Self { text, at, codes, bits, copied_from: at, distance: 0 }
    }

    /// Writes the next `length` bytes as a copy from `distance` back.
    #[inline]
    pub(super) fn copy(&mut self, distance: usize, length: usize) {
        debug_assert!(distance > 0 && distance <= WINDOW);
        debug_assert!(
            self.at
                .checked_sub(distance)
                .is_none_or(|from| { self.text.get(from..from + length) == self.text.get(self.at..self.at + length) })
        );
        if distance != self.distance {
            self.flush();
            self.distance = distance;
            self.copied_from = self.at;
        }
        self.at += length;
    }

    /// Returns whether a copy from `distance` back would lengthen the last one.
    #[inline]
    pub(super) fn continues(&self, distance: usize) -> bool {
        self.distance == distance
    }

    /// Writes the text up to `to` as literals.
    #[inline]
    pub(super) fn literals(&mut self, to: usize) {
        self.flush();
        let text = self.text.get(self.at..to).unwrap_or_default();
        self.write(text);
        self.at = to;
    }

    /// Writes the next `length` bytes by bits made before.
    #[inline]
    pub(super) fn coded(&mut self, words: &[u64], bits: u32, length: usize) {
        self.flush();
        let mut left = bits;
        for word in words {
            self.bits.put(*word, left.min(MAX_BITS));
            left = left.saturating_sub(MAX_BITS);
        }
        self.at += length;
    }

    /// Writes the copy that may still grow.
    #[inline]
    pub(super) fn flush(&mut self) {
        let distance = std::mem::take(&mut self.distance);
        if distance == 0 {
            return;
        }
        let mut left = self.at - self.copied_from;
        if left < SHORTEST {
            let text = self.text.get(self.copied_from..self.at).unwrap_or_default();
            return self.write(text);
        }
        while left > 0 {
            // The rest must not be shorter than deflate allows.
            let length = if left <= LONGEST { left } else { LONGEST.min(left - SHORTEST) };
            let Code { bits, count } = self.codes.copy(length, distance);
            self.bits.put(bits, count);
            left -= length;
        }
    }

    #[inline]
    fn write(&mut self, text: &[u8]) {
        for four in text.chunks(4) {
            let all = four.iter().fold(Code::default(), |all, byte| all.then(self.codes.literal(*byte)));
            self.bits.put(all.bits, all.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_CODE, PROTOBUF, TEXT};

    #[test]
    fn the_codes_are_complete() {
        for lengths in [TEXT, PROTOBUF] {
            for bits in [&lengths.symbols()[..], &lengths.distances] {
                // Inflaters refuse a set of codes that leaves a sequence of bits without a meaning.
                assert_eq!(bits.iter().map(|bits| 1 << (15 - bits)).sum::<u32>(), 1 << 15);
            }
            assert!(lengths.symbols().iter().all(|bits| *bits <= LONGEST_CODE));
        }
    }
}
