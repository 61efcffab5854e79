//! Clients with little time: what they ask for costs nobody else any.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, http, wait};
use tempfile::TempDir;

const TIMEOUT: &str = "X-Prometheus-Scrape-Timeout-Seconds";
const SUCCESS: &str = "docker_stats_exporter_scrape_collector_success";
const CPU: &str = "container_cpu_usage_seconds_total";

/// Clients that ask again and again until they are dropped.
struct Crowd {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Each asks for the path of its number, with the same headers.
    fn start(
        size: usize,
        address: SocketAddr,
        path: impl Fn(usize) -> String,
        headers: &[(&'static str, &'static str)],
    ) -> Self {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |number| {
            let (over, asked, path, headers) = (Arc::clone(&over), Arc::clone(&asked), path(number), headers.to_vec());
            move || {
                while !over.load(Ordering::Relaxed) {
                    // A refused connection is not what is judged here.
                    if http::get(address, &path, &headers).is_ok() {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..size).map(|number| thread::spawn(client(number))).collect();
        let crowd = Self { over, asked, threads };
        crowd.is_busy(size as u64);
        crowd
    }

    /// Waits until they have been answered so many times more.
    fn is_busy(&self, times: u64) {
        let before = self.asked.load(Ordering::Relaxed);
        while self.asked.load(Ordering::Relaxed) < before + times {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_default();
        }
    }
}

/// So many that a pass over them takes a while.
const CONTAINERS: usize = 400;

/// A host of plain files, and an exporter that reads it. Scrapes are not refused for their number: times are judged here.
fn large_host(flags: &[&str]) -> (TempDir, Exporter) {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
    write(&root.path().join("cgroup.controllers"), "cpu memory io pids\n");
    for number in 0..CONTAINERS {
        let cgroup = root.path().join(format!("system.slice/docker-{number:064x}.scope"));
        fs::create_dir_all(&cgroup).unwrap();
        write(&cgroup.join("cpu.stat"), "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\n");
        write(&cgroup.join("memory.current"), "4096\n");
        write(&cgroup.join("memory.stat"), "anon 1000\nfile 2000\n");
        write(&cgroup.join("pids.current"), "3\n");
    }
    let flags = flags.iter().fold(Exporter::builder(), |builder, flag| builder.flag(*flag));
    let flags = flags.flag("--web.max-requests=0").flag(format!("--path.cgroup={}", root.path().display()));
    let exporter = flags.start().unwrap();
    (root, exporter)
}

/// Containers whose CPU time is in an answer, and whether the collector has succeeded.
fn read_of(answer: &http::Response) -> (usize, bool) {
    assert_eq!(answer.status, 200);
    let exposition = Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
    let containers = exposition.select(CPU, &[]).iter().filter(|sample| sample.label("id") != "/").count();
    (containers, exposition.value(SUCCESS, &[("collector", "cpu")]).unwrap() > 0.0)
}

/// The median time of ordinary scrapes, each of which is whole.
fn ordinary(exporter: &Exporter) -> Duration {
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let started = Instant::now();
            let answer = exporter.get("/metrics", &[(TIMEOUT, "60")]).unwrap();
            let time = started.elapsed();
            assert_eq!(read_of(&answer), (CONTAINERS, true));
            time
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Clients' threads take their part of the processor, on a machine with few of them and other work; what is judged here
/// takes seconds.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn impatient_clients_do_not_hold_up_an_ordinary_scrape() {
    let (_root, exporter) = large_host(&[]);
    let lone = ordinary(&exporter);
    for (size, timeout) in [(2, "0.00001"), (20, "0.00001"), (200, "0.00001"), (200, "0.005"), (20, "0.05")] {
        let headers = [(TIMEOUT, timeout)];
        let crowd = Crowd::start(size, exporter.address, |_| "/metrics".to_owned(), &headers);
        let among = ordinary(&exporter);
        crowd.is_busy(1);
        drop(crowd);
        assert!(among < 3 * lone + GRACE, "{size} clients with {timeout} s: {among:?}, alone {lone:?}");
    }
    exporter.stop().unwrap();
}

#[test]
fn clients_that_each_ask_for_other_collectors_do_not_hold_up_an_ordinary_scrape() {
    let sets = |number: usize| {
        let names = ["cpu", "memory", "blkio", "pids", "state", "machine"];
        let chosen = names.iter().enumerate().filter(|(bit, _)| (number + 1) >> bit & 1 == 1);
        let query: Vec<String> = chosen.map(|(_, name)| format!("collect[]={name}")).collect();
        format!("/metrics?{}", query.join("&"))
    };
    for flags in [&[][..], &["--scrape.min-interval=1s"]] {
        let (_root, exporter) = large_host(flags);
        let lone = ordinary(&exporter);
        let crowd = Crowd::start(48, exporter.address, sets, &[]);
        let among = ordinary(&exporter);
        crowd.is_busy(1);
        drop(crowd);
        assert!(among < 3 * lone + GRACE, "{flags:?}: {among:?}, alone {lone:?}");
        exporter.stop().unwrap();
    }
}

#[test]
fn clients_that_leave_do_not_hold_up_an_ordinary_scrape() {
    let (_root, exporter) = large_host(&[]);
    let lone = ordinary(&exporter);
    let address = exporter.address;
    let over = Arc::new(AtomicBool::new(false));
    let leaving: Vec<_> = (0..60)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = http::connect(address) else { continue };
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_or_default();
                    thread::sleep(Duration::from_millis(3));
                }
            })
        })
        .collect();
    let among = ordinary(&exporter);
    over.store(true, Ordering::Relaxed);
    for thread in leaving {
        thread.join().unwrap();
    }
    assert!(among < 3 * lone + GRACE, "{among:?}, alone {lone:?}");
    exporter.stop().unwrap();
}

