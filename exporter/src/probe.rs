//! One small blocking HTTP request with a deadline, for `healthcheck` and `doctor`, which run outside the server.
//!
//! Not for scrapes: those go through [`crate::docker`].

mod running;
mod tls;

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::config::ListenAddress;
use crate::web_config::WebConfig;
use tls::Found;

pub use running::{Running, server};

/// Timeout of a whole request, including the name lookup.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answer of a TLS server to a client that speaks HTTP.
const NOT_TLS: &[u8] = b"to an HTTPS server.\n";

/// Maximum size of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No answer within the deadline.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    /// An answer that is not HTTP.
    #[error("the answer is not HTTP: {0:?}")]
    NotHttp(String),
    /// Another status than 200.
    #[error("answered with status {0}")]
    Status(u16),
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

/// Status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, cut at 1 MiB.
    pub body: Vec<u8>,
}

/// Asks the server that listens here for `/healthz`, over TLS if it speaks that. `web_config` is the server's file: if
/// it can be read, the server must show the certificate that it names.
///
/// # Errors
/// It does not answer, or not with 200. A server that requires a client certificate counts as healthy.
pub fn healthy(address: &ListenAddress, web_config: Option<&Path>) -> Result<(), Error> {
    let address = address.reachable();
    let answer = get(Target::Tcp(address.clone()), "/healthz")?;
    let answer = if answer.status == 400 && answer.body.ends_with(NOT_TLS) {
        let certificate = web_config.and_then(certificate);
        let asked = within_patience(move || {
            let tcp = connect(&address)?;
            tls::over_tls(tcp, certificate, |stream| request(stream, "localhost", "/healthz"))
        })?;
        match asked {
            Found::Open(answer) => answer,
            Found::RefusesClients => return Ok(()),
        }
    } else {
        answer
    };
    if answer.status == 200 { Ok(()) } else { Err(Error::Status(answer.status)) }
}

/// Returns the certificate that a server with this file shows. None if the file is invalid or its key is not readable
/// for us: the server may keep an earlier one.
fn certificate(web_config: &Path) -> Option<CertificateDer<'static>> {
    let web = WebConfig::load(web_config).ok()?;
    web.current().tls.as_ref().map(|tls| tls.certificate.clone())
}

/// Gets `path` within five seconds.
///
/// A thread does the work, because neither a name lookup nor a connection to a Unix socket has a deadline; a thread
/// that hangs ends with the process.
///
/// # Errors
/// No connection, no answer in time, or an answer that is not HTTP.
pub fn get(target: Target, path: &str) -> Result<Answer, Error> {
    let path = path.to_owned();
    within_patience(move || exchange(&target, &path))
}

/// Tries whether `HOST:PORT` accepts a connection.
///
/// # Errors
/// It does not accept one, or not in time.
pub fn connects(address: &str) -> Result<(), Error> {
    let address = address.to_owned();
    within_patience(move || Ok(connect(&address).map(drop)?))
}

fn within_patience<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone once the deadline has passed.
        drop(sender.send(work()));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or(Err(Error::Timeout))
}

fn exchange(target: &Target, path: &str) -> Result<Answer, Error> {
    match target {
        Target::Unix(socket) => request(UnixStream::connect(socket)?, "docker", path),
        Target::Tcp(address) => request(connect(address)?, address, path),
    }
}

/// Connects to the first of a name's addresses that accepts.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// HTTP 1.0, so that the answer comes in one piece and ends with the connection.
fn request(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Answer, Error> {
    // In one write: a server may answer and close after the first one.
    let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes)?;
    answer(&bytes).ok_or_else(|| Error::NotHttp(String::from_utf8_lossy(&bytes).chars().take(60).collect()))
}

fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let mut words = std::str::from_utf8(head).ok()?.lines().next()?.split(' ');
    words.next().filter(|protocol| protocol.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    Some(Answer { status, body: rest.get(4..)?.to_vec() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers one request with these bytes.
    fn server(bytes: &'static [u8]) -> ListenAddress {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(bytes).unwrap();
        });
        ListenAddress::Any(port)
    }

    #[test]
    fn only_200_is_healthy() {
        healthy(&server(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"), None).unwrap();
        let error = healthy(&server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), None).unwrap_err();
        assert_eq!(error.to_string(), "answered with status 503");
    }

    #[test]
    fn what_is_not_http_is_shown() {
        let error = healthy(&server(b"SSH-2.0-OpenSSH_9.2\r\n"), None).unwrap_err();
        assert!(error.to_string().contains("SSH-2.0"), "{error}");
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(matches!(healthy(&ListenAddress::Any(port), None), Err(Error::Io(_))));
    }

    #[test]
    fn every_address_is_asked_through_loopback() {
        for (host, asked) in [("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("::2", "[::2]:1"), ("web", "web:1")] {
            assert_eq!(ListenAddress::Host(host.to_owned(), 1).reachable(), asked);
        }
        assert_eq!(ListenAddress::Any(1).reachable(), "127.0.0.1:1");
    }
}
