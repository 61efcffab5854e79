//! Clients that are slow, idle, many, or send what they should not; a lack of descriptors; the end of the server.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{Client, Fake, Running, Settings, settings, soon};

const SHORT: Duration = Duration::from_millis(300);
/// Far more than a socket's buffers hold.
const LARGE: usize = 16 << 20;

fn large() -> Fake {
    Fake::with_body(Bytes::from(vec![b'#'; LARGE]))
}

/// Returns a client whose scrape has been answered, and that has read nothing of the answer.
async fn slow_reader(server: &Running) -> Client {
    let mut client = server.connect().await;
    let before = server.fake.asked().len();
    client.get("/metrics").await;
    soon(server.fake.was_asked(before + 1)).await;
    soon(client.stream.peek(&mut [0])).await.expect("the beginning of the answer");
    client
}

async fn crowd(server: &Running, size: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(size);
    for _ in 0..size {
        clients.push(server.connect().await);
    }
    clients
}

/// Raises the limit of descriptors, as both ends of each connection are in this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_idle_connections_do_not_keep_a_scraper_out() {
    raise_descriptor_limit();
    // No idle connection reaches a timeout.
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = Duration::from_hours(1));
    let mut idle = crowd(&server, 600).await;
    assert_eq!(server.get("/metrics").await.status, 200);
    assert!(idle[0].is_closed().await, "the longest idle one made room");
    assert!(idle[599].is_open().await, "a newer one stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn dribbled_headers_do_not_keep_a_scraper_out() {
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.connections = 8);
    let mut dribbling = crowd(&server, 20).await;
    for client in &mut dribbling[12..] {
        client.say("GET /metrics HTTP/1.1\r\nHost: te").await;
    }
    for _ in 0..20 {
        assert_eq!(server.get("/metrics").await.status, 200);
    }
}

#[tokio::test]
async fn a_kept_connection_survives_a_crowd_of_newer_ones_below_the_cap() {
    let server = Running::start(Fake::new());
    let mut scraper = server.connect().await;
    let _crowd = crowd(&server, 100).await;
    scraper.get("/metrics").await;
    assert_eq!(scraper.answer().await.status, 200);
}

