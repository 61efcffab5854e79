//! The JSON of an engine's answers: cut into objects while it arrives, read leniently, with times as nanoseconds.
//!
//! A missing field, null, and a value of another type are all read as none. The models of the client library are not
//! used, because they reject a whole list for one unknown state, such as those of Podman and of newer engines.

use serde_json::Value;

/// Maximum number of commas in an object, and so about that of its values. A parsed value takes many times the size of
/// its text.
const MAX_COMMAS: usize = 500_000;

/// Maximum length of a text that is stored whole, in bytes: `PATH_MAX`.
pub(super) const MAX_SHORT: usize = 4096;

/// Parses one object. Bytes that are not UTF-8 become replacement characters. Returns none if the object is invalid, is
/// nested deeper than 128 levels, or has more than [`MAX_COMMAS`] commas.
pub(super) fn parse(bytes: &[u8]) -> Option<Value> {
    if bytes.split(|byte| *byte == b',').nth(MAX_COMMAS).is_some() {
        return None;
    }
    serde_json::from_str(&String::from_utf8_lossy(bytes)).ok()
}

/// Returns the text at `pointer`; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the text at `pointer`; empty if there is none, or if it is longer than [`MAX_SHORT`].
pub(super) fn short_text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    Some(text(value, pointer)).filter(|text| text.len() <= MAX_SHORT).unwrap_or_default()
}

/// Returns the whole number at `pointer`, written as a number or as text.
pub(super) fn integer(value: &Value, pointer: &str) -> Option<i64> {
    let found = value.pointer(pointer)?;
    found.as_i64().or_else(|| found.as_str()?.parse().ok())
}

/// Returns the number at `pointer` if it is above 0: engines write 0 or -1 for "not set".
pub(super) fn positive(value: &Value, pointer: &str) -> Option<u64> {
    integer(value, pointer).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

/// Returns whether the field at `pointer` is true.
pub(super) fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// Returns the map of texts at `pointer`. Null is read as the empty text; entries of other types are left out.
pub(super) fn map<'a>(value: &'a Value, pointer: &str) -> Vec<(&'a str, &'a str)> {
    let entries = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let texts = entries.filter_map(|(key, value)| match value {
        Value::String(text) => Some((key.as_str(), text.as_str())),
        Value::Null => Some((key.as_str(), "")),
        _ => None,
    });
    texts.collect()
}

/// Capacity of the buffer that is kept for the next object, in bytes.
const KEPT_CAPACITY: usize = 64 << 10;

/// Cuts a stream of bytes into JSON objects, without parsing them.
///
/// A list of thousands of containers is never in memory as a whole, and one invalid or huge object does not affect the
/// others. Both shapes of streams are understood: an array of objects (`/containers/json`), and objects one after the
/// other (`/events`).
#[derive(Debug)]
pub(super) struct Objects {
    /// Maximum size of an object in bytes.
    limit: usize,
    /// The beginning of the current object, up to one byte more than the limit.
    object: Vec<u8>,
    /// Number of open braces.
    depth: usize,
    in_string: bool,
    escaped: bool,
    too_large: u64,
    array: Array,
}

/// The bytes so far that are outside of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Array {
    /// Nothing but white space.
    Unseen,
    /// An array that has begun.
    Open,
    /// A whole array, or `null`.
    Closed,
    /// Anything else.
    Garbage,
}

impl Objects {
    /// Returns a splitter that skips objects of more than `limit` bytes, and counts them.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            object: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            too_large: 0,
            array: Array::Unseen,
        }
    }

    /// Takes the next bytes, and passes every object that they complete to `take`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for &byte in bytes {
            if self.depth == 0 {
                self.outside(byte);
            } else if self.object.len() <= self.limit {
                self.object.push(byte);
            }
            self.track_depth(byte);
            if self.depth == 0 && !self.object.is_empty() {
                if self.object.len() > self.limit {
                    self.too_large += 1;
                } else {
                    take(&self.object);
                }
                self.object.clear();
                self.object.shrink_to(KEPT_CAPACITY);
            }
        }
    }

    /// Returns the number of objects that were skipped because of their size.
    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }

    /// Returns whether the bytes so far are one whole array, or `null`, as some engines write an empty list.
    pub(super) fn is_whole_array(&self) -> bool {
        self.depth == 0 && self.array == Array::Closed
    }

    /// Takes a byte outside of objects.
    fn outside(&mut self, byte: u8) {
        self.array = match (self.array, byte) {
            (Array::Unseen, b'[') => Array::Open,
            (Array::Open, b']') | (Array::Unseen, b'n') => Array::Closed,
            (Array::Closed, b'u' | b'l') | (Array::Open, b',') => self.array,
            (array, b'{') => {
                self.object.push(byte);
                array
            }
            (array, byte) if byte.is_ascii_whitespace() => array,
            _ => Array::Garbage,
        };
    }

    /// Updates the depth. Braces in strings do not count.
    fn track_depth(&mut self, byte: u8) {
        if self.depth == 0 && byte != b'{' {
            return;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' if !self.in_string => self.depth += 1,
            b'}' if !self.in_string => self.depth -= 1,
            _ => {}
        }
    }
}

