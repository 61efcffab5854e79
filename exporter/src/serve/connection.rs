//! One connection from its first byte to its end: hyper speaks HTTP, we hold the clock. Spawned by `accept`.
//!
//! hyper's own header timeout is off: it also runs while a kept-alive connection rests between two scrapes, so that any
//! useful value would close every scraper's connection after each scrape.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::activity::Connection;
use super::connections::Place;
use super::limits::{HEAD_BYTES, HEAD_FIELDS};
use super::route::Routes;
use super::stream::Stream;
use crate::scrape::Scrape;

/// Serves one connection to its end.
pub(super) async fn serve<S: Scrape>(
    tcp: TcpStream,
    place: Place,
    routes: Arc<Routes<S>>,
    mut stopping: watch::Receiver<bool>,
) {
    let connection = place.connection();
    let stream = Stream::new(tcp, Arc::clone(connection), place.among().limits());
    let service = service_fn(|request| {
        connection.handling();
        answer(&place, &routes, request)
    });
    let http = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            () = connection.overdue() => return,
            // An error means that the server is gone, which ends the connection as well.
            _ = stopping.wait_for(|stop| *stop), if !told => {
                if connection.quiet_since().is_some() {
                    return;
                }
                told = true;
                http.as_mut().graceful_shutdown();
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
    place: &Place,
    routes: &Routes<S>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    // A body is never read, so what follows the header cannot be told from the next request.
    let last = !body.is_end_stream();
    let mut response = routes.answer(&head).await;
    if last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    place.among().sending(place.connection(), response.body());
    Ok(response.map(|bytes| Answer { bytes: Some(bytes), connection: Arc::clone(place.connection()) }))
}

/// A body in one piece, which says when hyper has taken it.
#[derive(Debug)]
struct Answer {
    bytes: Option<Bytes>,
    connection: Arc<Connection>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.handed_over();
    }
}
