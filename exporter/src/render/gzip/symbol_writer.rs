//! Writes a piece of text as deflate symbols, from its beginning to its end: as literals, as a copy, or by bits made before.

use super::bits::{Bits, MOST};
use super::codes::{Code, Codes, LONGEST};

/// How far back deflate can copy from.
pub(super) const WINDOW: usize = 32 * 1024;
/// The shortest copy that deflate has.
pub(super) const SHORTEST: usize = 3;

/// A piece, and how much of it is written.
#[derive(Debug)]
pub(super) struct SymbolWriter<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    codes: &'a Codes,
    bits: &'a mut Bits,
    /// From where in the text the last copy is, which may still grow, and how far back it copies from; 0 for none.
    copied_from: usize,
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

    /// Whether a copy from there lengthens the last one.
    #[inline]
    pub(super) fn continues(&self, distance: usize) -> bool {
        self.distance == distance
    }

    /// Writes everything up to `to` as literals.
    #[inline]
    pub(super) fn literals(&mut self, to: usize) {
        self.flush();
        let text = self.text.get(self.at..to).unwrap_or_default();
        self.write(text);
        self.at = to;
    }

    /// Writes the next `length` bytes by their bits.
    #[inline]
    pub(super) fn coded(&mut self, words: &[u64], bits: u32, length: usize) {
        self.flush();
        let mut left = bits;
        for word in words {
            self.bits.put(*word, left.min(MOST));
            left = left.saturating_sub(MOST);
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
            // What remains must not be shorter than deflate allows.
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
