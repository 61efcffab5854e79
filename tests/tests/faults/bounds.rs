//! Answers without measure: what an engine sends does not decide how much is held, and the next good answer heals.

use std::io::{Result, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, Exposition};

const CPU: &str = "container_cpu_usage_seconds_total";
const UP: &str = "docker_stats_exporter_docker_up";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n";
const GIB: u64 = 1 << 30;
/// Peak of the resident memory; a container's share of it is a few KiB.
const MAX_RESIDENT: u64 = 320 << 20;

/// A host with names, and an engine that is asked for its list every second.
fn host() -> (FakeEngine, Exporter) {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    let exporter = Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .flag("--docker.resync-interval=1")
        .docker_url(&engine.url())
        .start()
        .unwrap();
    named(&exporter);
    (engine, exporter)
}

fn is_named(exposition: &Exposition) -> anyhow::Result<()> {
    exposition.one(CPU, &[("name", "web")]).map(drop)
}

fn named(exporter: &Exporter) {
    exporter.scrape_until(Duration::from_secs(10), "names", is_named).unwrap();
}

fn await_up(exporter: &Exporter, up: bool) {
    let seen = exporter.scrape_until(Duration::from_mins(2), "docker_up", |exposition| {
        ensure!((exposition.value(UP, &[])? > 0.5) == up, "it is {}", !up);
        Ok(())
    });
    seen.unwrap();
}

fn peak(exporter: &Exporter) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM").unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Writes `unit` until `bytes` are written.
fn fill(stream: &mut UnixStream, unit: &[u8], bytes: u64, chunked: bool) -> Result<()> {
    let block: Vec<u8> = unit.iter().copied().cycle().take(unit.len() * (1 << 20) / unit.len().max(1)).collect();
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        if chunked {
            write!(stream, "{:x}\r\n", block.len())?;
        }
        stream.write_all(&block)?;
        if chunked {
            stream.write_all(b"\r\n")?;
        }
    }
    Ok(())
}

fn sized(stream: &mut UnixStream, head: &[u8], unit: &'static [u8]) -> Result<()> {
    stream.write_all(head)?;
    write!(stream, "Content-Length: {}\r\n\r\n", 2 * GIB)?;
    fill(stream, unit, 2 * GIB, false)
}

fn chunked(stream: &mut UnixStream, head: &[u8], unit: &'static [u8]) -> Result<()> {
    stream.write_all(head)?;
    stream.write_all(b"Transfer-Encoding: chunked\r\n\r\n")?;
    fill(stream, unit, 2 * GIB, true)
}

type Handler = fn(&mut UnixStream) -> Result<()>;

#[test]
fn lists_without_measure_are_given_up_and_names_are_kept() {
    let cases: [(&str, Handler); 6] = [
        ("2 GiB of white space with a length", |stream| sized(stream, HEAD, b"   \n")),
        ("2 GiB of one object in chunks", |stream| chunked(stream, HEAD, b"[{\"a\":")),
        ("2 GiB of an error's explanation", |stream| chunked(stream, ERROR, b"sorry ")),
        ("2 GiB of an error with a length", |stream| sized(stream, ERROR, b"{\"message\":\"")),
        ("one chunk without an end", |stream| {
            stream.write_all(HEAD)?;
            stream.write_all(b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n[")?;
            fill(stream, b"{\"a\":[", 2 * GIB, false)
        }),
        ("a head without an end", |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            fill(stream, b"X-Header: value\r\n", GIB, false)
        }),
    ];
    let (engine, exporter) = host();
    for (what, handler) in cases {
        engine.on("/containers/json", handler);
        await_up(&exporter, false);
        is_named(&exporter.scrape().unwrap()).context(what).unwrap();
        engine.behave();
        await_up(&exporter, true);
        named(&exporter);
        let peak = peak(&exporter);
        assert!(peak < MAX_RESIDENT, "{what}: {} MiB", peak >> 20);
    }
    let said = exporter.stop().unwrap();
    let warnings = said.lines().filter(|line| line.contains("level=warn")).count();
    assert!(warnings <= 2 * cases.len() + 2, "{warnings} warnings:\n{said}");
}

#[test]
fn a_million_containers_take_no_name_from_those_that_are_known() {
    let (engine, exporter) = host();
    engine.on("all=1", |stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n[")?;
        for block in 0..1000 {
            let entry = |n| {
                format!(
                    "{{\"Id\":\"{:064x}\",\"Names\":[\"/x{n}\"],\"State\":\"exited\",\"Status\":\"\"}},",
                    block * 1000 + n
                )
            };
            stream.write_all((0..1000).map(entry).collect::<String>().as_bytes())?;
        }
        stream.write_all(b"{}]")
    });
    let dropped = |exposition: &Exposition| {
        let limit = [("reason", "container_limit")];
        ensure!(exposition.value("docker_stats_exporter_series_dropped_total", &limit)? > 0.0, "none");
        Ok(())
    };
    exporter.scrape_until(Duration::from_mins(2), "more containers than can be known", dropped).unwrap();
    is_named(&exporter.scrape().unwrap()).unwrap();
    engine.behave();
    await_up(&exporter, true);
    named(&exporter);
    let peak = peak(&exporter);
    assert!(peak < MAX_RESIDENT, "{} MiB", peak >> 20);
    exporter.stop().unwrap();
}

#[test]
fn a_deeply_nested_entry_and_a_huge_event_cost_only_themselves() {
    let (engine, exporter) = host();
    let id = engine.inspected("web").unwrap();
    let nested = format!("[{{\"Id\":\"{id}\",\"a\":{}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
    let before = engine.requests().len();
    engine.on("all=1", move |stream| {
        stream.write_all(HEAD)?;
        write!(stream, "Content-Length: {}\r\n\r\n{nested}", nested.len())
    });
    let listed =
        |engine: &FakeEngine| engine.requests().iter().skip(before).filter(|asked| asked.contains("all=1")).count();
    exporter_tests::wait::eventually(Duration::from_secs(20), "two lists", || {
        ensure!(listed(&engine) > 1, "{}", listed(&engine));
        Ok(())
    })
    .unwrap();
    let exposition = exporter.scrape().unwrap();
    is_named(&exposition).unwrap();
    assert!(exposition.value(UP, &[]).unwrap() > 0.5);
    exporter.stop().unwrap();

    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    let rename = format!(
        "{{\"Type\":\"container\",\"Action\":\"rename\",\"timeNano\":9,\"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{{\"name\":\"renamed\",\"image\":\"x\"}}}}}}\n"
    );
    engine.on("/events", move |stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n{\"Type\":\"container\",\"a\":\"")?;
        fill(stream, b"0123456789abcdef", 100 << 20, false)?;
        stream.write_all(b"\"}\n")?;
        stream.write_all(rename.as_bytes())?;
        std::thread::sleep(Duration::from_hours(1));
        Ok(())
    });
    let exporter = Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .docker_url(&engine.url())
        .start()
        .unwrap();
    let renamed = |exposition: &Exposition| exposition.one(CPU, &[("name", "renamed")]).map(drop);
    exporter.scrape_until(Duration::from_mins(1), "the event after the huge one", renamed).unwrap();
    let peak = peak(&exporter);
    assert!(peak < MAX_RESIDENT, "{} MiB", peak >> 20);
    exporter.stop().unwrap();
}
