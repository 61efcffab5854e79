//! The Huffman codes: fixed once for expositions, so that the bits of a text can be cached from scrape to scrape.
//!
//! Deflate lets every stream bring its own codes. Ours always brings these, the lengths of which come from the symbols of
//! expositions of 100 and of 1,000 containers: ids and numbers are what their repetitions leave, so digits are short, and copies are from
//! a line or a family before. Every byte has a code.

use super::bits::{Bits, MOST};

const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// The longest match of deflate.
pub(super) const LONGEST: usize = 258;

/// Bits per literal, for those that do not have [`OTHER_BITS`].
const LITERAL_BITS: &[(&[u8], u8)] = &[
    (b"0123456789ef", 4),
    (b"abcd", 5),
    (b" ", 8),
    (b"or}", 9),
    (b"\n-./:_ghijklmnpqstuvwxyz", 10),
    (b"\",=", 11),
    (b"\t!#$%&'()*+;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^`{|~", 13),
];
/// Four literals are written at once.
const OTHER_BITS: u8 = 14;
/// Bits of the end of the block and of every length symbol.
const LENGTH_BITS: [u8; LITERALS - END] =
    [14, 8, 11, 12, 10, 12, 12, 12, 12, 12, 12, 12, 12, 9, 6, 9, 9, 9, 8, 8, 8, 7, 12, 7, 12, 10, 10, 9, 8, 7];
const DISTANCE_BITS: [u8; DISTANCES] =
    [9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 7, 2, 7, 4, 2, 4, 3, 5, 6, 7, 8, 8, 7, 6, 3];

const _: () = assert!(4 * OTHER_BITS as u32 <= MOST, "four literals are put at once");

/// The code lengths are written without deflate's three codes for repeated ones.
const REPEAT_CODES: usize = 3;

/// Some bits, and how many of them.
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
    /// This one, and then that one.
    pub(super) fn then(self, next: Self) -> Self {
        Self { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

impl Codes {
    pub(super) fn new() -> Self {
        let symbols = canonical(&literal_bits());
        let of = |symbol: usize| symbols.get(symbol).copied().unwrap_or_default();
        let distances = canonical(&DISTANCE_BITS);
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

    /// A match: `length` from 3 to [`LONGEST`], `distance` from 1 to 32,768.
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
pub(super) fn open_block(bits: &mut Bits) {
    let last_and_dynamic = 0b101;
    bits.put(last_and_dynamic, 3);
    bits.put(LITERALS as u64 - 257, 5);
    bits.put(DISTANCES as u64 - 1, 5);
    bits.put(15, 4);
    // Lengths 0 to 15 are themselves Huffman-coded; equal lengths for all make the code of each its own number.
    for place in 0..19 {
        bits.put(if place < REPEAT_CODES { 0 } else { 4 }, 3);
    }
    for length in literal_bits().into_iter().chain(DISTANCE_BITS) {
        bits.put(reversed(u64::from(length), 4), 4);
    }
}

fn literal_bits() -> [u8; LITERALS] {
    let mut bits = [OTHER_BITS; LITERALS];
    for (bytes, count) in LITERAL_BITS {
        for byte in *bytes {
            if let Some(place) = bits.get_mut(usize::from(*byte)) {
                *place = *count;
            }
        }
    }
    bits.iter_mut().skip(END).zip(LENGTH_BITS).for_each(|(place, count)| *place = count);
    bits
}

/// Codes in order of length and symbol, as RFC 1951 3.2.2 wants them.
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

/// Symbol and extra bits of a length (RFC 1951 3.2.5); nothing below 3.
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

/// Deflate's ranges: each doubling of the value is cut into `2^steps` ranges. The range of a value, and its place in it.
#[inline]
fn in_steps(value: usize, steps: u32) -> (usize, Code) {
    let doublings = (usize::BITS - value.leading_zeros()).saturating_sub(1);
    let count = doublings.saturating_sub(steps);
    let range = (value >> count) + ((count as usize) << steps);
    let bits = value as u64 & ((1 << count) - 1);
    (range, Code { bits, count })
}
