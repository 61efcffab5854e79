//! Bits in deflate's order, lowest first, collected in a word and appended to bytes.

/// The most bits that can be put at once: up to seven more may be in the word already.
pub(super) const MOST: u32 = u64::BITS - 8;

/// Bytes, and the bits that do not make a whole byte yet.
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// Those before `at` are written. The room behind them is for whole words, as writing these is several times faster.
    bytes: Vec<u8>,
    at: usize,
    word: u64,
    used: u32,
}

impl Bits {
    /// Appends to these bytes.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { at: bytes.len(), bytes, ..Self::default() }
    }

    /// Makes room for so many bytes. Bits beyond the room are lost.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let wanted = self.at + bytes + size_of::<u64>();
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }

    /// Appends the lowest `count` bits, at most [`MOST`]; those above must be 0.
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
