//! HTTP/1 requests to an engine, each on a connection of its own, over a Unix socket, TCP or TLS.
//!
//! [`Transport::get`] passes an answer on in chunks, so that the caller limits its size. The client library reads an
//! answer as a whole. Its requests use [`Transport::send`], which limits the bytes of the connection.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bollard::BollardRequest;
use bollard::errors::Error as LibraryError;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::{Cause, Error};
use crate::config::DockerEndpoint;

/// Maximum size of the read buffer, and so of the head of an answer, in bytes.
const MAX_BUFFER: usize = 64 << 10;

/// A way to connect to an engine.
pub(super) struct Transport {
    endpoint: DockerEndpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transport {
    /// Reads the certificates of an endpoint with TLS. Does not connect.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub(super) fn new(endpoint: &DockerEndpoint) -> Result<Self, Error> {
        let tls = match endpoint {
            DockerEndpoint::Tls { address, certificates } => Some(tls(address, certificates)?),
            DockerEndpoint::Unix(_) | DockerEndpoint::Tcp(_) => None,
        };
        Ok(Self { endpoint: endpoint.clone(), tls })
    }

    /// Sends a request of the client library to `target` in place of the request's own path. The connection passes at
    /// most `limit` bytes of the answer.
    pub(super) async fn send(
        &self,
        request: BollardRequest,
        target: &str,
        limit: u64,
    ) -> Result<Response<Incoming>, LibraryError> {
        let stream = self.connect().await?;
        let (reader, writer) = tokio::io::split(stream);
        let (mut head, body) = request.into_parts();
        head.uri = target.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut request = Request::from_parts(head, body);
        request.headers_mut().insert(HOST, self.host());
        let stream = tokio::io::join(reader.take(limit), writer);
        let (response, connection) = exchange(stream, request).await?;
        if let Some(connection) = connection {
            tokio::spawn(connection);
        }
        Ok(response)
    }

    /// Sends `GET target`, and waits for the head of the answer.
    pub(super) async fn get(&self, target: &str) -> Result<Answer, Cause> {
        let stream = self.connect().await.map_err(Cause::Connect)?;
        let request = Request::get(target).header(HOST, self.host()).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| Cause::Connect(io::Error::other(error)))?;
        let (response, connection) = exchange(stream, request).await.map_err(Cause::Http)?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status.as_u16(), connection, body })
    }

    /// Returns the value of the header `Host`.
    fn host(&self) -> HeaderValue {
        let host = match &self.endpoint {
            DockerEndpoint::Unix(_) => "docker",
            DockerEndpoint::Tcp(address) | DockerEndpoint::Tls { address, .. } => address,
        };
        HeaderValue::from_str(host).unwrap_or_else(|_| HeaderValue::from_static("docker"))
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.endpoint {
            DockerEndpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
            DockerEndpoint::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            DockerEndpoint::Tls { address, .. } => {
                let stream = TcpStream::connect(address).await?;
                let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
                Box::new(connector.connect(name.clone(), stream).await?)
            }
        })
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.endpoint.fmt(f)
    }
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An answer whose head has arrived; [`Answer::next`] reads the rest.
pub(super) struct Answer {
    pub(super) status: u16,
    connection: Option<Connection>,
    body: Incoming,
}

impl Answer {
    /// Returns the next chunk of the body; none at its end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Cause>> {
        poll_fn(|cx| {
            loop {
                drive(&mut self.connection, cx);
                return match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Cause::Http(error)))),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => Poll::Ready(Some(Ok(data))),
                        // Trailers are ignored.
                        Err(_) => continue,
                    },
                };
            }
        })
        .await
    }
}

/// Sends a request and waits for the head of the answer. Returns the connection unless it has ended already.
async fn exchange<S, B>(stream: S, request: Request<B>) -> hyper::Result<(Response<Incoming>, Option<Connection>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_BUFFER);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection: Option<Connection> = Some(Box::pin(connection));
    let mut response = std::pin::pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        drive(&mut connection, cx);
        response.as_mut().poll(cx)
    });
    let response = response.await?;
    Ok((response, connection))
}

/// Drives the connection. The body of the answer shows its end and its errors, too.
fn drive(connection: &mut Option<Connection>, cx: &mut std::task::Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

/// Reads `ca.pem`, `cert.pem` and `key.pem` of a directory. Returns the TLS client and the name of the server to
/// verify.
fn tls(address: &str, certificates: &Path) -> Result<(TlsConnector, ServerName<'static>), Error> {
    let unusable =
        |file: &str, reason: String| Error::Certificate { file: certificates.join(file).display().to_string(), reason };
    let chain = |file: &str| -> Result<Vec<CertificateDer<'static>>, Error> {
        let read = CertificateDer::pem_file_iter(certificates.join(file)).and_then(Iterator::collect);
        let chain: Vec<_> = read.map_err(|error| unusable(file, error.to_string()))?;
        if chain.is_empty() { Err(unusable(file, "no certificate in it".to_owned())) } else { Ok(chain) }
    };
    let key = PrivateKeyDer::from_pem_file(certificates.join("key.pem"))
        .map_err(|error| unusable("key.pem", error.to_string()))?;
    let own = chain("cert.pem")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain("ca.pem")?);
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(own, key);
    let config = config.map_err(|error| unusable("cert.pem", error.to_string()))?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| unusable("", format!("{host} is no name of a server: {error}")))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}
