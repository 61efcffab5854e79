//! Parses `Accept` and `Accept-Encoding`: the format that a client prefers, and whether it takes gzip.
//!
//! Invalid elements are ignored. The fallback is text 0.0.4, and no request is refused with 406. A header is parsed in one
//! pass without allocation, so that the cost grows only with its length. Called by `request`.

use crate::scrape::Format;

/// A weight in thousandths, as HTTP defines it: 0 to 1000.
type Weight = u16;

/// The first release of Prometheus that reads the classic buckets of a histogram with native ones even if native histograms
/// are off. An older release that asks for protobuf only because of start timestamps drops such a histogram.
const SAFE_WITH_NATIVE: (u32, u32) = (3, 14);

/// One element of a comma-separated header: a value with its parameters and its weight.
struct Element<'a> {
    value: &'a str,
    weight: Weight,
    version: Option<&'a str>,
    proto: Option<&'a str>,
    encoding: Option<&'a str>,
}

impl<'a> Element<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = split_unquoted(text, b';');
        let value = pieces.next()?.trim();
        let mut element = Self { value, weight: 1000, version: None, proto: None, encoding: None };
        for piece in pieces.map(str::trim).filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let known = |known: &str| name.eq_ignore_ascii_case(known);
            let parameter = match () {
                () if known("q") => {
                    element.weight = weight(value)?;
                    continue;
                }
                () if known("version") => &mut element.version,
                () if known("proto") => &mut element.proto,
                () if known("encoding") => &mut element.encoding,
                // `escaping` is ignored: all our names are legal under every scheme.
                () => continue,
            };
            parameter.get_or_insert(value.trim_matches('"'));
        }
        Some(element)
    }

    fn is(&self, value: &str) -> bool {
        self.value.eq_ignore_ascii_case(value)
    }

    /// Returns whether this is the form of protobuf that the exporter writes.
    fn is_delimited_protobuf(&self) -> bool {
        self.is("application/vnd.google.protobuf")
            && self.proto == Some("io.prometheus.client.MetricFamily")
            && self.encoding == Some("delimited")
    }
}

/// Parses a weight such as `0`, `0.5`, `1` or `1.000`. Digits after the third are ignored.
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

/// The weight of the most precise element that matches a format; of equally precise ones the greatest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    precision: u8,
    weight: Weight,
}

/// Returns the format of the greatest weight in the `Accept` headers; of equal weights text before OpenMetrics before
/// protobuf. A wildcard matches text only. Protobuf is returned without native histograms.
pub(super) fn format<'a>(headers: impl Iterator<Item = &'a str>) -> Format {
    let (mut text, mut open, mut protobuf) = (Match::default(), Match::default(), Match::default());
    for element in elements(headers) {
        let (best, precision) = match element.version {
            None if element.is("application/openmetrics-text") => (&mut open, 1),
            Some("1.0.0") if element.is("application/openmetrics-text") => (&mut open, 2),
            None if element.is("*/*") => (&mut text, 1),
            None if element.is("text/*") => (&mut text, 2),
            None if element.is("text/plain") => (&mut text, 3),
            Some("0.0.4") if element.is("text/plain") => (&mut text, 4),
            _ if element.is_delimited_protobuf() => (&mut protobuf, 1),
            _ => continue,
        };
        *best = (*best).max(Match { precision, weight: element.weight });
    }
    if protobuf.weight > text.weight.max(open.weight) {
        Format::Protobuf { native: false }
    } else if open.weight > text.weight {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Returns whether a `User-Agent`, such as `Prometheus/3.14.0`, reads classic buckets also of a histogram with native ones.
pub(super) fn is_safe_with_native(agent: &str) -> bool {
    let version = agent.strip_prefix("Prometheus/").map(|rest| rest.trim_start_matches('v').splitn(3, '.'));
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    version.is_some_and(|mut parts| match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) => (major, minor) >= SAFE_WITH_NATIVE,
        _ => false,
    })
}

