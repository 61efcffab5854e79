//! Sends one small HTTP request with a deadline, for `healthcheck` and `doctor`, which run outside the server.
//!
//! `healthcheck` also finds the server itself: Docker's HEALTHCHECK runs in the server's container, but does not know the
//! flags of the server, such as those of `command:` in a compose file.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    SignatureScheme, StreamOwned,
};

use crate::config::{Command, Config, ListenAddress};
use crate::web_config::WebConfig;

/// Timeout of a whole request, including the name lookup.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The end of a TLS server's answer to a client that speaks HTTP.
const NOT_TLS: &[u8] = b"to an HTTPS server.\n";

/// Maximum size of an answer in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There was no answer within the deadline.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The answer is not HTTP. The text is its beginning.
    #[error("the answer is not HTTP: {0:?}")]
    NotHttp(String),
    /// The status is not 200.
    #[error("answered with status {0}")]
    Status(u16),
}

/// The address of a server.
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

/// Asks the server at an address for `/healthz`, over TLS if the server speaks TLS. `web_config` is the server's
/// `--web.config.file`. If it can be read, the server must have the certificate that it names.
///
/// # Errors
/// The server does not answer, or not with 200. A server that requires a client certificate counts as healthy.
pub fn healthy(address: &ListenAddress, web_config: Option<&Path>) -> Result<(), Error> {
    let address = address.reachable();
    let answer = get(Target::Tcp(address.clone()), "/healthz")?;
    let answer = if answer.status == 400 && answer.body.ends_with(NOT_TLS) {
        let certificate = web_config.and_then(certificate);
        let answer = within_timeout(move || request_over_tls(connect(&address)?, certificate, "/healthz"))?;
        let Some(answer) = answer else { return Ok(()) };
        answer
    } else {
        answer
    };
    if answer.status == 200 { Ok(()) } else { Err(Error::Status(answer.status)) }
}

/// Returns the certificate of a server with this file; none if the file is invalid or its key cannot be read here. The
/// server may then still use an earlier one.
fn certificate(web_config: &Path) -> Option<CertificateDer<'static>> {
    let web = WebConfig::load(web_config).ok()?;
    web.current().tls.as_ref().map(|tls| tls.certificate.clone())
}

/// Gets `path` within five seconds.
///
/// # Errors
/// There is no connection or no answer in time, or the answer is not HTTP.
pub fn get(target: Target, path: &str) -> Result<Answer, Error> {
    let path = path.to_owned();
    within_timeout(move || match &target {
        Target::Unix(socket) => request(UnixStream::connect(socket)?, "docker", &path),
        Target::Tcp(address) => request(connect(address)?, address, &path),
    })
}

/// Checks whether `HOST:PORT` accepts a connection.
///
/// # Errors
/// It does not accept one, or not in time.
pub fn connects(address: &str) -> Result<(), Error> {
    let address = address.to_owned();
    within_timeout(move || Ok(connect(&address).map(drop)?))
}

/// Runs `work` in a thread, and waits at most [`TIMEOUT`] for its result. Neither a name lookup nor a connection to a Unix
/// socket has a deadline of its own. A thread that hangs ends with the process.
fn within_timeout<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone once the deadline has passed.
        drop(sender.send(work()));
    });
    receiver.recv_timeout(TIMEOUT).unwrap_or(Err(Error::Timeout))
}

/// Connects to the first of a name's addresses that accepts.
fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a request and reads the whole answer. With HTTP/1.0 the answer is not chunked and ends with the connection.
fn request(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Answer, Error> {
    // The head is sent in one write, as a server may answer and close after the first one.
    let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes)?;
    answer(&bytes).ok_or_else(|| Error::NotHttp(String::from_utf8_lossy(&bytes).chars().take(60).collect()))
}

/// Parses an answer; none if it is not HTTP.
fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let mut words = std::str::from_utf8(head).ok()?.lines().next()?.split(' ');
    words.next().filter(|protocol| protocol.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    Some(Answer { status, body: rest.get(4..)?.to_vec() })
}

