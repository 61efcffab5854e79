//! The transport of a connection: the bare socket, or TLS with the negotiated protocol.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::Stream;
use crate::web_config::WebConfig;

/// First byte of a TLS handshake; no method of HTTP begins with it.
const HANDSHAKE: u8 = 0x16;
/// Answer to a client that speaks HTTP to a TLS server, in Go's words.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// An open connection.
#[derive(Debug)]
pub(super) enum Channel {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

impl Channel {
    /// Returns whether both sides have agreed on HTTP/2, which is never spoken without TLS.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice()))
    }
}

/// Performs the TLS handshake if TLS is served. Returns also the digest of the client certificate rules.
///
/// The timeout is that of a request's header. The number of handshakes is not limited: two workers compute two at a
/// time, and a limit would let silent clients block others.
pub(super) async fn open(mut stream: Stream, web: Option<&WebConfig>) -> Option<(Channel, Option<[u8; 32]>)> {
    let serves_tls = web.is_some_and(WebConfig::serves_tls);
    let Some(web) = web.filter(|_| serves_tls) else { return Some((Channel::Plain(stream), None)) };
    let mut first = [0];
    stream.read_exact(&mut first).await.ok()?;
    if first != [HANDSHAKE] {
        // A client that sends invalid data may not wait for an answer either.
        drop(stream.write_all(NOT_TLS).await);
        drop(stream.shutdown().await);
        return None;
    }
    stream.put_back(HANDSHAKE);
    let loaded = web.current();
    let tls = loaded.tls.as_ref()?;
    match TlsAcceptor::from(std::sync::Arc::clone(&tls.server)).accept(stream).await {
        Ok(stream) => Some((Channel::Tls(Box::new(stream)), Some(tls.client_rules))),
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}
