//! What strangers cost those who may ask: half handshakes, slow ones, wrong passwords, floods of frames.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use exporter_tests::http;

use super::{Server, TLS};

/// Cost 10; the password is dave123.
const DAVE: &str = "basic_auth_users:\n  dave: $2y$10$2UXri9cIDdgeKjBo4Rlpx.U3ZLDV8X1IxKmsfOvhcM5oXQt/mLmXq\n";

/// Frames of HTTP/2 without end, by a script with a TLS library of its own.
const FLOODS: &str = include_str!("floods.py");

#[test]
fn floods_of_frames_keep_nobody_out_take_no_memory_and_fill_no_log() {
    let server = Server::start(&format!("{TLS}{DAVE}")).unwrap();
    let scrape = || server.curl("https", "/metrics", &["--http2", "-u", "dave:dave123"]).unwrap();
    assert_eq!(scrape().0, 200);
    let before = server.resident_kilobytes().unwrap();
    let mut floods = Command::new("python3").args(["-c", FLOODS, &server.address.port().to_string()]).spawn().unwrap();
    let status = loop {
        let (status, said) = scrape();
        assert_eq!(status, 200, "{said}");
        if let Some(status) = floods.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "{status}");
    let grown = server.resident_kilobytes().unwrap().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    assert!(!server.log().contains("h2::"), "{}", server.log());
}

/// Frames before TLS is agreed on, floods of bytes, and silence. None is a handshake.
#[test]
fn half_handshakes_and_nonsense_keep_nobody_out() {
    let server = Server::start(&format!("{TLS}{DAVE}")).unwrap();
    let said: [&[u8]; 4] = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01\xff\xff"];
    let rude: Vec<TcpStream> = (0..600)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            // One that the server has ended in the meantime is as good.
            stream.write_all(said[number % said.len()]).unwrap_or_default();
            stream
        })
        .collect();
    for _ in 0..5 {
        let (status, said) = server.curl("https", "/metrics", &["-u", "dave:dave123"]).unwrap();
        assert_eq!(status, 200, "{said}");
    }
    drop(rude);
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(b"\x16\x03\x01").unwrap();
    half.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    assert!(matches!(half.read(&mut [0]), Ok(0) | Err(_)), "it is answered");
}

#[test]
fn wrong_passwords_without_end_do_not_hold_up_who_is_known() {
    let server = Server::start(DAVE).unwrap();
    let right = ("Authorization", "Basic ZGF2ZTpkYXZlMTIz");
    assert_eq!(http::get(server.address, "/metrics", &[right]).unwrap().status, 200);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..4 {
            let (is_over, address) = (&is_over, server.address);
            scope.spawn(move || {
                let mut attempt = 0_u32;
                while !is_over.load(Ordering::Relaxed) {
                    attempt += 1;
                    // "a:" and 3 bytes that differ: each is compared, or refused.
                    let wrong = format!("Basic ZGF2ZTp{:04}{number}{:04}", attempt % 9999, attempt % 9973);
                    let status =
                        http::get(address, "/metrics", &[("Authorization", &wrong)]).map(|answer| answer.status);
                    assert!(matches!(status, Ok(401 | 429)), "{status:?}");
                }
            });
        }
        let started = Instant::now();
        let mut scrapes = 0;
        while started.elapsed() < Duration::from_secs(3) {
            let answer = http::get(server.address, "/metrics", &[right]).map(|answer| answer.status);
            assert_eq!(answer.unwrap(), 200);
            scrapes += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(scrapes > 3, "{scrapes}");
    });
}
