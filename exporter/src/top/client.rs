//! Asks a running exporter for its metrics, over HTTP/1.1 or HTTPS, with gzip and basic authentication.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, DATE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::exposition::FAMILIES;
use crate::web_config::SYSTEM_AUTHORITIES;

/// Timeout of a whole request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of an answer in bytes, more than 5,000 containers need.
const MAX_ANSWER: usize = 64 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot connect: {0}; is the exporter running there?")]
    Connect(io::Error),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Answer(String),
    #[error("needs a user and a password: --user and --password-file, or TOP_PASSWORD")]
    Unauthorized,
    #[error("answers with status {0}")]
    Status(u16),
}

/// How to reach the exporter.
#[derive(Clone, Debug)]
pub struct Options {
    /// URL of the metrics.
    pub url: Uri,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// User and password for basic authentication.
    pub credentials: Option<(String, String)>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// The exposition.
    pub(super) text: String,
    /// When the request began.
    pub(super) asked: Instant,
    /// When the head of the answer arrived.
    pub(super) arrived: Instant,
    /// The server's clock in seconds since the epoch.
    pub(super) date: Option<f64>,
}

/// A client of one exporter. Each request has its own connection.
pub(super) struct Client {
    options: Options,
    /// `HOST:PORT`.
    host: String,
    /// Path and query of the metrics.
    target: String,
    authorization: Option<String>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// Reads the certificates if the URL is of HTTPS. Does not connect.
    ///
    /// # Errors
    /// The URL has no host, or the certificates cannot be read.
    pub(super) fn new(options: Options) -> Result<Self, String> {
        let authority = options.url.authority().ok_or("the URL names no host")?;
        let tls = options.url.scheme_str() == Some("https");
        let port = options.url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = format!("{}:{port}", authority.host());
        let query: Vec<String> = FAMILIES.iter().map(|(family, _)| format!("name[]={family}")).collect();
        let target = format!("{}?{}", options.url.path(), query.join("&"));
        let authorization = options
            .credentials
            .as_ref()
            .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        let tls = if tls {
            let name = authority.host().trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name).map_err(|error| format!("{}: {error}", authority.host()))?;
            Some((connector(options.ca_file.as_deref())?, name))
        } else {
            None
        };
        Ok(Self { options, host, target, authorization, tls })
    }

    pub(super) fn url(&self) -> String {
        self.options.url.to_string()
    }

    /// Returns the host name of the URL, or the name of this host if the URL is a loopback address.
    pub(super) fn host_name(&self) -> String {
        let name = self.options.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let own = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if own { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { name.to_owned() }
    }

    /// Asks for the families that the views show.
    ///
    /// # Errors
    /// There is no answer in time, or it is not an exposition.
    pub(super) async fn ask(&self) -> Result<Answer, Error> {
        self.get(&self.target).await
    }

    /// Asks whether the exporter has found the containers.
    ///
    /// # Errors
    /// The exporter is not ready, or does not answer.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        self.get("/readyz").await.map(drop)
    }

    async fn get(&self, target: &str) -> Result<Answer, Error> {
        timeout(TIMEOUT, self.exchange(target)).await.unwrap_or(Err(Error::Timeout))
    }

    async fn exchange(&self, target: &str) -> Result<Answer, Error> {
        let asked = Instant::now();
        let stream = self.connect().await.map_err(Error::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(target)
            .header(HOST, &self.host)
            .header(ACCEPT, "text/plain;version=0.0.4")
            .header(ACCEPT_ENCODING, "gzip");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| Error::Answer(error.to_string()))?;
        let response = sender.send_request(request).await?;
        let arrived = Instant::now();
        match response.status().as_u16() {
            200 => {}
            401 => return Err(Error::Unauthorized),
            status => return Err(Error::Status(status)),
        }
        let gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let date = response.headers().get(DATE).and_then(|date| http_date(date.to_str().ok()?));
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| Error::Answer(format!("the answer cannot be read: {error}")))?.to_bytes();
        connection.abort();
        let text = if gzip { inflate(&body)? } else { String::from_utf8_lossy(&body).into_owned() };
        Ok(Answer { text, asked, arrived, date })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.host).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        })
    }
}

/// Decompresses an answer.
fn inflate(body: &[u8]) -> Result<String, Error> {
    let mut text = String::new();
    let mut decoder = GzDecoder::new(body).take(MAX_ANSWER as u64 + 1);
    decoder.read_to_string(&mut text).map_err(|error| Error::Answer(format!("the answer is no gzip text: {error}")))?;
    if text.len() > MAX_ANSWER {
        return Err(Error::Answer(format!("the answer is longer than {} MiB", MAX_ANSWER >> 20)));
    }
    Ok(text)
}

/// Returns a TLS client that trusts the certificates of a file, else those of the system.
fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let file = ca_file
        .map(Path::to_path_buf)
        .or_else(|| SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists()));
    let file = file.ok_or("this system has no certificates to trust: name a file with --ca-file")?;
    let problem = |error: &dyn std::fmt::Display| format!("--ca-file {}: {error}", file.display());
    let pem = fs::read(&file).map_err(|error| problem(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| problem(&error))?;
        // The system's certificates may include some that rustls does not support.
        if let Err(error) = roots.add(certificate)
            && ca_file.is_some()
        {
            return Err(problem(&error));
        }
    }
    if roots.is_empty() {
        return Err(problem(&"has no certificate in it"));
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Returns an HTTP date as seconds since the epoch.
fn http_date(text: &str) -> Option<f64> {
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
