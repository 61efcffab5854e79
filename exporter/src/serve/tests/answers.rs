//! Requests and their answers: paths, methods, statuses, and what headers and query ask for.

use std::time::{Duration, Instant};

use super::{Act, Fake, Running, Settings, settings, soon};
use crate::metrics::{Collector, CollectorSet};
use crate::scrape::{Error, Format};

#[tokio::test]
async fn metrics_are_served_with_length_type_and_vary() {
    let server = Running::start(Fake::new());
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.text()), (200, "up 1\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
    assert_eq!(answer.header("content-encoding"), None);
}

#[tokio::test]
async fn the_telemetry_path_can_be_moved_even_to_the_root() {
    for path in ["/prom", "/"] {
        let settings = Settings { telemetry_path: path.to_owned(), ..settings() };
        let server = Running::start_with(Fake::new(), settings, |_| ());
        assert_eq!(server.get(path).await.text(), "up 1\n");
        assert_eq!(server.get("/metrics").await.status, 404);
    }
}

#[tokio::test]
async fn healthz_says_ok_and_asks_for_no_scrape() {
    let server = Running::start(Fake::new());
    let answer = server.get("/healthz").await;
    assert_eq!((answer.status, answer.text()), (200, "ok\n"));
    assert!(server.fake.asked().is_empty());
}

#[tokio::test]
async fn readyz_gives_the_reason_until_ready() {
    let server = Running::start(Fake::new());
    *server.fake.ready.lock().unwrap() = Err("the first discovery is not done".to_owned());
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.text()), (503, "the first discovery is not done\n"));
    *server.fake.ready.lock().unwrap() = Ok(());
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_page_links_names_the_version_and_escapes_findings() {
    let server = Running::start(Fake::new());
    let answer = server.get("/").await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    for expected in ["href=\"./metrics\"", "1.2.3", "<dd>version &#60;1&#62; &#38; hybrid</dd>"] {
        assert!(answer.text().contains(expected), "{expected} in {}", answer.text());
    }
    for (header, expected) in [
        ("content-security-policy", "default-src 'none'; script-src 'sha256-"),
        ("content-security-policy", "require-trusted-types-for 'script'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert!(answer.header(header).unwrap().contains(expected), "{header}: {:?}", answer.header(header));
    }
}

#[tokio::test]
async fn an_unchanged_page_is_not_sent_again() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    client.get_with("/", "Accept-Encoding: gzip\r\n").await;
    let first = client.answer().await;
    assert_eq!((first.status, first.header("content-encoding")), (200, Some("gzip")));
    let tag = first.header("etag").unwrap().to_owned();
    client.get_with("/", &format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n")).await;
    assert_eq!(client.answer_without_body().await.status, 304);
    client.get_with("/", &format!("If-None-Match: {tag}\r\n")).await;
    let plain = client.answer().await;
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None), "the tag is that of the gzip body");
}

#[tokio::test]
async fn unknown_paths_are_404_and_say_where_metrics_are() {
    let server = Running::start(Fake::new());
    for path in ["/metric", "/metrics/", "//metrics", "/metrics%00", "/healthz/..", "*", "/%"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("/metrics"), "{path}");
    }
}

#[tokio::test]
async fn an_absolute_request_target_is_understood() {
    let server = Running::start(Fake::new());
    assert_eq!(server.get("http://proxy.example/metrics").await.text(), "up 1\n");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    for path in ["/metrics", "/", "/healthz", "/readyz", "/nothing"] {
        client.get(path).await;
        let get = client.answer().await;
        client.say(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        let head = client.answer_without_body().await;
        assert_eq!(head.status, get.status, "{path}");
        for name in ["content-length", "content-type", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
    }
    assert!(client.is_open().await, "no body bytes follow and the connection is kept");
}

#[tokio::test]
async fn other_methods_are_405_and_learn_which_are_allowed() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get"] {
        for path in ["/metrics", "/nothing"] {
            client.say(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    assert!(server.fake.asked().is_empty());
}

#[tokio::test]
async fn connect_opens_no_tunnel() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    client.say("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
}

#[tokio::test]
async fn failed_scrapes_say_why() {
    let server = Running::start(Fake::new());
    for (error, status) in [(Error::Panicked, 500), (Error::ShuttingDown, 503)] {
        let expected = format!("{error}\n");
        *server.fake.act.lock().unwrap() = Act::Fail(error);
        let answer = server.get("/metrics").await;
        assert_eq!((answer.status, answer.text()), (status, &*expected));
    }
    assert_eq!(server.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_panic_in_a_scrape_is_a_500_and_the_same_connection_goes_on() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    *server.fake.act.lock().unwrap() = Act::Panic;
    client.get("/metrics").await;
    assert_eq!(client.answer().await.status, 500);
    client.get("/metrics").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn above_the_limit_scrapes_are_503_while_everything_else_is_served() {
    let settings = Settings { max_requests: 2, ..settings() };
    let server = Running::start_with(Fake::closed(), settings, |_| ());
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.get("/metrics").await;
    two.get("/metrics").await;
    soon(server.fake.was_asked(2)).await;

    let refused = server.get("/metrics").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("--web.max-requests"), "{}", refused.text());
    assert_eq!(server.get("/healthz").await.status, 200);

    server.fake.gate.add_permits(3);
    assert_eq!((one.answer().await.status, two.answer().await.status), (200, 200));
    assert_eq!(server.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_scraper_that_hangs_up_gives_its_turn_back() {
    let settings = Settings { max_requests: 1, ..settings() };
    let server = Running::start_with(Fake::closed(), settings, |_| ());
    let mut client = server.connect().await;
    client.get("/metrics").await;
    soon(server.fake.was_asked(1)).await;
    drop(client);
    server.fake.gate.add_permits(100);
    soon(async { while server.get("/metrics").await.status != 200 {} }).await;
}

#[tokio::test]
async fn zero_max_requests_means_no_limit() {
    let settings = Settings { max_requests: 0, ..settings() };
    let server = Running::start_with(Fake::new(), settings, |_| ());
    assert_eq!(server.get("/metrics").await.status, 200);
}

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
    // The parameter has no effect in the other formats.
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