#[tokio::test]
async fn a_header_that_takes_too_long_ends_the_connection_however_it_dribbles() {
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = SHORT);
    let mut client = server.connect().await;
    let start = Instant::now();
    for byte in "GET /metrics HTTP/1.1\r\nHost: a-very-long-name-indeed".bytes().cycle() {
        use tokio::io::AsyncWriteExt;
        if client.stream.write_all(&[byte]).await.is_err() {
            break;
        }
        assert!(start.elapsed() < super::PATIENCE, "still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = SHORT);
    assert!(server.connect().await.is_closed().await);
}

#[tokio::test]
async fn a_kept_connection_outlives_the_header_time_and_ends_with_the_idle_time() {
    let server = Running::start_with(Fake::new(), settings(), |limits| {
        limits.head = SHORT;
        limits.idle = SHORT * 20;
    });
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.get("/metrics").await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(SHORT * 2).await;
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_slow_second_header_is_held_to_the_header_time() {
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = SHORT);
    let mut client = server.connect().await;
    client.get("/healthz").await;
    client.answer().await;
    client.say("GET /heal").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.say([request("/healthz"), request("/nothing"), request("/metrics"), request("/")].concat()).await;
    for status in [200, 404, 200, 200] {
        assert_eq!(client.answer().await.status, status);
    }
    assert!(client.is_open().await);
}

#[tokio::test]
async fn huge_headers_are_refused_and_the_connection_closed() {
    let server = Running::start(Fake::new());
    let long_field = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    let many_fields = "X-Many: 1\r\n".repeat(200);
    for (what, headers) in [("long", long_field), ("many", many_fields)] {
        let mut client = server.connect().await;
        // The server may close before it has read everything.
        drop(
            tokio::io::AsyncWriteExt::write_all(
                &mut client.stream,
                format!("GET /metrics HTTP/1.1\r\nHost: test\r\n{headers}\r\n").as_bytes(),
            )
            .await,
        );
        let answer = client.answer().await;
        assert_eq!(answer.status, 431, "{what}");
        assert!(client.is_closed().await, "{what}");
    }
    assert!(server.fake.asked().is_empty());
    assert_eq!(server.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_huge_request_target_is_refused() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    client.say(format!("GET /{} HTTP/1.1\r\n", "x".repeat(40_000))).await;
    assert!(matches!(client.answer().await.status, 414 | 431));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_connection_closed() {
    let server = Running::start(Fake::new());
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS\r\n\r\n" as &[u8],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.say(garbage).await;
        assert_eq!(client.answer().await.status, 400);
        assert!(client.is_closed().await);
    }
    let mut client = server.connect().await;
    client.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.is_closed().await, "HTTP/2 is not spoken here");
    assert_eq!(server.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_request_with_a_body_is_answered_and_the_connection_closed() {
    let server = Running::start(Fake::new());
    for (method, status) in [("GET", 200), ("POST", 405)] {
        for length in [10, 200_000] {
            let mut client = server.connect().await;
            let body = "x".repeat(length);
            client
                .say(format!("{method} /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"))
                .await;
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{method} {length}");
            assert_eq!(answer.header("connection"), Some("close"), "{method} {length}");
            assert!(client.is_closed().await, "{method} {length}");
        }
    }
}

#[tokio::test]
async fn a_client_that_still_sends_its_body_after_the_answer_is_not_reset() {
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.linger = Duration::from_secs(5));
    let mut client = server.connect().await;
    client.get_with("/metrics", "Content-Length: 500000\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    for _ in 0..10 {
        client.say(vec![b'x'; 40_000]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(client.is_closed().await, "but not waited for either");
}

#[tokio::test]
async fn a_body_that_never_comes_delays_nothing() {
    let server = Running::start(Fake::new());
    let mut client = server.connect().await;
    client.get_with("/metrics", "Content-Length: 1000000\r\nExpect: 100-continue\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn slow_readers_do_not_use_up_the_scrapes_at_a_time() {
    let settings = Settings { max_requests: 1, ..settings() };
    let server = Running::start_with(large(), settings, |_| ());
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(slow_reader(&server).await);
    }
    assert_eq!(server.get("/metrics").await.body.len(), LARGE);
    for mut client in slow {
        assert_eq!(client.answer().await.body.len(), LARGE, "whoever reads late still gets all");
    }
}

#[tokio::test]
async fn above_the_number_of_senders_the_oldest_is_cut() {
    let server = Running::start_with(large(), settings(), |limits| limits.senders = 3);
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(slow_reader(&server).await);
    }
    assert!(was_cut(&mut slow[0]).await);
    assert_eq!(slow[1].answer().await.body.len(), LARGE);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut() {
    let server = Running::start_with(large(), settings(), |limits| limits.send = SHORT);
    let mut slow = slow_reader(&server).await;
    tokio::time::sleep(SHORT * 2).await;
    assert!(was_cut(&mut slow).await);
    assert_eq!(server.get("/metrics").await.body.len(), LARGE);
}

/// The kernel may hold the rest of an answer. The connection then looks idle.
#[tokio::test]
async fn an_answer_that_only_the_kernel_still_holds_is_cut_too() {
    const SIZE: usize = 300_000;
    let fake = Fake::with_body(Bytes::from(vec![b'#'; SIZE]));
    let server = Running::start_with(fake, settings(), |limits| limits.send = SHORT);
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut client = Client::over(soon(socket.connect(server.address)).await.expect("a connection"));
    client.get("/metrics").await;
    tokio::time::sleep(SHORT * 10).await;
    assert!(ends_before(&mut client, SIZE).await);
}

/// Returns whether the connection ends before the whole answer has arrived.
async fn was_cut(client: &mut Client) -> bool {
    ends_before(client, LARGE).await
}

async fn ends_before(client: &mut Client, size: usize) -> bool {
    use tokio::io::AsyncReadExt;
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match soon(client.stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => return read < size,
            Ok(length) => read += length,
        }
    }
}

const ANNOUNCEMENT: &str = "serving at ";

/// Serves until the standard input ends. Runs in a process of its own, which has its own limit of descriptors.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a helper: the next test runs it in a process with few file descriptors"]
async fn serves_until_told_to_end() {
    // No idle connection reaches a timeout.
    let server = Running::start_with(Fake::new(), settings(), |limits| limits.head = Duration::from_hours(1));
    // `println!` would be captured by the test harness.
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{ANNOUNCEMENT}{}\n", server.address).as_bytes())
        .unwrap();
    let signal = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(signal).await.unwrap().unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_server_without_free_descriptors_still_answers_scrapes() {
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -n 48; exec \"$0\" --ignored --nocapture --exact serve::tests::connections::serves_until_told_to_end"])
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

#[tokio::test]
async fn idle_connections_end_at_once_and_nobody_gets_in_any_more() {
    // Waiting for the connections would take longer than the test may.
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
