//! What a request's header and query turn into, and what the answer says of it.

use std::time::{Duration, Instant};

use super::{Fake, Running};
use crate::metrics::{Collector, CollectorSet};
use crate::scrape::Format;

#[tokio::test]
async fn openmetrics_is_served_to_who_prefers_it() {
    let server = Running::start(Fake::new());
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let answer = server.get_with("/metrics", accept).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores")
    );
    assert_eq!(server.fake.asked()[0].format, Format::OpenMetrics);
}

#[tokio::test]
async fn native_histograms_go_to_who_cannot_lose_by_them() {
    let server = Running::start(Fake::new());
    let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    for (path, agent, native) in [
        ("/metrics", "Prometheus/3.5.3", false),
        ("/metrics?native=1", "Prometheus/3.5.3", true),
        ("/metrics", "Prometheus/3.14.0", true),
        ("/metrics?native=0", "curl/8", false),
    ] {
        let answer = server.get_with(path, &format!("Accept: {proto}\r\nUser-Agent: {agent}\r\n")).await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
        );
        let asked = server.fake.asked().last().expect("a scrape").format;
        assert_eq!(asked, Format::Protobuf { native }, "{path} {agent}");
    }
    // The parameter asks for nothing in the other formats.
    server.get_with("/metrics?native=1", "Accept: text/plain\r\n").await;
    assert_eq!(server.fake.asked().last().expect("a scrape").format, Format::Text);
}

#[tokio::test]
async fn an_accept_header_that_is_no_text_gives_plain_text() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    client
        .say(b"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: \xff\xfe;q=\x80\r\nAccept-Encoding: \xff\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    assert_eq!(server.fake.asked()[0].format, Format::Text);
}

#[tokio::test]
async fn accept_lines_count_together() {
    let server = Running::start(Fake::new());
    server.get_with("/metrics", "Accept: text/plain;q=0.1\r\nAccept: application/openmetrics-text\r\n").await;
    assert_eq!(server.fake.asked()[0].format, Format::OpenMetrics);
}

#[tokio::test]
async fn gzip_is_asked_for_and_declared_only_when_accepted() {
    let server = Running::start(Fake::new());
    for (header, gzip) in [("Accept-Encoding: gzip\r\n", true), ("Accept-Encoding: gzip;q=0\r\n", false), ("", false)] {
        let answer = server.get_with("/metrics", header).await;
        assert_eq!(answer.header("content-encoding"), gzip.then_some("gzip"), "{header}");
        assert_eq!(server.fake.asked().last().expect("a scrape").gzip, gzip, "{header}");
    }
}

#[tokio::test]
async fn errors_are_never_declared_as_gzip() {
    let server = Running::start(Fake::new());
    let answer = server.get_with("/metrics?collect[]=nonsense", "Accept-Encoding: gzip\r\n").await;
    assert_eq!((answer.status, answer.header("content-encoding")), (400, None));
}

#[tokio::test]
async fn the_query_narrows_the_collectors() {
    let server = Running::start(Fake::new());
    for (query, expected) in [
        ("", &[Collector::Cpu, Collector::Memory] as &[_]),
        ("?collect[]=cpu", &[Collector::Cpu]),
        ("?collect%5B%5D=memory&collect[]=cpu", &[Collector::Cpu, Collector::Memory]),
        ("?exclude[]=cpu", &[Collector::Memory]),
    ] {
        assert_eq!(server.get(&format!("/metrics{query}")).await.status, 200, "{query}");
        let asked = server.fake.asked().last().expect("a scrape").selection.collectors;
        assert_eq!(asked, expected.iter().copied().collect::<CollectorSet>(), "{query}");
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_served_is_400_and_names_what_can() {
    let server = Running::start(Fake::new());
    for (query, expected) in [
        ("collect[]=nonsense", "unknown collector \"nonsense\"; switched on here: cpu, memory\n"),
        ("collect[]=tcp", "collector \"tcp\" is switched off"),
        ("exclude[]=nonsense", "unknown collector \"nonsense\""),
        ("collect[]=cpu&exclude[]=memory", "collect[] and exclude[] cannot go together"),
    ] {
        let answer = server.get(&format!("/metrics?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
    assert!(server.fake.asked().is_empty());
}

#[tokio::test]
async fn the_scrape_timeout_becomes_a_deadline() {
    let server = Running::start(Fake::new());
    let before = Instant::now();
    server.get_with("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n").await;
    let deadline = server.fake.asked()[0].deadline.expect("a deadline");
    let given = Duration::from_millis(9_500);
    assert!(deadline >= before + given && deadline <= Instant::now() + given);

    server.get_with("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: soon\r\n").await;
    assert_eq!(server.fake.asked()[1].deadline, None);
}