/// Sends a request over TLS. Returns none if the server has shown its certificate and then refused a client without one.
///
/// The server is identified by its certificate and not by its name: it must show `expected`, or any without it.
fn request_over_tls(
    tcp: TcpStream,
    expected: Option<CertificateDer<'static>>,
    path: &str,
) -> Result<Option<Answer>, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        Arc::new(OneCertificate { expected, was_shown: AtomicBool::new(false), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    match request(StreamOwned::new(session, tcp), "localhost", path) {
        Err(Error::Io(error)) if verifier.was_shown.load(Ordering::Relaxed) && wants_certificate(&error) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Returns whether an error is the alert of a server that requires a client certificate.
fn wants_certificate(error: &io::Error) -> bool {
    use AlertDescription::{BadCertificate, CertificateRequired, HandshakeFailure};
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(TlsError::AlertReceived(CertificateRequired | BadCertificate | HandshakeFailure)))
}

/// Accepts the expected certificate of a server, or any without one.
#[derive(Debug)]
struct OneCertificate {
    expected: Option<CertificateDer<'static>>,
    /// Whether the server has shown an accepted certificate.
    was_shown: AtomicBool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.expected.as_ref().is_some_and(|expected| expected != end_entity) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.was_shown.store(true, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A running server of this program.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    /// Its first listen address.
    pub address: ListenAddress,
    /// Its `--web.config.file`.
    pub web_config: Option<PathBuf>,
}

/// Returns the server of this program that runs in the same container or on the same host: process 1, or else the only other
/// one. Its flags are read from its command line and environment. Returns none if there is no server, or several.
#[must_use]
pub fn server() -> Option<Running> {
    let procfs = Path::new("/proc");
    let mut found: Vec<Running> = Vec::new();
    if let Some(server) = server_of(&procfs.join("1")) {
        return Some(server);
    }
    for entry in fs::read_dir(procfs).ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if pid.is_some_and(|pid| pid != std::process::id()) {
            found.extend(server_of(&entry.path()));
        }
    }
    found.dedup();
    if found.len() == 1 { found.pop() } else { None }
}

/// Returns the server that a process is; none if it is not a server of this program.
fn server_of(process: &Path) -> Option<Running> {
    if !(is_this_program(process) && shares_our_namespaces(process)) {
        return None;
    }
    let arguments = words(process.join("cmdline"))?.into_iter().skip(1);
    // The environment of a process with more privileges cannot be read. In a container ours is the same.
    let environment = words(process.join("environ")).filter(|words| !words.is_empty());
    let variable = |name: &str| match &environment {
        Some(words) => words.iter().find_map(|word| value_of(word, name)),
        None => std::env::var_os(name),
    };
    // Parsed as those of `healthcheck`, which reads no other file: files of the server may have errors by now. A process with
    // a command of its own is not a server, and two commands are an error.
    match Config::from(arguments.chain(["healthcheck".into()]), variable) {
        Ok(Command::Healthcheck { address, web_config, .. }) => {
            let web_config = web_config.map(|path| process.join("cwd").join(path));
            Some(Running { address, web_config })
        }
        _ => None,
    }
}

/// Returns whether a process runs this executable. If the executable cannot be read, their names are compared.
fn is_this_program(process: &Path) -> bool {
    let file = |path: PathBuf| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let (Ok(theirs), Ok(ours)) = (file(process.join("exe")), file(PathBuf::from("/proc/self/exe"))) {
        return theirs == ours;
    }
    let name = |process: &Path| {
        let first = words(process.join("cmdline"))?.into_iter().next()?;
        Path::new(&first).file_name().map(OsString::from)
    };
    name(process).is_some_and(|theirs| Some(theirs) == name(Path::new("/proc/self")))
}

/// Returns whether a process is in our mount and network namespaces. The links in `/proc/PID/ns` cannot be read, so its list of
/// mounts and the inode of a network file are compared, which differ between namespaces.
fn shares_our_namespaces(process: &Path) -> bool {
    let mounts = |process: &Path| fs::read(process.join("mountinfo")).ok();
    let network = |process: &Path| fs::metadata(process.join("net/dev")).map(|file| file.ino()).ok();
    let ours = Path::new("/proc/self");
    // The mounts of process 1 may not be readable. Its program and network are then enough.
    mounts(process).map_or(process.ends_with("1"), |theirs| Some(theirs) == mounts(ours))
        && network(process).is_some_and(|theirs| Some(theirs) == network(ours))
}

/// Returns the words of a file, each of which ends with a null byte.
fn words(file: PathBuf) -> Option<Vec<OsString>> {
    let bytes = fs::read(file).ok()?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Some(bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// Returns the value of `NAME=VALUE` if the name is `name`.
fn value_of(word: &OsString, name: &str) -> Option<OsString> {
    let value = word.as_encoded_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(OsString::from_vec(value.to_vec()))
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
