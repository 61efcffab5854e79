//! What stands before a number: tags and, of a counter, when it began.

use super::wire::{low_bits, tag, write_time};

/// Room for the longest.
const BYTES: usize = 24;

/// What stands before the eight bytes of a number: the message that it is in, and a counter's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    bytes: [u8; BYTES],
    pub(super) length: usize,
}

impl Head {
    /// For a number that has it in its labels' block.
    pub(super) const NONE: Self = Self { bytes: [0; BYTES], length: 0 };
    pub(super) const GAUGE: Self = Self::plain(tag::METRIC_GAUGE);
    pub(super) const COUNTER: Self = Self::plain(tag::METRIC_COUNTER);
    pub(super) const UNTYPED: Self = Self::plain(tag::METRIC_UNTYPED);

    /// Of a message that has nothing but the number.
    const fn plain(tag: u8) -> Self {
        let mut head = Self { length: 3, ..Self::NONE };
        let [first, second, third, ..] = &mut head.bytes;
        (*first, *second, *third) = (tag, 9, tag::VALUE);
        head
    }

    /// Of a counter. The start stands before the value, so that it can be cached with the labels.
    pub(super) fn counter(start_ns: Option<u64>) -> Self {
        let Some(start) = start_ns else { return Self::COUNTER };
        let mut time = Self::NONE;
        write_time(start, &mut |byte| time.push(&[byte]));
        let mut head = Self::NONE;
        head.push(&[
            tag::METRIC_COUNTER,
            low_bits(time.length as u64) + 2 + 9,
            tag::COUNTER_START,
            low_bits(time.length as u64),
        ]);
        head.push(time.bytes());
        head.push(&[tag::VALUE]);
        head
    }

    fn push(&mut self, more: &[u8]) {
        for (to, byte) in self.bytes.iter_mut().skip(self.length).zip(more) {
            *to = *byte;
        }
        self.length += more.len();
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