#[test]
fn who_has_less_time_gets_what_is_read_by_then_and_who_has_more_gets_all() {
    let (_root, exporter) = large_host(&[]);
    let lone = ordinary(&exporter);
    let address = exporter.address;
    let hurried = (lone / 2).as_secs_f64().to_string();
    for _ in 0..10 {
        let patient = thread::spawn(move || http::get(address, "/metrics", &[]));
        let started = Instant::now();
        let answer = http::get(address, "/metrics", &[(TIMEOUT, &hurried)]).unwrap();
        let (containers, success) = read_of(&answer);
        assert!(started.elapsed() < 3 * lone + GRACE, "{:?}", started.elapsed());
        assert_eq!(success, containers == CONTAINERS);
        assert_eq!(read_of(&patient.join().unwrap().unwrap()), (CONTAINERS, true));
    }
    exporter.stop().unwrap();
}

#[test]
fn a_timeout_that_is_past_before_anything_is_read_gets_no_values_and_no_error() {
    let (_root, exporter) = large_host(&[]);
    ordinary(&exporter);
    for encoding in ["identity", "gzip"] {
        let answer = exporter.get("/metrics", &[(TIMEOUT, "0.00000001"), ("Accept-Encoding", encoding)]).unwrap();
        assert_eq!(read_of(&answer), (0, false));
    }
    let open = [(TIMEOUT, "0.00000001"), ("Accept", "application/openmetrics-text")];
    let text = exporter.get("/metrics?collect[]=cpu", &open).unwrap().text().unwrap();
    Exposition::parse(&text, Format::OpenMetrics).unwrap();
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1, "{text}");
    exporter.stop().unwrap();
}

#[test]
fn one_round_of_questions_to_a_slow_engine_serves_who_has_little_time_and_who_has_more() {
    let fixture = Fixture::open("debian12-v1-hybrid").unwrap();
    let engine = FakeEngine::captured(&fixture.docker()).unwrap();
    let exporter = Exporter::builder().flag("--source=docker-api").docker_url(&engine.url()).start().unwrap();
    let of = |exposition: &Exposition, name: &str| exposition.has(CPU, &[("name", name)]);
    exporter
        .scrape_until(Duration::from_secs(20), "both containers", |exposition| {
            ensure!(of(exposition, "web") && of(exposition, "queue"), "not yet");
            Ok(())
        })
        .unwrap();
    let path = format!("/containers/{}/stats", engine.inspected("web").unwrap());
    let asked = || engine.requests().iter().filter(|request| request.contains(&path)).count();
    engine.delay(&path, Duration::from_secs(4));
    let before = asked();
    let address = exporter.address;
    let patient = thread::spawn(move || http::get(address, "/metrics", &[(TIMEOUT, "60")]));
    wait::eventually(Duration::from_secs(20), "the slow one to be asked", || {
        ensure!(asked() > before, "not yet");
        Ok(())
    })
    .unwrap();
    let started = Instant::now();
    let hurried = exporter.get("/metrics", &[(TIMEOUT, "1.5")]).unwrap().text().unwrap();
    // The slow one alone takes four.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let hurried = Exposition::parse(&hurried, Format::Text).unwrap();
    assert!(of(&hurried, "queue") && !of(&hurried, "web"));
    assert!(hurried.value(SUCCESS, &[("collector", "cpu")]).unwrap() < 1.0);
    let patient = Exposition::parse(&patient.join().unwrap().unwrap().text().unwrap(), Format::Text).unwrap();
    assert!(of(&patient, "queue") && of(&patient, "web"));
    assert_eq!(asked(), before + 1);
    exporter.stop().unwrap();
}
