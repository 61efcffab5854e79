//! The Huffman codes: fixed once for text and once for protobuf, so that the bits of a label set can be cached from scrape to scrape.
//!
//! Deflate lets every stream bring its own codes. Ours always brings one of these two, the lengths of which come from the symbols of
//! expositions of 100 and of 1,000 containers: what their repetitions leave are ids and numbers, so digits are short, and in protobuf
//! the zeros that most doubles end in. Copies are from a line or a family before. Every byte has a code.

use super::bits::{Bits, MOST};

const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// The longest match of deflate.
pub(super) const LONGEST: usize = 258;

/// The lengths of all codes.
#[derive(Debug)]
pub(super) struct Lengths {
    /// Bits per literal, for those that do not have the bits of all others.
    literals: &'static [(&'static [u8], u8)],
    others: u8,
    /// Bits of the end of the block and of every length symbol.
    copies: [u8; LITERALS - END],
    distances: [u8; DISTANCES],
}

/// For both text formats.
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

/// For protobuf: a double ends in zeros and begins with one of a few exponents, and what is between may be any byte.
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

/// The longest code of a literal.
const LONGEST_CODE: u8 = 14;

const _: () = assert!(4 * LONGEST_CODE as u32 <= MOST, "four literals are put at once");

/// The code lengths are written without deflate's three codes for repeated ones.
const REPEAT_CODES: usize = 3;

/// Bits, and their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    pub(super) bits: u64,
    pub(super) count: u32,
}

/// The codes, ready to be written.
#[derive(Debug)]
pub(super) struct Codes {
    literals: [Code; 256],
    /// By length; the extra bits are in it.
    lengths: [Code; LONGEST + 1],
    distances: [Code; DISTANCES],
    end: Code,
}

impl Code {
    /// Returns this code with the next one behind it.
    pub(super) fn then(self, next: Self) -> Self {
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

    /// Returns the code of a match: `length` from 3 to [`LONGEST`], `distance` from 1 to 32,768.
    #[inline]
    pub(super) fn copy(&self, length: usize, distance: usize) -> Code {
        let length = self.lengths.get(length).copied().unwrap_or_default();
        let (symbol, extra) = distance_symbol(distance);
        length.then(self.distances.get(symbol).copied().unwrap_or_default()).then(extra)
    }

    pub(super) fn end(&self) -> Code {
        self.end
    }
}

/// Opens the only block of a stream: its codes by their lengths, each written in four bits.
pub(super) fn open_block(lengths: &Lengths, bits: &mut Bits) {
    let last_and_dynamic = 0b101;
    bits.put(last_and_dynamic, 3);
    bits.put(LITERALS as u64 - 257, 5);
    bits.put(DISTANCES as u64 - 1, 5);
    bits.put(15, 4);
    // Lengths 0 to 15 are themselves Huffman-coded; equal lengths for all make the code of each its own number.
    for place in 0..19 {
        bits.put(if place < REPEAT_CODES { 0 } else { 4 }, 3);
    }
    for length in lengths.symbols().into_iter().chain(lengths.distances) {
        bits.put(reversed(u64::from(length), 4), 4);
    }
}

impl Lengths {
    /// Bits of every literal, of the end and of every length symbol.
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

/// Assigns codes in order of length and symbol (RFC 1951 3.2.2).
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

/// Huffman codes are read from their highest bit, all else from its lowest.
fn reversed(bits: u64, count: u32) -> u64 {
    bits.reverse_bits() >> (64 - count)
}

/// Returns symbol and extra bits of a length (RFC 1951 3.2.5); nothing below 3.
fn length_code(length: usize, symbol: impl Fn(usize) -> Code) -> Code {
    match length {
        0..3 => Code::default(),
        LONGEST => symbol(285),
        _ => {
            let (step, extra) = in_steps(length - 3, 2);
            symbol(257 + step).then(extra)
        }
    }
}

#[inline]
fn distance_symbol(distance: usize) -> (usize, Code) {
    in_steps(distance.saturating_sub(1), 1)
}

/// Returns the range of a value, and its place in it: each doubling of the value has `2^steps` ranges.
#[inline]
fn in_steps(value: usize, steps: u32) -> (usize, Code) {
    let doublings = (usize::BITS - value.leading_zeros()).saturating_sub(1);
    let count = doublings.saturating_sub(steps);
    let range = (value >> count) + ((count as usize) << steps);
    let bits = value as u64 & ((1 << count) - 1);
    (range, Code { bits, count })
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
