//! A server that runs out of file descriptors. It needs a process of its own, as the limit is one of the process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::client::Client;
use super::{Fake, Running, settings};

const ANNOUNCEMENT: &str = "serving at ";

/// The other process: serves until its standard input ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a helper: the next test runs it in a process with few file descriptors"]
async fn serves_until_told_to_end() {
    // Whoever waited for the idle ones to go by themselves would wait longer than any test.
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = Duration::from_hours(1));
    // The test harness captures what is printed otherwise.
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{ANNOUNCEMENT}{}\n", server.address).as_bytes())
        .unwrap();
    let signal = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(signal).await.unwrap().unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_server_without_free_descriptors_still_answers_scrapes() {
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -n 48; exec \"$0\" --ignored --nocapture --exact serve::tests::descriptors::serves_until_told_to_end"])
        .arg(std::env::current_exe().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address: SocketAddr =
        lines.find_map(|line| line.strip_prefix(ANNOUNCEMENT).map(|address| address.parse().unwrap())).unwrap();

    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(Client::connect(address).await);
    }
    let mut scraper = Client::connect(address).await;
    scraper.get("/metrics").await;
    assert_eq!(scraper.answer().await.status, 200);

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}