/// Parses a time of RFC 3339, such as `2026-11-23T02:06:22.958362708Z`, or with an offset as Podman writes it. Returns
/// nanoseconds since the epoch.
///
/// Returns none for an invalid time, and for a time before the epoch: Docker writes `0001-01-01T00:00:00Z` for "never".
pub(super) fn time_ns(text: &str) -> Option<u64> {
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

/// Parses exactly `N` unsigned numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parts: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Parses an unsigned number of at most four digits.
fn number(digits: &str) -> Option<i64> {
    let plain = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Returns the nanoseconds of a fraction of a second: 500,000,000 for `5`. Digits beyond the ninth are ignored.
fn nanoseconds(fraction: &str) -> Option<u64> {
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Returns the offset of a zone from UTC in seconds, positive to the east.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(zone.get(1..)?, ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Returns the days since 1970-01-01 in the Gregorian calendar. The computation counts years from March, so that the
/// leap day is the last day of a year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month_from_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Objects, integer, map, parse, positive, text, time_ns};

    #[test]
    fn odd_types_are_absent() {
        let value = json!({"a": {"b": 5, "c": "7", "d": -1, "e": 0, "f": 1.5, "g": null, "h": [1]}});
        assert_eq!((integer(&value, "/a/b"), integer(&value, "/a/c")), (Some(5), Some(7)));
        for pointer in ["/a/d", "/a/e", "/a/f", "/a/g", "/a/h", "/a/x", "/x/y"] {
            assert_eq!(positive(&value, pointer), None, "{pointer}");
            assert_eq!(text(&value, pointer), "", "{pointer}");
        }
        let labels = json!({"l": {"z": "1", "n": null, "o": {}, "i": 3}});
        assert_eq!(map(&labels, "/l"), [("n", ""), ("z", "1")]);
        assert_eq!(map(&json!({"l": null}), "/l"), []);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(text(&parse(b"{\"a\":\"x\xffy\"}").unwrap(), "/a"), "x\u{fffd}y");
        assert_eq!(parse(b"{\"a\":}"), None);
    }

    fn split(text: &str, pieces: usize, limit: usize) -> (Vec<String>, u64, bool) {
        let mut objects = Objects::new(limit);
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(pieces) {
            objects.feed(piece, |object| found.push(String::from_utf8_lossy(object).into_owned()));
        }
        (found, objects.too_large(), objects.is_whole_array())
    }

    #[test]
    fn an_array_is_cut_wherever_the_pieces_end() {
        let text = r#" [{"a":{"b":"}]{\"\\"}},{"é":[{}]} , {}]
"#;
        for pieces in 1..text.len() {
            let (found, _, whole) = split(text, pieces, 100);
            assert_eq!(found, [r#"{"a":{"b":"}]{\"\\"}}"#, r#"{"é":[{}]}"#, "{}"], "{pieces}");
            assert!(whole);
        }
    }

    #[test]
    fn lines_are_cut_too_with_or_without_line_ends() {
        for text in ["{\"a\":1}\n{\"b\":2}\n", "{\"a\":1}{\"b\":2}", "{\"a\":1}\r\n\r\n{\"b\":2}"] {
            assert_eq!(split(text, 3, 100).0, ["{\"a\":1}", "{\"b\":2}"]);
        }
    }

    #[test]
    fn a_huge_object_costs_only_itself() {
        let text = format!("[{{}},{{\"a\":\"{}\"}},{{\"b\":1}}]", "x".repeat(1000));
        assert_eq!(split(&text, 7, 100), (vec!["{}".to_owned(), "{\"b\":1}".to_owned()], 1, true));
    }

    #[test]
    fn what_is_no_whole_array_is_told() {
        for text in ["", "[", "[{}", "[{},{\"a\":", "<html>", "{}", "{\"message\":\"x\"}", "[]x", "404"] {
            assert!(!split(text, 100, 100).2, "{text}");
        }
        for text in ["[]", "null", " [\n]\n", "[{}]"] {
            assert!(split(text, 100, 100).2, "{text}");
        }
    }

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
            assert_eq!(time_ns(text), Some(expected), "{text}");
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
            assert_eq!(time_ns(text), None, "{text}");
        }
    }
}
