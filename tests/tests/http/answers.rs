//! Each endpoint, each header that is negotiated.

use exporter_tests::exporter::OPENMETRICS;
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::http;

use super::captured;

#[test]
fn every_endpoint_answers() {
    let exporter = captured().unwrap().start().unwrap();
    let landing = exporter.get("/", &[]).unwrap();
    assert_eq!(landing.status, 200);
    assert!(landing.header("content-type").unwrap().starts_with("text/html"));
    assert!(landing.text().unwrap().contains("/metrics\">"));
    assert_eq!(exporter.get("/healthz", &[]).unwrap().text().unwrap().trim(), "ok");
    assert_eq!(exporter.get("/readyz", &[]).unwrap().status, 200);
    for unknown in ["/nothing", "/metrics/", "/metricsx", "//metrics", "/healthz/x"] {
        assert_eq!(exporter.get(unknown, &[]).unwrap().status, 404, "{unknown}");
    }
    exporter.stop().unwrap();
}

#[test]
fn other_methods_are_refused_with_what_is_allowed() {
    let exporter = captured().unwrap().start().unwrap();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let answer = http::request(exporter.address, method, "/metrics", &[]).unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
    exporter.stop().unwrap();
}

#[test]
fn head_says_what_get_would_say() {
    let exporter = captured().unwrap().start().unwrap();
    for path in ["/", "/metrics", "/healthz", "/readyz", "/nothing"] {
        let get = exporter.get(path, &[]).unwrap();
        let head = http::request(exporter.address, "HEAD", path, &[]).unwrap();
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
    exporter.stop().unwrap();
}

#[test]
fn the_format_follows_accept() {
    let exporter = captured().unwrap().start().unwrap();
    let text = "text/plain; version=0.0.4";
    let open = "application/openmetrics-text; version=1.0.0";
    for (accept, expected) in [
        (None, text),
        (Some("*/*"), text),
        (Some("text/plain"), text),
        (Some(OPENMETRICS), open),
        (Some("application/openmetrics-text"), open),
        (Some("application/openmetrics-text; version=1.0.0; q=0.1, text/plain;version=0.0.4"), text),
        (Some("text/html, application/json"), text),
        (Some(";;;q=oops,,,/"), text),
        (Some("application/openmetrics-text;version=99.0.0"), text),
    ] {
        let headers: Vec<(&str, &str)> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        let answer = exporter.get("/metrics", &headers).unwrap();
        let kind = answer.header("content-type").unwrap();
        assert!(answer.status == 200 && kind.starts_with(expected), "{accept:?}: {} {kind}", answer.status);
        let format = if expected == text { Format::Text } else { Format::OpenMetrics };
        Exposition::parse(&answer.text().unwrap(), format).unwrap();
        let vary = answer.header("vary").unwrap().to_ascii_lowercase();
        assert!(vary.contains("accept") && vary.contains("accept-encoding"), "{vary}");
    }
    exporter.stop().unwrap();
}

#[test]
fn both_formats_say_the_same() {
    let exporter = captured().unwrap().start().unwrap();
    let text = exporter.scrape().unwrap();
    let open = exporter.scrape_openmetrics().unwrap();
    let series = |exposition: &Exposition| -> Vec<String> {
        let constant = exposition.samples().filter(|sample| sample.name.starts_with("container_cpu_"));
        constant.map(|sample| format!("{}{:?} {}", sample.name, sample.labels, sample.text)).collect()
    };
    assert!(!series(&text).is_empty());
    assert_eq!(series(&text), series(&open));
    exporter.stop().unwrap();
}

#[test]
fn the_body_is_zipped_when_it_may_be() {
    let exporter = captured().unwrap().start().unwrap();
    let plain = exporter.get("/metrics", &[]).unwrap();
    assert_eq!(plain.header("content-encoding"), None);
    let zipped = exporter.get("/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.len() * 4 < plain.body.len(), "{} of {}", zipped.body.len(), plain.body.len());
    Exposition::parse(&zipped.text().unwrap(), Format::Text).unwrap();
    for refused in ["identity", "gzip;q=0", "br, zstd"] {
        let answer = exporter.get("/metrics", &[("Accept-Encoding", refused)]).unwrap();
        assert_eq!(answer.header("content-encoding"), None, "{refused}");
    }
    exporter.stop().unwrap();
}

#[test]
fn collect_and_exclude_choose_collectors() {
    let exporter = captured().unwrap().start().unwrap();
    let names = |query: &str| {
        let exposition = exporter.scrape_path(&format!("/metrics{query}"), Format::Text).unwrap();
        let cpu = exposition.has("container_cpu_usage_seconds_total", &[]);
        let memory = exposition.has("container_memory_usage_bytes", &[]);
        (cpu, memory)
    };
    assert_eq!(names(""), (true, true));
    assert_eq!(names("?collect[]=cpu"), (true, false));
    assert_eq!(names("?collect%5B%5D=cpu&collect%5B%5D=memory"), (true, true));
    assert_eq!(names("?exclude[]=cpu"), (false, true));
    let unknown = exporter.get("/metrics?collect[]=nonsense", &[]).unwrap();
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().unwrap().contains("nonsense"));
    exporter.stop().unwrap();
}

#[test]
fn names_and_ids_choose_series() {
    let exporter = captured().unwrap().flag("--metrics.exclude=container_memory_swap").start().unwrap();
    let body = |query: &str| {
        let answer = exporter.get(&format!("/metrics{query}"), &[]).unwrap();
        assert_eq!(answer.status, 200, "{query}");
        answer.text().unwrap()
    };
    let samples = |query: &str| -> Vec<String> {
        body(query).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let all = samples("");
    assert!(!all.iter().any(|line| line.starts_with("container_memory_swap{")), "left out for all");
    let usage: Vec<String> =
        all.iter().filter(|line| line.starts_with("container_memory_usage_bytes{")).cloned().collect();
    assert!(usage.len() > 1, "{all:?}");
    assert_eq!(samples("?name[]=container_memory_usage_bytes&name[]=container_memory_swap&name[]=x"), usage);
    let own = samples("?name[]=docker_stats_exporter_build_info");
    assert!(own.len() == 1 && own[0].starts_with("docker_stats_exporter_build_info{"), "{own:?}");
    assert_eq!(body("?name[]=nonsense"), "");
    assert_eq!(body("?id[]=/nonsense"), "");
    let id =
        usage.iter().find_map(|line| line.split("id=\"").nth(1)?.split('"').next().filter(|id| *id != "/")).unwrap();
    let of_one = samples(&format!("?id[]={id}"));
    assert!(of_one.len() > 20 && of_one.iter().all(|line| line.contains(&format!("id=\"{id}\""))), "{of_one:?}");
    let digits: String = id.rsplit(['/', '-']).next().unwrap().chars().take(64).collect();
    assert_eq!(samples(&format!("?name[]=container_memory_usage_bytes&id[]={digits}")).len(), 1);
    let host = samples("?name[]=machine_cpu_cores&name[]=container_memory_usage_bytes&id[]=/");
    assert_eq!(host.len(), 2, "{host:?}");
    exporter.stop().unwrap();
}

#[test]
fn the_path_can_be_another() {
    let exporter = captured().unwrap().flag("--web.telemetry-path=/probe").start().unwrap();
    exporter.scrape_path("/probe", Format::Text).unwrap();
    assert_eq!(exporter.get("/metrics", &[]).unwrap().status, 404);
    assert!(exporter.get("/", &[]).unwrap().text().unwrap().contains("/probe\">"));
    exporter.stop().unwrap();
}
