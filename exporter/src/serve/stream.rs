//! The socket under hyper. It reports received bytes and sent answers to the connection's state, and closes so that the
//! client can read our last answer. Built by `connection`.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Connection;
use super::limits::{LINGER_BYTES, Limits, SOCKET_SEND_BYTES};
use super::listener::Socket;

/// A socket with the state of its connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    connection: Arc<Connection>,
    /// Bytes that may still be discarded after our last answer.
    discardable: usize,
    /// A byte that was read to detect TLS, and is read again.
    again: Option<u8>,
}

impl Stream {
    pub(super) fn new(socket: Socket, connection: Arc<Connection>, limits: &Limits) -> Self {
        if let Err(error) = bound_kernel_memory(&socket, limits) {
            tracing::debug!(%error, "cannot set socket options; using the kernel's defaults");
        }
        Self { socket, connection, discardable: LINGER_BYTES, again: None }
    }

    /// Makes the next read begin with this byte.
    pub(super) fn put_back(&mut self, byte: u8) {
        self.again = Some(byte);
    }

    /// Discards bytes until the client closes, too, or has sent too much. Closing a socket with unread bytes makes the
    /// kernel reset the connection, and the reset can overtake our answer.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0_u8; 4096];
        while self.discardable > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.discardable = self.discardable.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Limits the send buffer and its time: a client that reads nothing holds no more than that, for at most `limits.send`.
fn bound_kernel_memory(socket: &Socket, limits: &Limits) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(socket.as_fd(), SOCKET_SEND_BYTES)?;
    let Socket::Tcp(tcp) = socket else { return Ok(()) };
    tcp.set_nodelay(true)?;
    let milliseconds = u32::try_from(limits.send.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(tcp.as_fd(), milliseconds)?;
    Ok(())
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.connection.is_to_be_reset()
            && let Err(error) = sockopt::set_socket_linger(self.socket.as_fd(), Some(Duration::ZERO))
        {
            tracing::debug!(%error, "cannot reset the connection: the kernel keeps the rest of the answer until it times out");
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(byte) = self.again.take() {
            buffer.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.connection.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper calls this only after it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.connection.closing();
        self.poll_discard(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_kernel_may_hold_little_for_a_client_and_not_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
        let (tcp, _) = listener.accept().await.expect("a client");
        let limits = Limits::for_requests(40);
        let stream = Stream::new(Socket::Tcp(tcp), Arc::new(Connection::new(limits)), &limits);
        // Linux doubles the value that is set, for its own records.
        assert!(sockopt::socket_send_buffer_size(stream.socket.as_fd()).expect("a size") <= 2 * SOCKET_SEND_BYTES);
        assert_eq!(sockopt::tcp_user_timeout(stream.socket.as_fd()).expect("a time"), 60_000);
    }
}
