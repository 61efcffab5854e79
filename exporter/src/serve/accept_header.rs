//! `Accept` and `Accept-Encoding`: which of our formats a client prefers, and whether it takes gzip.
//!
//! What cannot be understood is passed over, so that the worst header gives plain text 0.0.4. Called by `route`.

use crate::scrape::Format;

/// A weight in thousandths, as HTTP defines it: 0 to 1000.
type Weight = u16;

/// One element of a comma-separated header: a value, its parameters and its weight.
struct Element<'a> {
    value: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: Weight,
}

impl<'a> Element<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = split_unquoted(text, b';');
        let value = pieces.next()?.trim();
        let mut element = Self { value, parameters: Vec::new(), weight: 1000 };
        for piece in pieces.map(str::trim).filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("q") {
                element.weight = weight(value)?;
            } else {
                element.parameters.push((name, value.trim_matches('"')));
            }
        }
        Some(element)
    }

    fn is(&self, value: &str) -> bool {
        self.value.eq_ignore_ascii_case(value)
    }

    fn version(&self) -> Option<&'a str> {
        self.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("version")).map(|(_, value)| *value)
    }
}

/// `0`, `0.5`, `1`, `1.000`; digits beyond the third are ignored.
fn weight(text: &str) -> Option<Weight> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(3)
        .fold(0, |sum: Weight, digit| sum * 10 + Weight::from(digit - b'0'));
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Splits at a separator that is not inside double quotes.
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character: char| {
        quoted ^= character == '"';
        !quoted && character == char::from(separator)
    })
}

fn elements<'a>(headers: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Element<'a>> {
    headers.flat_map(|header| split_unquoted(header, b',')).filter_map(Element::parse)
}

/// The weight of the most precise element that covers a format; among equally precise ones the greatest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    precision: u8,
    weight: Weight,
}

/// The format that the `Accept` headers ask for: OpenMetrics if they name it and prefer it to text, else text.
pub(super) fn format<'a>(headers: impl Iterator<Item = &'a str>) -> Format {
    let (mut text, mut open) = (Match::default(), Match::default());
    for element in elements(headers) {
        let (best, precision) = match element.version() {
            None if element.is("application/openmetrics-text") => (&mut open, 1),
            Some("1.0.0") if element.is("application/openmetrics-text") => (&mut open, 2),
            None if element.is("*/*") => (&mut text, 1),
            None if element.is("text/*") => (&mut text, 2),
            None if element.is("text/plain") => (&mut text, 3),
            Some("0.0.4") if element.is("text/plain") => (&mut text, 4),
            _ => continue,
        };
        *best = (*best).max(Match { precision, weight: element.weight });
    }
    if open.weight > text.weight { Format::OpenMetrics } else { Format::Text }
}

/// Whether the `Accept-Encoding` headers take gzip and do not prefer the plain answer.
pub(super) fn gzip<'a>(headers: impl Iterator<Item = &'a str>) -> bool {
    let (mut named, mut others, mut identity) = (None, None, None);
    for element in elements(headers) {
        let weight = if element.is("gzip") || element.is("x-gzip") {
            &mut named
        } else if element.is("*") {
            &mut others
        } else if element.is("identity") {
            &mut identity
        } else {
            continue;
        };
        *weight = Some(element.weight.max(weight.unwrap_or(0)));
    }
    let gzip = named.or(others).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Format = Format::OpenMetrics;
    const TEXT: Format = Format::Text;

    #[test]
    fn accept_headers_give_the_format_that_the_client_prefers() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        let table = [
            (prometheus_2, OPEN),
            (prometheus_3, OPEN),
            (browser, TEXT),
            ("", TEXT),
            ("*/*", TEXT),
            ("application/*", TEXT),
            ("text/plain", TEXT),
            ("application/json", TEXT),
            ("application/openmetrics-text", OPEN),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OPEN),
            ("application/openmetrics-text; version=\"1.0.0\"", OPEN),
            ("application/openmetrics-text; version=0.0.1", TEXT),
            ("application/openmetrics-text; version=2.0.0", TEXT),
            ("application/openmetrics-text; version=0.0.1, application/openmetrics-text;q=0.2", OPEN),
            ("application/openmetrics-text;q=0", TEXT),
            ("application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text", TEXT),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.5", TEXT),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.499", OPEN),
            ("application/openmetrics-text;q=0.5, */*;q=0.8", TEXT),
            ("application/openmetrics-text;q=0.5, */*;q=0.8, text/plain;version=0.0.4;q=0.3", OPEN),
            ("application/openmetrics-text;q=0.5, text/*;q=0.6", TEXT),
            ("application/openmetrics-text ; q=0.9 , text/plain ; q=0.1", OPEN),
            ("text/plain;q=0.1,,application/openmetrics-text", OPEN),
        ];
        for (accept, expected) in table {
            assert_eq!(format(std::iter::once(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn nonsense_in_accept_falls_back_to_text() {
        let nonsense = [
            ";;;===,,,\"",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;q",
            "application/openmetrics-text;q=1.5",
            "\"application/openmetrics-text",
            "q=1",
        ];
        for accept in nonsense {
            assert_eq!(format(std::iter::once(accept)), TEXT, "{accept}");
        }
    }

    #[test]
    fn several_accept_lines_count_as_one() {
        assert_eq!(format(["text/plain;q=0.1", "application/openmetrics-text;q=0.2"].into_iter()), OPEN);
    }

    #[test]
    fn accept_encoding_headers_decide_on_gzip() {
        let table = [
            ("", false),
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("deflate, br", false),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0.001", true),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("*;q=0, gzip", true),
            ("identity", false),
            ("identity, gzip;q=0.5", false),
            ("identity;q=0.5, gzip", true),
            ("gzip;q=nonsense", false),
            ("gzipped", false),
        ];
        for (encoding, expected) in table {
            assert_eq!(gzip(std::iter::once(encoding)), expected, "{encoding}");
        }
        assert!(!gzip(std::iter::empty()));
        assert!(gzip(["br", "gzip"].into_iter()));
    }
}
