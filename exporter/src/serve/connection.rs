//! Drives one connection from its first byte to its end. rustls and hyper handle the protocols, this file the timeouts.
//! Spawned by `accept`.
//!
//! hyper's own header timeout is off: it also runs while a kept-alive connection is idle between two scrapes, so that
//! any useful value would close the connection after each scrape.

use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::access::Access;
use super::activity::Connection;
use super::answer::{Answer, sent};
use super::connections::{ConnectionSlot, Connections};
use super::limits::{HEAD_BYTES, HEAD_FIELDS, Http2};
use super::listener::{Client, Socket};
use super::route::Routes;
use super::stream::Stream;
use super::tls::{Channel, open};
use crate::scrape::Scrape;

/// State that the requests of a connection share.
#[derive(Debug)]
struct Shared<S> {
    connection: Arc<Connection>,
    among: Arc<Connections>,
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
    let connection = Arc::clone(slot.connection());
    let stream = Stream::new(socket, Arc::clone(&connection), slot.among().limits());
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
    let among = Arc::clone(slot.among());
    let shared = Arc::new(Shared { connection, among, routes, access, is_http2 });
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

/// Runs a connection of either protocol until it ends, times out, or has to close and has no pending answer.
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
            // An error means that the server was dropped, which ends the connection as well.
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

async fn answer<S: Scrape>(
    shared: Arc<Shared<S>>,
    request: Request<Incoming>,
) -> Result<hyper::Response<Answer>, std::convert::Infallible> {
    let exchange = shared.connection.handling();
    let (head, body) = request.into_parts();
    let (mut response, is_last) = shared.access.answer(&shared.routes, &head).await;
    // A body is never read, so what follows the header cannot be distinguished from the next request.
    if !shared.is_http2 && (is_last || !body.is_end_stream()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else if is_last {
        shared.connection.retire();
    }
    Ok(sent(response, exchange, &shared.among))
}
