//! What happens to connections when the server stops.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::client::soon;
use super::{Fake, Running, settings};

#[tokio::test]
async fn idle_connections_end_at_once_and_nobody_gets_in_any_more() {
    // Whoever waited for them would wait longer than any test.
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.drain = Duration::from_hours(1));
    let address = server.address;
    let (mut fresh, mut kept, mut dribbling) = (server.connect().await, server.connect().await, server.connect().await);
    kept.get("/metrics").await;
    kept.answer().await;
    dribbling.say("GET /me").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.end().await;
    for client in [&mut fresh, &mut kept, &mut dribbling] {
        assert!(client.is_closed().await);
    }
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn a_scrape_in_flight_is_finished_and_its_connection_closed() {
    let server = Running::start(Fake::closed());
    let (address, fake) = (server.address, server.fake.clone());
    let mut client = server.connect().await;
    client.get("/metrics").await;
    soon(fake.was_asked(1)).await;

    let ending = tokio::spawn(server.end());
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    assert!(!ending.is_finished(), "the scrape holds the server");
    fake.gate.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "up 1\n"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    drop(client);
    soon(ending).await.expect("ended");
}

#[tokio::test]
async fn a_scrape_that_does_not_end_is_cut_after_the_time_for_it() {
    let patience = Duration::from_millis(300);
    let server = Running::start_with(Fake::closed(), settings(), |limits| limits.drain = patience);
    let mut client = server.connect().await;
    client.get("/metrics").await;
    soon(server.fake.was_asked(1)).await;
    let start = Instant::now();
    server.end().await;
    assert!(start.elapsed() >= patience, "{:?}", start.elapsed());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn the_healthcheck_sees_the_server_and_then_its_end() {
    use crate::config::ListenAddress;
    use crate::probe::healthy;

    let server = Running::start(Fake::new());
    let listen = ListenAddress::Host("127.0.0.1".to_owned(), server.address.port());
    let asked = listen.clone();
    tokio::task::spawn_blocking(move || healthy(&asked, None)).await.expect("no panic").expect("healthy");
    server.end().await;
    let error =
        tokio::task::spawn_blocking(move || healthy(&listen, None)).await.expect("no panic").expect_err("ended");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
