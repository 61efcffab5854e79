//! The wire format of protobuf: tags, varints, label pairs, times, and the head of a number.

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Times are written in milliseconds, as Prometheus keeps them.
const NS_PER_MS: u64 = 1_000_000;
/// Room for the longest head.
const MAX_HEAD: usize = 24;

/// The tags of the fields that are written: field number · 8 + wire type.
pub(super) mod tag {
    pub(in super::super) const FAMILY_NAME: u8 = 0x0a;
    pub(in super::super) const FAMILY_HELP: u8 = 0x12;
    pub(in super::super) const FAMILY_TYPE: u8 = 0x18;
    pub(in super::super) const FAMILY_METRIC: u8 = 0x22;
    pub(in super::super) const FAMILY_UNIT: u8 = 0x2a;
    pub(in super::super) const METRIC_LABEL: u8 = 0x0a;
    pub(in super::super) const METRIC_GAUGE: u8 = 0x12;
    pub(in super::super) const METRIC_COUNTER: u8 = 0x1a;
    pub(in super::super) const METRIC_UNTYPED: u8 = 0x2a;
    pub(in super::super) const METRIC_HISTOGRAM: u8 = 0x3a;
    pub(in super::super) const PAIR_NAME: u8 = 0x0a;
    pub(in super::super) const PAIR_VALUE: u8 = 0x12;
    /// `value` of a counter, a gauge and an untyped metric.
    pub(in super::super) const VALUE: u8 = 0x09;
    pub(in super::super) const COUNTER_START: u8 = 0x1a;
    pub(in super::super) const TIME_SECONDS: u8 = 0x08;
    pub(in super::super) const TIME_NANOS: u8 = 0x10;
    pub(in super::super) const SAMPLE_COUNT: u8 = 0x08;
    pub(in super::super) const SAMPLE_SUM: u8 = 0x11;
    pub(in super::super) const BUCKET: u8 = 0x1a;
    pub(in super::super) const BUCKET_COUNT: u8 = 0x08;
    pub(in super::super) const BUCKET_BOUND: u8 = 0x11;
    pub(in super::super) const SCHEMA: u8 = 0x28;
    pub(in super::super) const ZERO_THRESHOLD: u8 = 0x31;
    pub(in super::super) const ZERO_COUNT: u8 = 0x38;
    pub(in super::super) const POSITIVE_SPAN: u8 = 0x62;
    pub(in super::super) const SPAN_OFFSET: u8 = 0x08;
    pub(in super::super) const SPAN_LENGTH: u8 = 0x10;
    pub(in super::super) const POSITIVE_DELTA: u8 = 0x6a;
    pub(in super::super) const HISTOGRAM_START: u8 = 0x7a;
}

/// Writes the fields of a `Timestamp`, to the millisecond.
pub(super) fn write_time(ns: u64, push: &mut impl FnMut(u8)) {
    let nanos = ns % NS_PER_SECOND / NS_PER_MS * NS_PER_MS;
    push(tag::TIME_SECONDS);
    push_varint(ns / NS_PER_SECOND, push);
    if nanos > 0 {
        push(tag::TIME_NANOS);
        push_varint(nanos, push);
    }
}

/// Appends label pairs, read from the form that they have in a text exposition.
pub(super) fn encode_pairs(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    let mut unescaped = String::new();
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = quoted.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        let (value, after) = quoted.split_at(end.unwrap_or(quoted.len()));
        pair(name, unescape(value, &mut unescaped), out);
        rest = after.strip_prefix('"').unwrap_or_default();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn unescape<'a>(value: &'a str, memory: &'a mut String) -> &'a str {
    if !value.contains('\\') {
        return value;
    }
    memory.clear();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        memory.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    memory
}

fn pair(name: &str, value: &str, out: &mut Vec<u8>) {
    let field = |length: usize| 1 + varint_bytes(length as u64) + length;
    out.push(tag::METRIC_LABEL);
    varint((field(name.len()) + field(value.len())) as u64, out);
    bytes(tag::PAIR_NAME, name.as_bytes(), out);
    bytes(tag::PAIR_VALUE, value.as_bytes(), out);
}

pub(super) fn bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn varint_field(tag: u8, value: u64, out: &mut Vec<u8>) {
    out.push(tag);
    varint(value, out);
}

pub(super) fn double_field(tag: u8, value: f64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn varint(value: u64, out: &mut Vec<u8>) {
    push_varint(value, &mut |byte| out.push(byte));
}

#[inline]
fn push_varint(mut value: u64, push: &mut impl FnMut(u8)) {
    while value >= 0x80 {
        push(low_bits(value) | 0x80);
        value >>= 7;
    }
    push(low_bits(value));
}

/// Returns the length of a varint in bytes.
pub(super) fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Returns the lowest seven bits.
pub(super) fn low_bits(value: u64) -> u8 {
    let [byte, ..] = value.to_le_bytes();
    byte & 0x7f
}

/// Encodes a signed number so that one near 0 is a small number (`sint64`).
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The bytes before the eight bytes of a number: tag and length of the message that holds it, and a counter's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    bytes: [u8; MAX_HEAD],
    pub(super) length: usize,
}

impl Head {
    /// No bytes, for a number whose head stands in the block of its labels.
    pub(super) const NONE: Self = Self { bytes: [0; MAX_HEAD], length: 0 };
    pub(super) const GAUGE: Self = Self::plain(tag::METRIC_GAUGE);
    pub(super) const COUNTER: Self = Self::plain(tag::METRIC_COUNTER);
    pub(super) const UNTYPED: Self = Self::plain(tag::METRIC_UNTYPED);

    /// Returns the head of a message that holds the number alone.
    const fn plain(tag: u8) -> Self {
        let mut head = Self { length: 3, ..Self::NONE };
        let [first, second, third, ..] = &mut head.bytes;
        (*first, *second, *third) = (tag, 9, tag::VALUE);
        head
    }

    /// Returns the head of a counter that began then. The start stands before the value, so that it can be cached with the labels.
    pub(super) fn counter(start_ns: u64) -> Self {
        let mut time = Self::NONE;
        write_time(start_ns, &mut |byte| time.push(&[byte]));
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
