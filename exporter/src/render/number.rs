//! Numbers as text, exact to the last digit: a decimal point is put into the digits of the kernel's integers, without a division in
//! binary floating point.

use std::io::Write as _;

/// A number to be exposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// An integer of the kernel with `exponent` decimal places, in a unit of `unit` decimal places: `value · 10^(unit - exponent)`.
    Decimal { value: u64, exponent: u8, unit: u8 },
    /// The same without the fraction, as the predecessor's values are integers.
    Integer { value: u64, exponent: u8, unit: u8 },
    /// A whole number that may be negative.
    Signed(i64),
    /// One of our own metrics.
    Float(f64),
}

/// All integers up to here are doubles, and so are these powers of ten: a division of one by another is rounded only once.
const EXACT_INTEGER: u64 = 1 << 53;
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

impl Number {
    /// Appends the number as text.
    #[inline]
    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Decimal { value, exponent, unit } => decimal(value, exponent, unit, out),
            Self::Integer { value, exponent, unit } => integer(value, exponent, unit, out),
            Self::Signed(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            Self::Float(value) => float(value, out),
        }
    }

    /// Returns the nearest double, which is what a reader of the text gets. `memory` is memory for the text.
    pub(super) fn to_double(self, memory: &mut Vec<u8>) -> f64 {
        match self {
            Self::Decimal { value, exponent, unit } | Self::Integer { value, exponent, unit } if exponent == unit => {
                nearest(value)
            }
            Self::Decimal { value, exponent, unit } if value <= EXACT_INTEGER => {
                match POWERS.get(usize::from(exponent.abs_diff(unit))) {
                    Some(power) if exponent > unit => nearest(value) / power,
                    Some(power) => nearest(value) * power,
                    None => self.by_text(memory),
                }
            }
            Self::Float(value) => value,
            Self::Decimal { .. } | Self::Integer { .. } | Self::Signed(_) => self.by_text(memory),
        }
    }

    fn by_text(self, memory: &mut Vec<u8>) -> f64 {
        memory.clear();
        self.write(memory);
        std::str::from_utf8(memory).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest double is what is wanted")]
fn nearest(value: u64) -> f64 {
    value as f64
}

/// Appends `value · 10^(unit - exponent)`.
fn decimal(value: u64, exponent: u8, unit: u8, out: &mut Vec<u8>) {
    if unit >= exponent {
        return whole(value, unit - exponent, out);
    }
    let places = exponent - unit;
    let one = 10_u64.saturating_pow(u32::from(places));
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(value / one).as_bytes());
    let fraction = value % one;
    if fraction > 0 {
        let digits = buffer.format(fraction).as_bytes();
        out.push(b'.');
        out.resize(out.len() + usize::from(places).saturating_sub(digits.len()), b'0');
        let significant = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        out.extend_from_slice(digits.get(..significant).unwrap_or(digits));
    }
}

/// Appends `value · 10^(unit - exponent)` without its fraction.
fn integer(value: u64, exponent: u8, unit: u8, out: &mut Vec<u8>) {
    match exponent.checked_sub(unit) {
        Some(places) => whole(value / 10_u64.saturating_pow(u32::from(places)), 0, out),
        None => whole(value, unit - exponent, out),
    }
}

/// Appends `value · 10^places`.
fn whole(value: u64, places: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = match value.checked_mul(10_u64.saturating_pow(u32::from(places))) {
        Some(scaled) => buffer.format(scaled),
        None => buffer.format(u128::from(value).saturating_mul(10_u128.saturating_pow(u32::from(places)))),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a float in the shortest form that reads back as the same float.
fn float(value: f64, out: &mut Vec<u8>) {
    match value {
        value if value.is_nan() => out.extend_from_slice(b"NaN"),
        f64::INFINITY => out.extend_from_slice(b"+Inf"),
        f64::NEG_INFINITY => out.extend_from_slice(b"-Inf"),
        // Writing to memory does not fail.
        value => drop(write!(out, "{value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Number, decimal, float, integer};

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_keep_every_digit_of_the_kernel() {
        for (value, exponent, expected) in [
            (0, 9, "0"),
            (1, 9, "0.000000001"),
            (27_020_360, 9, "0.02702036"),
            (12_345_678, 6, "12.345678"),
            (100, 2, "1"),
            (u64::MAX, 9, "18446744073.709551615"),
            (u64::MAX, 0, "18446744073709551615"),
        ] {
            assert_eq!(text(|out| decimal(value, exponent, 0, out)), expected);
        }
    }

    #[test]
    fn a_finer_unit_is_reached_without_rounding() {
        assert_eq!(text(|out| decimal(27_020, 6, 9, out)), "27020000");
        assert_eq!(text(|out| decimal(50_000, 6, 6, out)), "50000");
        assert_eq!(text(|out| decimal(u64::MAX, 0, 9, out)), "18446744073709551615000000000");
    }

    #[test]
    fn the_predecessor_s_values_are_cut_to_integers() {
        assert_eq!(text(|out| integer(27_020, 6, 2, out)), "2");
        assert_eq!(text(|out| integer(27_020, 6, 9, out)), "27020000");
    }

    #[test]
    fn a_double_is_what_a_reader_of_the_text_gets() {
        let mut memory = Vec::new();
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            for (exponent, unit) in [(0, 0), (9, 0), (6, 0), (2, 0), (3, 0), (6, 9), (0, 9), (0, 2)] {
                for number in [Number::Decimal { value, exponent, unit }, Number::Integer { value, exponent, unit }] {
                    let read: f64 = text(|out| number.write(out)).parse().unwrap();
                    assert_eq!(number.to_double(&mut memory).to_bits(), read.to_bits(), "{number:?}");
                }
            }
            value = value * 2 + value / 3 + 1;
        }
        assert_eq!(Number::Signed(-3).to_double(&mut memory).to_bits(), (-3_f64).to_bits());
    }

    #[test]
    fn floats_are_spelled_as_the_format_wants_them() {
        for (value, expected) in [(1.0, "1"), (0.25, "0.25"), (f64::INFINITY, "+Inf"), (f64::NAN, "NaN")] {
            assert_eq!(text(|out| float(value, out)), expected);
        }
    }
}
