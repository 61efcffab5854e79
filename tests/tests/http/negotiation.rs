//! Clients that ask for another format at each scrape, and headers that are made to cost or to confuse.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use exporter_tests::exporter::OPENMETRICS;
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::http::{self, Response};
use exporter_tests::wait;

use super::captured;

const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// The formats by what asks for them, and how their content types begin.
const FORMATS: [(&str, &str, &str); 4] = [
    ("", "text/plain", "text/plain; version=0.0.4; charset=utf-8"),
    ("", OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
    ("", PROTOBUF, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"),
    (
        "?native=1",
        PROTOBUF,
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    ),
];

/// A connection that is kept.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")?;
        let mut answer = String::new();
        let mut length = 0;
        loop {
            let from = answer.len();
            ensure!(self.0.read_line(&mut answer)? > 0, "the connection ended: {answer}");
            let line = answer.get(from..).unwrap_or_default().trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut answer = answer.into_bytes();
        let head = answer.len();
        answer.resize(head + length, 0);
        self.0.read_exact(answer.get_mut(head..).context("a body")?)?;
        http::parse(&answer)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<usize> {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a number is cut")?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// The families of a body in protobuf, each of which is a message after its length that begins with the name.
fn families_of_protobuf(mut body: &[u8]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    while !body.is_empty() {
        let length = varint(&mut body)?;
        let (mut family, rest) = body.split_at_checked(length).context("a family is cut")?;
        body = rest;
        ensure!(varint(&mut family)? == 0x0a, "a family does not begin with its name");
        let length = varint(&mut family)?;
        let name = std::str::from_utf8(family.get(..length).context("a name is cut")?)?;
        ensure!(names.insert(name.to_owned()), "{name} stands there twice");
    }
    Ok(names)
}

fn families_of_text(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[test]
fn a_client_may_change_format_and_compression_at_every_scrape() {
    let exporter = captured().unwrap().start().unwrap();
    let text =
        wait::eventually(Duration::from_mins(1), "the metrics of the disk walker, which starts on its own", || {
            let text = exporter.get("/metrics", &[])?.text()?;
            ensure!(text.contains("disk_walker_resident_memory_bytes"), "{text}");
            Ok(text)
        });
    let expected = families_of_text(&text.unwrap());
    assert!(expected.len() > 40, "{expected:?}");
    let mut kept = Kept(BufReader::new(http::connect(exporter.address).unwrap()));
    let forms = 0..2 * FORMATS.len();
    // Each after each other one.
    for form in forms.clone().flat_map(|from| forms.clone().flat_map(move |to| [from, to])) {
        let ((query, accept, kind), encoding) = (FORMATS[form / 2], ["identity", "gzip"][form % 2]);
        let answer =
            kept.get(&format!("/metrics{query}"), &[("Accept", accept), ("Accept-Encoding", encoding)]).unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{accept} {encoding}");
        assert_eq!(answer.header("content-encoding"), (encoding == "gzip").then_some("gzip"));
        let body = answer.bytes().unwrap();
        if accept == PROTOBUF {
            assert_eq!(families_of_protobuf(&body).unwrap(), expected, "{encoding}");
        } else {
            let format = if accept == OPENMETRICS { Format::OpenMetrics } else { Format::Text };
            let text = String::from_utf8(body).unwrap();
            Exposition::parse(&text, format).unwrap();
            assert_eq!(families_of_text(&text).len(), expected.len(), "{encoding}");
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }
    exporter.stop().unwrap();
}

#[test]
fn headers_of_thousands_of_elements_are_answered_or_refused_and_delay_nobody() {
    let exporter = captured().unwrap().start().unwrap();
    let many = |element: &str, count: usize| vec![element; count].join(",");
    for (accept, status) in [
        (many("a", 8_000), 200),
        (many("application/openmetrics-text;q=7", 450), 200),
        (format!("{};q=1.5", many("application/vnd.google.protobuf;proto=x;y=z", 300)), 200),
        (format!("text/plain{}", ";x=y".repeat(3_500)), 200),
        ("\"".repeat(15_000), 200),
        (many("application/openmetrics-text", 10_000), 431),
    ] {
        for name in ["Accept", "Accept-Encoding"] {
            let answer = exporter.get("/metrics", &[(name, &accept)]).unwrap();
            assert_eq!(answer.status, status, "{name}: {}…", &accept[..40.min(accept.len())]);
            if status == 200 {
                assert_eq!(answer.header("content-type"), Some(FORMATS[0].2));
                assert_eq!(answer.header("content-encoding"), None);
                Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
            }
        }
        exporter.scrape().unwrap();
    }
    exporter.stop().unwrap();
}
