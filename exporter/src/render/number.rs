//! Numbers as text, exact to the last digit: the kernel's integers are shifted in decimal, never divided in binary.

use std::io::Write as _;

/// Appends `value · 10^(unit - exponent)`: a value with `exponent` decimal places, in a unit of `unit` decimal places.
pub(super) fn decimal(value: u64, exponent: u8, unit: u8, out: &mut Vec<u8>) {
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

/// The same without what stands behind the point: the predecessor's values are integers.
pub(super) fn integer(value: u64, exponent: u8, unit: u8, out: &mut Vec<u8>) {
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

/// Appends a whole number that may be negative.
pub(super) fn signed(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a float in the shortest form that reads back as the same float.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
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
    use super::{decimal, float, integer};

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
    fn floats_are_spelled_as_the_format_wants_them() {
        for (value, expected) in [(1.0, "1"), (0.25, "0.25"), (f64::INFINITY, "+Inf"), (f64::NAN, "NaN")] {
            assert_eq!(text(|out| float(value, out)), expected);
        }
    }
}
