//! Numbers as text, exact to the last digit: the kernel's integers are shifted in decimal, never divided in binary.

/// Appends `value · 10^(unit - exponent)`: a value with `exponent` decimal places, in a unit of `unit` decimal places.
pub(super) fn decimal(value: u64, exponent: u8, unit: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    if unit >= exponent {
        let scaled = u128::from(value) * power(unit - exponent);
        out.extend_from_slice(buffer.format(scaled).as_bytes());
        return;
    }
    let places = exponent - unit;
    let one = power(places);
    let (whole, fraction) = (u128::from(value) / one, u128::from(value) % one);
    out.extend_from_slice(buffer.format(whole).as_bytes());
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
    let scaled = u128::from(value) * power(unit) / power(exponent);
    out.extend_from_slice(itoa::Buffer::new().format(scaled).as_bytes());
}

/// Appends a whole number that may be negative.
pub(super) fn signed(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a float in the shortest form that reads back as the same float.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
    let text = match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn power(exponent: u8) -> u128 {
    10_u128.saturating_pow(u32::from(exponent))
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
