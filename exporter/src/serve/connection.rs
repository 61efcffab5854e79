//! Drives one connection from its first byte to its end: the TLS handshake, HTTP/1 or HTTP/2, and the timeouts.
//! Spawned by `accept`.
//!
//! hyper's own header timeout is off. It also runs while a kept-alive connection is idle between two scrapes, so that any
//! useful value would close the connection after each scrape.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Connection, Exchange};
use super::connections::{ConnectionSlot, Connections};
use super::limits::{HEAD_BYTES, HEAD_FIELDS, Http2};
use super::route::{Access, Routes};
use super::socket::{Client, Socket, Stream};
use crate::scrape::Scrape;
use crate::web_config::WebConfig;

/// First byte of a TLS handshake. No HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Answer to a client that speaks HTTP to a TLS server, in the words of Go's server.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// State that the requests of a connection share.
#[derive(Debug)]
struct Shared<S> {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    routes: Arc<Routes<S>>,
    access: Access,
    is_http2: bool,
}

/// Serves one connection to its end.
pub(super) async fn serve<S: Scrape>(
    socket: Socket,
    client: Client,
    slot: ConnectionSlot,
    routes: Arc<Routes<S>>,
    mut stopping: watch::Receiver<bool>,
) {
    let connection = Arc::clone(&slot.connection);
    let stream = Stream::new(socket, Arc::clone(&connection), &slot.connections.limits);
    let web = routes.web().cloned();
    let opened = tokio::select! {
        biased;
        () = connection.overdue() => return,
        // No answer is pending before the first request.
        _ = stopping.wait_for(|stop| *stop) => return,
        opened = open(stream, web.as_deref()) => opened,
    };
    let Some((channel, client_rules)) = opened else { return };
    let is_http2 = channel.is_http2();
    if is_http2 {
        connection.multiplexed();
    }
    let access = Access { web, client, client_rules };
    let connections = Arc::clone(&slot.connections);
    let shared = Arc::new(Shared { connection, connections, routes, access, is_http2 });
    match channel {
        Channel::Plain(stream) => speak_http1(stream, &shared, stopping).await,
        Channel::Tls(stream) if is_http2 => speak_http2(*stream, &shared, stopping).await,
        Channel::Tls(stream) => speak_http1(*stream, &shared, stopping).await,
    }
}

async fn speak_http1<S: Scrape>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: &Arc<Shared<S>>,
    stopping: watch::Receiver<bool>,
) {
    let service = service_fn(|request| answer(Arc::clone(shared), request));
    let http = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    drive(pin!(http), http1::Connection::graceful_shutdown, &shared.connection, stopping).await;
}

async fn speak_http2<S: Scrape>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: &Arc<Shared<S>>,
    stopping: watch::Receiver<bool>,
) {
    let service = service_fn(|request| answer(Arc::clone(shared), request));
    let http = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(Http2::STREAMS)
        .max_header_list_size(Http2::HEADER_LIST)
        .max_frame_size(Http2::FRAME)
        .max_send_buf_size(Http2::SEND_BUFFER)
        .initial_stream_window_size(Http2::STREAM_WINDOW)
        .initial_connection_window_size(Http2::CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(Http2::PENDING_RESETS)
        .max_local_error_reset_streams(Http2::LOCAL_RESETS)
        .keep_alive_interval(None)
        .serve_connection(TokioIo::new(stream), service);
    drive(pin!(http), http2::Connection::graceful_shutdown, &shared.connection, stopping).await;
}

/// Drives a connection of either protocol until it ends, times out, or has to close and has no pending answer.
async fn drive<H: Future<Output = hyper::Result<()>>>(
    mut http: Pin<&mut H>,
    finish: impl Fn(Pin<&mut H>),
    connection: &Connection,
    mut stopping: watch::Receiver<bool>,
) {
    let mut notified = false;
    loop {
        tokio::select! {
            biased;
            () = connection.overdue() => return,
            // An error means that the server was dropped, which ends the connection, too.
            _ = stopping.wait_for(|stop| *stop), if !notified => {
                if connection.quiet_since().is_some() {
                    return;
                }
                notified = true;
                finish(http.as_mut());
            }
            () = connection.is_retired(), if !notified => {
                notified = true;
                finish(http.as_mut());
            }
            outcome = http.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
        }
    }
}

/// Answers one request of either protocol.
async fn answer<S: Scrape>(
    shared: Arc<Shared<S>>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let exchange = shared.connection.handling();
    let (head, body) = request.into_parts();
    let (mut response, is_last) = shared.access.answer(&shared.routes, &head).await;
    // The body of a request is never read, so that the next request cannot be found behind it.
    if !shared.is_http2 && (is_last || !body.is_end_stream()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else if is_last {
        shared.connection.retire();
    }
    Ok(sending(response, exchange, &shared.connections))
}

/// The transport under HTTP.
#[derive(Debug)]
enum Channel {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

impl Channel {
    /// Returns whether TLS has negotiated HTTP/2, which is not spoken without TLS.
    fn is_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice()))
    }
}

/// Performs the TLS handshake if TLS is served. Returns also the digest of the rules for client certificates.
///
/// The timeout is that of a request's header. The number of handshakes is not limited: the two worker threads compute two
/// at a time, and with a limit silent clients could block others.
async fn open(mut stream: Stream, web: Option<&WebConfig>) -> Option<(Channel, Option<[u8; 32]>)> {
    let serves_tls = web.is_some_and(WebConfig::serves_tls);
    let Some(web) = web.filter(|_| serves_tls) else { return Some((Channel::Plain(stream), None)) };
    let mut first = [0];
    stream.read_exact(&mut first).await.ok()?;
    if first != [TLS_HANDSHAKE] {
        // The client may already be gone.
        drop(stream.write_all(NOT_TLS).await);
        drop(stream.shutdown().await);
        return None;
    }
    stream.put_back(TLS_HANDSHAKE);
    let loaded = web.current();
    let tls = loaded.tls.as_ref()?;
    match TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream).await {
        Ok(stream) => Some((Channel::Tls(Box::new(stream)), Some(tls.client_rules))),
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}

/// The body of an answer, in one piece.
#[derive(Debug)]
struct AnswerBody(Option<Piece>);

/// The bytes of an answer, with the exchange that ends when hyper drops them.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    _exchange: Exchange,
}

/// Registers an answer that is being sent. It ends when hyper drops its body.
fn sending(response: Response<Bytes>, mut exchange: Exchange, connections: &Connections) -> Response<AnswerBody> {
    connections.sending(&mut exchange, response.body());
    response.map(|bytes| AnswerBody(Some(Piece { bytes, _exchange: exchange })))
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|piece| piece.bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |piece| piece.bytes.len() as u64))
    }
}
