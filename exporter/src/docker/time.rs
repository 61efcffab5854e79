//! Points in time as engines write them, as nanoseconds since the epoch.

/// Parses RFC 3339 exactly: `2026-11-23T02:06:22.958362708Z`, or with an offset as Podman writes it.
///
/// None for what is no time, and for a time before the epoch: Docker says `0001-01-01T00:00:00Z` for "never".
pub(super) fn parse_ns(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds(fraction)?)
}

/// Exactly `N` unsigned numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parts: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn number(digits: &str) -> Option<i64> {
    let plain = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// `.5` is 500,000,000; digits beyond the ninth say nothing to us.
fn nanoseconds(fraction: &str) -> Option<u64> {
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(zone.get(1..)?, ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar; the year is counted from March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month_from_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse_ns;

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500_000_000),
            ("2026-11-23T02:06:22.958362708Z", 1_795_399_582_958_362_708),
            ("2026-11-23T03:06:22.958362708+01:00", 1_795_399_582_958_362_708),
            ("2026-11-22T20:36:22.958362708-05:30", 1_795_399_582_958_362_708),
            ("2026-11-23T02:06:22.9583627089999Z", 1_795_399_582_958_362_708),
            ("2100-03-01T00:00:00z", 4_107_542_400_000_000_000),
        ] {
            assert_eq!(parse_ns(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn never_and_nonsense_are_none() {
        for text in [
            "",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-23",
            "2026-11-23T02:06:22",
            "2026-13-23T02:06:22Z",
            "2026-11-23T25:06:22Z",
            "2026-11-23T02:06Z",
            "2026-11-23T02:06:22.xZ",
            "2026-11-23T02:06:22+1Z",
            "-2026-11-23T02:06:22Z",
            "+2026-11-23T02:06:22Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_ns(text), None, "{text}");
        }
    }
}
