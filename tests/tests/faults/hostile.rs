//! Names and labels that no sane person gives, from an engine that no sane person runs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use exporter_tests::exposition::Format;
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, Exposition, wait};
use serde_json::{Map, Value, json};

const CPU: &str = "container_cpu_usage_seconds_total";
const DROPPED: &str = "docker_stats_exporter_series_dropped_total";

/// The captured host, with `web` under another name and with other labels.
fn renamed(name: &str, labels: &Map<String, Value>) -> (FakeEngine, Exporter, String) {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    let id = engine.inspected("web").unwrap();
    let list = engine.edit("/containers/json", |list| {
        for entry in list.as_array_mut().into_iter().flatten() {
            if entry.get("Id").and_then(Value::as_str) == Some(&id) {
                entry["Names"] = json!([format!("/{name}")]);
                entry["Labels"] = Value::Object(labels.clone());
            }
        }
    });
    list.unwrap();
    let inspected = engine.edit(&format!("/containers/{id}/json"), |container| {
        container["Name"] = json!(format!("/{name}"));
        container["Config"]["Labels"] = Value::Object(labels.clone());
    });
    inspected.unwrap();
    let exporter = start(&fixture, &engine);
    (engine, exporter, id)
}

fn start(fixture: &Fixture, engine: &FakeEngine) -> Exporter {
    Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .flag("--containers.labels=*")
        .docker_url(&engine.url())
        .start()
        .unwrap()
}

/// A scrape in which the engine's names have arrived; both formats have been judged.
fn scrape(exporter: &Exporter) -> Exposition {
    let named = |exposition: &Exposition| exposition.one(CPU, &[("name", "queue")]).map(drop);
    exporter.scrape_until(Duration::from_secs(10), "names", named).unwrap();
    exporter.scrape_openmetrics().unwrap();
    exporter.scrape().unwrap()
}

fn web<'a>(exposition: &'a Exposition, id: &str) -> &'a exporter_tests::exposition::Sample {
    exposition.samples().find(|sample| sample.name == CPU && sample.label("id").contains(id)).unwrap()
}

#[test]
fn quotes_and_newlines_are_escaped() {
    let name = "we\"ird\\ na\nme{},=\u{1f433}\t\r\u{7f}\u{2028}";
    let labels = json!({
        "quote\"label": "a\"b\\c\nd", "9starts.with-digit": "x", "": "no name", "ünïcode": "ü", "with space": " ",
        "__reserved": "r",
    });
    let (_engine, exporter, id) = renamed(name, labels.as_object().unwrap());
    let exposition = scrape(&exporter);
    let sample = web(&exposition, &id);
    assert!(sample.label("name").starts_with("we\"ird\\ na\nme{},=\u{1f433}"), "{sample:?}");
    assert_eq!(sample.label("container_label_quote_label"), "a\"b\\c\nd");
    assert_eq!(sample.label("container_label_9starts_with_digit"), "x");
    exporter.stop().unwrap();
}

#[test]
fn colliding_labels_do_not_spoil_the_series() {
    let labels = json!({"a.b": "1", "a-b": "2", "a_b": "3", "a b": "4"});
    let (_engine, exporter, id) = renamed("web", labels.as_object().unwrap());
    let exposition = scrape(&exporter);
    assert!(!web(&exposition, &id).label("container_label_a_b").is_empty());
    exporter.stop().unwrap();
}

#[test]
fn thousands_of_labels_and_endless_values_are_cut_and_counted() {
    let mut labels: Map<String, Value> = (0..5000).map(|n| (format!("l{n}"), json!(format!("v{n}")))).collect();
    labels.insert("com.docker.compose.project".to_owned(), json!("p".repeat(64 << 10)));
    labels.insert("n".repeat(64 << 10), json!("v"));
    let (_engine, exporter, id) = renamed(&"n".repeat(64 << 10), &labels);
    let exposition = scrape(&exporter);
    let sample = web(&exposition, &id);
    let length: usize = sample.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(length < 128 << 10, "{length} bytes in one label set");
    assert!(sample.label("name").starts_with("nnn") && sample.label("name").len() < 1 << 10);
    assert!(exposition.text.len() < 8 << 20, "{} bytes of exposition", exposition.text.len());
    let dropped: f64 = exposition.select(DROPPED, &[]).iter().map(|sample| sample.value).sum();
    assert!(dropped > 0.0, "what was cut is to be counted");
    // The neighbours have lost nothing.
    assert!(exposition.has(CPU, &[("name", "queue")]));
    exporter.stop().unwrap();
}

#[test]
fn answers_that_make_no_sense_are_a_failing_engine() {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    for nonsense in [
        &b"{\"not\": \"a list\"}"[..],
        b"[{\"Id\": 5}]",
        b"[{]",
        b"",
        b"[{\"Id\":\"zz\",\"Names\":[\"/x\"]}]",
        b"[{\"Id\":\"\xff\xfe\",\"Names\":[\"/\xff\"]}]",
        b"[null, {}, [], 7]",
    ] {
        let engine = FakeEngine::captured(&fixture.docker()).unwrap();
        engine.answer("/containers/json", nonsense);
        let exporter = start(&fixture, &engine);
        wait::eventually(Duration::from_secs(20), "the list to be asked for", || {
            let asked = engine.requests().iter().any(|target| target.contains("/containers/json"));
            ensure!(asked, "{:?}", engine.requests());
            Ok(())
        })
        .unwrap();
        let exposition = exporter.scrape().unwrap();
        let containers = exposition.select(CPU, &[]).len();
        assert!(containers > 6, "{containers} containers with {:?}", String::from_utf8_lossy(nonsense));
        exporter.stop().unwrap();
    }
}

#[test]
fn names_are_never_asked_for_one_by_one_at_every_scrape() {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    let exporter = start(&fixture, &engine);
    scrape(&exporter);
    let mut before = 0;
    wait::eventually(Duration::from_secs(20), "the first questions to be over", || {
        let last = std::mem::replace(&mut before, engine.requests().len());
        std::thread::sleep(Duration::from_millis(500));
        ensure!(last == before && engine.is_inspected(), "{before} requests");
        Ok(())
    })
    .unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        exporter.scrape_unjudged("/metrics", Format::Text).unwrap();
    }
    let elapsed = began.elapsed();
    let asked = engine.requests().split_off(before);
    let one_by_one = |path: &&String| path.contains("/containers/") && path.ends_with("/json");
    assert_eq!(asked.iter().find(one_by_one), None, "{asked:?}");
    // Signs of life and full lists go by the clock, not by the scrape.
    let most = 15 + 2 * elapsed.as_secs();
    assert!(asked.len() as u64 <= most, "{} requests for 100 scrapes in {elapsed:?}: {asked:?}", asked.len());
    exporter.stop().unwrap();
}
