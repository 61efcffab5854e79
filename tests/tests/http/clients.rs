//! Slow, idle, rude and many clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::http;

use super::captured;

#[test]
fn idle_and_half_spoken_clients_do_not_delay_a_scrape() {
    let exporter = captured().unwrap().start().unwrap();
    let connect = |said: &[u8]| -> TcpStream {
        let mut stream = http::connect(exporter.address).unwrap();
        stream.write_all(said).unwrap();
        stream
    };
    let rude: Vec<TcpStream> = (0..150)
        .map(|index| match index % 3 {
            0 => connect(b""),
            1 => connect(b"GET /metr"),
            _ => connect(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: "),
        })
        .collect();
    // One that waits for the rude ones' deadline takes ten seconds; a busy machine may hold up some, but not all.
    let fastest = (0..5).map(|_| {
        let started = Instant::now();
        exporter.scrape_unjudged("/metrics", Format::Text).unwrap();
        started.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_secs(8), "{fastest:?}");
    drop(rude);
    exporter.stop().unwrap();
}

#[test]
fn half_a_request_is_ended_by_the_server() {
    let exporter = captured().unwrap().start().unwrap();
    let mut stream = http::connect(exporter.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(5))).unwrap();
    let mut rest = Vec::new();
    // Closed, or reset: both end it. Only our own giving up does not.
    let end = stream.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(!matches!(end, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "it is still open");
    exporter.stop().unwrap();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let exporter = captured().unwrap().start().unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let greedy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = http::connect(exporter.address).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            // Pipelined requests whose answers nobody takes; the server may stop taking more.
            stream.write_all(request.as_bytes()).unwrap_or_default();
            stream
        })
        .collect();
    exporter.scrape().unwrap();
    assert!(resident_kib(exporter.pid()) < 200_000, "{} KiB resident", resident_kib(exporter.pid()));
    drop(greedy);
    exporter.stop().unwrap();
}

#[test]
fn nonsense_ends_its_own_connection_only() {
    let exporter = captured().unwrap().start().unwrap();
    let huge = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: 1\r\n".repeat(5000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    for request in
        [huge.as_bytes(), many.as_bytes(), long.as_bytes(), b"\x16\x03\x01\x02\x00\x01\x00", b"HELLO\r\n\r\n"]
    {
        let mut stream = http::connect(exporter.address).unwrap();
        let mut answer = Vec::new();
        stream.write_all(request).unwrap_or_default();
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        stream.read_to_end(&mut answer).unwrap_or_default();
        if !answer.is_empty() {
            let status = http::parse(&answer).unwrap().status;
            assert!((400..500).contains(&status), "{status}");
        }
        exporter.scrape().unwrap();
    }
    exporter.stop().unwrap();
}

#[test]
fn many_scrapes_at_once_all_get_a_whole_answer() {
    let exporter = captured().unwrap().flag("--web.max-requests=4").start().unwrap();
    let address = exporter.address;
    let threads: Vec<_> = (0..24)
        .map(|_| {
            thread::spawn(move || {
                let mut served = 0;
                for _ in 0..5 {
                    let answer = http::get(address, "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
                    match answer.status {
                        200 => {
                            Exposition::parse(&answer.text().unwrap(), Format::Text).unwrap();
                            served += 1;
                        }
                        // What --web.max-requests promises.
                        503 => {}
                        other => panic!("status {other}"),
                    }
                }
                served
            })
        })
        .collect();
    let served: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > 0);
    exporter.scrape().unwrap();
    exporter.stop().unwrap();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
