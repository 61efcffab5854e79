//! The wire format: tags, varints, label pairs, times.

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Prometheus keeps milliseconds.
const NS_PER_MS: u64 = 1_000_000;

/// Tags of the fields that are written: number · 8 + wire type.
pub(super) mod tag {
    pub(in crate::render::protobuf) const FAMILY_NAME: u8 = 0x0a;
    pub(in crate::render::protobuf) const FAMILY_HELP: u8 = 0x12;
    pub(in crate::render::protobuf) const FAMILY_TYPE: u8 = 0x18;
    pub(in crate::render::protobuf) const FAMILY_METRIC: u8 = 0x22;
    pub(in crate::render::protobuf) const FAMILY_UNIT: u8 = 0x2a;
    pub(in crate::render::protobuf) const METRIC_LABEL: u8 = 0x0a;
    pub(in crate::render::protobuf) const METRIC_GAUGE: u8 = 0x12;
    pub(in crate::render::protobuf) const METRIC_COUNTER: u8 = 0x1a;
    pub(in crate::render::protobuf) const METRIC_UNTYPED: u8 = 0x2a;
    pub(in crate::render::protobuf) const METRIC_HISTOGRAM: u8 = 0x3a;
    pub(in crate::render::protobuf) const PAIR_NAME: u8 = 0x0a;
    pub(in crate::render::protobuf) const PAIR_VALUE: u8 = 0x12;
    /// `value` of a counter, a gauge and an untyped metric.
    pub(in crate::render::protobuf) const VALUE: u8 = 0x09;
    pub(in crate::render::protobuf) const COUNTER_START: u8 = 0x1a;
    pub(in crate::render::protobuf) const TIME_SECONDS: u8 = 0x08;
    pub(in crate::render::protobuf) const TIME_NANOS: u8 = 0x10;
    pub(in crate::render::protobuf) const SAMPLE_COUNT: u8 = 0x08;
    pub(in crate::render::protobuf) const SAMPLE_SUM: u8 = 0x11;
    pub(in crate::render::protobuf) const BUCKET: u8 = 0x1a;
    pub(in crate::render::protobuf) const BUCKET_COUNT: u8 = 0x08;
    pub(in crate::render::protobuf) const BUCKET_BOUND: u8 = 0x11;
    pub(in crate::render::protobuf) const SCHEMA: u8 = 0x28;
    pub(in crate::render::protobuf) const ZERO_THRESHOLD: u8 = 0x31;
    pub(in crate::render::protobuf) const ZERO_COUNT: u8 = 0x38;
    pub(in crate::render::protobuf) const POSITIVE_SPAN: u8 = 0x62;
    pub(in crate::render::protobuf) const SPAN_OFFSET: u8 = 0x08;
    pub(in crate::render::protobuf) const SPAN_LENGTH: u8 = 0x10;
    pub(in crate::render::protobuf) const POSITIVE_DELTA: u8 = 0x6a;
    pub(in crate::render::protobuf) const HISTOGRAM_START: u8 = 0x7a;
}

/// Writes a `Timestamp`, to the millisecond.
pub(super) fn write_time(ns: u64, push: &mut impl FnMut(u8)) {
    let nanos = ns % NS_PER_SECOND / NS_PER_MS * NS_PER_MS;
    push(tag::TIME_SECONDS);
    varint_bytes_of(ns / NS_PER_SECOND, push);
    if nanos > 0 {
        push(tag::TIME_NANOS);
        varint_bytes_of(nanos, push);
    }
}

/// Appends the label pairs of a text exposition.
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

pub(super) fn unescape<'a>(value: &'a str, memory: &'a mut String) -> &'a str {
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

pub(super) fn pair(name: &str, value: &str, out: &mut Vec<u8>) {
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
    varint_bytes_of(value, &mut |byte| out.push(byte));
}

#[inline]
pub(super) fn varint_bytes_of(mut value: u64, push: &mut impl FnMut(u8)) {
    while value >= 0x80 {
        push(low_bits(value) | 0x80);
        value >>= 7;
    }
    push(low_bits(value));
}

/// Returns how many bytes a varint takes.
pub(super) fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

pub(super) fn low_bits(value: u64) -> u8 {
    let [byte, ..] = value.to_le_bytes();
    byte & 0x7f
}

/// Maps numbers near 0, of either sign, to small ones.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}
