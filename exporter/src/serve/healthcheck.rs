//! Asks a running exporter whether it serves: the subcommand `healthcheck`, for images without a shell.
//!
//! Plain blocking TCP and as little HTTP as it takes, so that the check costs nothing each time it runs.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::bind::resolve;
use crate::config::ListenAddress;

/// How long the whole check may take; Docker's own timeout is 30 seconds unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(3);
/// Enough for a status line and some header.
const MOST_READ: usize = 4096;

/// Why the server is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The configured address is no address.
    #[error("cannot find {address}: {reason}: check --web.listen-address")]
    Unresolved {
        /// The address as it was given.
        address: String,
        /// What the system said.
        reason: io::Error,
    },
    /// Nothing answered.
    #[error("no answer from http://{address}/healthz: {reason}: is the exporter running, and does it listen there?")]
    NoAnswer {
        /// The address that was asked.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// Something answered, but not that it is well.
    #[error(
        "http://{address}/healthz answered {seen:?} where 200 was expected: is it the exporter that listens there?"
    )]
    Unwell {
        /// The address that was asked.
        address: SocketAddr,
        /// The first line of the answer, cut if long.
        seen: String,
    },
}

/// Asks `/healthz` of the server that listens on this address; a wildcard address is asked over loopback.
///
/// # Errors
/// The address that was asked (the first one, where there are several) and what was seen there.
pub fn healthcheck(address: &ListenAddress) -> Result<(), HealthError> {
    let targets = targets(address).map_err(|reason| HealthError::Unresolved { address: address.shown(), reason })?;
    ask_each(&targets, Instant::now() + PATIENCE)
}

/// One answer decides, be it good or bad; only silence leads to the next address.
fn ask_each(targets: &[SocketAddr], end: Instant) -> Result<(), HealthError> {
    let mut first_silence = None;
    for target in targets {
        match ask(*target, end) {
            Err(silence @ HealthError::NoAnswer { .. }) => _ = first_silence.get_or_insert(silence),
            decided => return decided,
        }
    }
    first_silence.map_or(Ok(()), Err)
}

/// The addresses at which a server that listens there can be reached from the same host.
fn targets(address: &ListenAddress) -> io::Result<Vec<SocketAddr>> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let (host, port) = match address {
        ListenAddress::Any(port) => return Ok([v4, v6].map(|ip| SocketAddr::new(ip, *port)).to_vec()),
        ListenAddress::Host(host, port) => (host, *port),
    };
    let reachable = resolve(host, port)?.into_iter().flat_map(|address| match address.ip() {
        ip if !ip.is_unspecified() => vec![address],
        IpAddr::V4(_) => vec![SocketAddr::new(v4, port)],
        IpAddr::V6(_) => vec![SocketAddr::new(v6, port), SocketAddr::new(v4, port)],
    });
    Ok(reachable.collect())
}

fn ask(address: SocketAddr, end: Instant) -> Result<(), HealthError> {
    let seen = status_line(address, end).map_err(|reason| HealthError::NoAnswer { address, reason })?;
    let mut words = seen.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(protocol), Some("200")) if protocol.starts_with("HTTP/1.") => Ok(()),
        _ => Err(HealthError::Unwell { address, seen }),
    }
}

/// The first line of the answer, if it is there in time however slowly it comes.
fn status_line(address: SocketAddr, end: Instant) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nUser-Agent: healthcheck\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(timed_out)?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 512];
    while !answer.contains(&b'\n') && answer.len() < MOST_READ {
        stream.set_read_timeout(Some(left(end)?))?;
        let read = stream.read(&mut chunk).map_err(timed_out)?;
        if read == 0 {
            break;
        }
        answer.extend(chunk.iter().take(read));
    }
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().chars().take(100).collect())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket's timeout shows as "resource temporarily unavailable", which would help nobody.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that reads a request and says something.
    fn saying(answer: &'static [u8], pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).expect("a request");
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1"));
            for byte in answer {
                thread::sleep(pause);
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        });
        address
    }

    fn message(address: SocketAddr, patience: Duration) -> String {
        ask(address, Instant::now() + patience).expect_err("not healthy").to_string()
    }

    #[test]
    fn a_200_is_healthy_however_it_is_split() {
        let address = saying(b"HTTP/1.1 200 OK\r\n\r\nok", Duration::from_millis(1));
        ask(address, Instant::now() + PATIENCE).expect("healthy");
    }

    #[test]
    fn another_status_is_named() {
        let message = message(saying(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Duration::ZERO), PATIENCE);
        assert!(message.contains("/healthz answered \"HTTP/1.1 503 Service Unavailable\" where 200"), "{message}");
    }

    #[test]
    fn something_that_is_not_http_is_named() {
        let shown = message(saying(b"SSH-2.0-OpenSSH 200\r\n", Duration::ZERO), PATIENCE);
        assert!(shown.contains("SSH-2.0-OpenSSH"), "{shown}");
        assert!(message(saying(b"", Duration::ZERO), PATIENCE).contains("answered \"\""));
    }

    #[test]
    fn silence_leads_to_the_next_address_and_the_first_answer_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let silent = listener.local_addr().expect("bound");
        drop(listener);
        let end = Instant::now() + PATIENCE;
        ask_each(&[silent, saying(b"HTTP/1.1 200 OK\r\n", Duration::ZERO)], end).expect("the second is healthy");
        let unwell = [saying(b"HTTP/1.1 500 No\r\n", Duration::ZERO), silent];
        assert!(matches!(ask_each(&unwell, end), Err(HealthError::Unwell { .. })));
        let first = ask_each(&[silent, "127.0.0.1:1".parse().expect("an address")], end).expect_err("both silent");
        assert!(first.to_string().contains(&silent.to_string()), "{first}");
    }

    #[test]
    fn nobody_there_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let message = message(address, PATIENCE);
        assert!(
            message.starts_with(&format!("no answer from http://{address}/healthz: Connection refused")),
            "{message}"
        );
    }

    #[test]
    fn a_server_that_trickles_is_given_up() {
        let start = Instant::now();
        let address = saying(&[b'x'; 200], Duration::from_millis(50));
        assert!(message(address, Duration::from_millis(300)).contains("timed out"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn wildcards_are_asked_over_loopback() {
        let shown =
            |address| targets(&address).expect("addresses").iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let host = |name: &str| ListenAddress::Host(name.to_owned(), 81);
        assert_eq!(shown(ListenAddress::Any(81)), ["127.0.0.1:81", "[::1]:81"]);
        assert_eq!(shown(host("0.0.0.0")), ["127.0.0.1:81"]);
        assert_eq!(shown(host("::")), ["[::1]:81", "127.0.0.1:81"]);
        assert_eq!(shown(host("[::1]")), ["[::1]:81"]);
        assert_eq!(shown(host("192.0.2.7")), ["192.0.2.7:81"]);
    }
}