/// Returns whether the `Accept-Encoding` headers take gzip, and do not prefer the plain answer.
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
    const PROTOBUF: Format = Format::Protobuf { native: false };
    const PROTO: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    /// The `Accept` headers of clients, word for word.
    #[test]
    fn every_known_client_gets_what_it_reads_best() {
        let proto = |rest: &str| format!("{PROTO}{rest}");
        let three = |scheme: &str| {
            format!(
                "application/openmetrics-text;version=1.0.0;escaping={scheme};q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping={scheme};q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            )
        };
        let table = [
            (
                "Prometheus 2.42",
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                    .to_owned(),
                OPEN,
            ),
            (
                "Prometheus 2.42, native histograms",
                proto(
                    ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                PROTOBUF,
            ),
            (
                "Prometheus 2.55, native histograms",
                proto(
                    ";q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,\
                     application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ),
                PROTOBUF,
            ),
            (
                "Prometheus 2.55",
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
                    .to_owned(),
                OPEN,
            ),
            ("Prometheus 3", three("allow-utf-8"), OPEN),
            ("Prometheus 3, legacy names", three("underscores"), OPEN),
            ("Prometheus 3, dots", three("dots"), OPEN),
            ("Prometheus 3, values", three("values"), OPEN),
            (
                "Prometheus 3, native histograms or start timestamps",
                proto(
                    ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ),
                PROTOBUF,
            ),
            (
                "Prometheus 3, text 1.0.0 only",
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5".to_owned(),
                TEXT,
            ),
            ("Prometheus 3, protobuf only", proto(";q=0.6,*/*;q=0.5"), PROTOBUF),
            ("vmagent", "text/plain;version=0.0.4;q=1,*/*;q=0.1".to_owned(), TEXT),
            ("Telegraf", proto(";q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"), PROTOBUF),
            ("Alloy", three("underscores"), OPEN),
            ("Vector", "text/plain".to_owned(), TEXT),
            ("curl", "*/*".to_owned(), TEXT),
            (
                "a browser's page",
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8".to_owned(),
                TEXT,
            ),
        ];
        for (client, accept, expected) in table {
            assert_eq!(format(std::iter::once(&*accept)), expected, "{client}: {accept}");
        }
    }

    #[test]
    fn protobuf_has_to_be_named_whole_and_preferred() {
        let proto = |rest: &str| format!("{PROTO}{rest}");
        for (accept, expected) in [
            (proto(""), PROTOBUF),
            (proto(";escaping=dots;q=0.1"), PROTOBUF),
            (PROTO.replace(';', " ; ").to_uppercase().replace("IO.PROMETHEUS.CLIENT.METRICFAMILY", "x"), TEXT),
            (PROTO.replace(';', " ; ").replace("application/vnd", "Application/VND"), PROTOBUF),
            (proto(";q=0"), TEXT),
            (proto(";q=0.5,*/*;q=0.5"), TEXT),
            (proto(";q=0.5,application/openmetrics-text;q=0.5"), OPEN),
            (proto(";q=0.5,application/openmetrics-text;q=0.4,text/plain;q=0.4"), PROTOBUF),
            ("application/vnd.google.protobuf".to_owned(), TEXT),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily".to_owned(), TEXT),
            (PROTO.replace("delimited", "text"), TEXT),
            (PROTO.replace("delimited", "compact-text"), TEXT),
            (PROTO.replace("MetricFamily", "Metric"), TEXT),
            ("application/*".to_owned(), TEXT),
        ] {
            assert_eq!(format(std::iter::once(&*accept)), expected, "{accept}");
        }
    }

    #[test]
    fn only_a_prometheus_known_to_be_safe_gets_native_histograms_unasked() {
        for (agent, expected) in [
            ("Prometheus/3.14.0", true),
            ("Prometheus/v3.14.1", true),
            ("Prometheus/3.20.0-rc.1", true),
            ("Prometheus/4.0.0", true),
            ("Prometheus/3.5.3", false),
            ("Prometheus/3.13.9", false),
            ("Prometheus/2.42.0", false),
            ("Prometheus/", false),
            ("Prometheus/3", false),
            ("Prometheus/99999999999.1.1", false),
            ("Alloy/v1.20.0", false),
            ("otelcol Prometheus/3.14.0", false),
            ("", false),
        ] {
            assert_eq!(is_safe_with_native(agent), expected, "{agent}");
        }
    }

    #[test]
    fn hostile_headers_are_read_once_and_give_text() {
        let many = |element: &str| vec![element; 10_000].join(",");
        for accept in [
            many("application/openmetrics-text;q=1.5"),
            many("application/openmetrics-text;q=99999999999999999999"),
            many("application/vnd.google.protobuf;proto=x;encoding=delimited"),
            many("a/b;c=d;e=\"f,g;h\""),
            ";".repeat(60_000),
            ",".repeat(60_000),
            format!("text/plain{}", ";x=y".repeat(10_000)),
        ] {
            assert_eq!(format(std::iter::once(&*accept)), TEXT, "{}…", &accept[..40]);
            assert!(!gzip(std::iter::once(&*accept)));
        }
        let last = format!("{},application/openmetrics-text", many("x/y;q=0.1"));
        assert_eq!(format(std::iter::once(&*last)), OPEN);
        assert!(gzip(std::iter::once(&*format!("{},gzip", many("br;q=7")))));
        // Unknown parameters are ignored.
        assert_eq!(format(std::iter::once("application/openmetrics-text;version=1.0.0;new=thing;q=0.9")), OPEN);
    }

    #[test]
    fn accept_headers_give_the_format_that_the_client_prefers() {
        let table = [
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
