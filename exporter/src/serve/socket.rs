//! The sockets of the server: listening sockets, accepted sockets, and the stream that hyper reads and writes.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::activity::Connection;
use super::limits::{LINGER_BYTES, Limits, SOCKET_SEND_BYTES};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

impl Listener {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Client)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (tcp, address) = listener.accept().await?;
                (Socket::Tcp(tcp), Client::at(address))
            }
            Self::Unix(listener) => (Socket::Unix(listener.accept().await?.0), Client::LOCAL),
        })
    }

    /// Returns the address as the log shows it.
    pub(super) fn describe(&self) -> Option<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.to_string()),
            Self::Unix(listener) => {
                let address = listener.local_addr().ok()?;
                Some(address.as_pathname().map_or_else(|| "unix socket".to_owned(), |path| path.display().to_string()))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The identity of a client: its IPv4 address, the /64 network of its IPv6 address (one host may have all of it), or one
/// identity for all clients of Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(pub(super) IpAddr);

impl Client {
    /// The identity of all clients of Unix sockets.
    pub(super) const LOCAL: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    fn at(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// An accepted socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

/// A stream of bytes, for sockets of either kind.
trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

impl Socket {
    fn io(&mut self) -> Pin<&mut dyn Io> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Unix(unix) => Pin::new(unix),
        }
    }
}

/// The socket under hyper. It reports received bytes and sent answers to the state of its connection, and closes so that the
/// client can read the last answer.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    connection: Arc<Connection>,
    /// Number of bytes that may still be discarded after the last answer.
    discardable: usize,
    /// A byte that was read to detect TLS, and that the next read returns again.
    put_back: Option<u8>,
}

impl Stream {
    pub(super) fn new(socket: Socket, connection: Arc<Connection>, limits: &Limits) -> Self {
        if let Err(error) = limit_send_buffer(&socket, limits) {
            tracing::debug!(%error, "cannot set socket options; using the kernel's defaults");
        }
        Self { socket, connection, discardable: LINGER_BYTES, put_back: None }
    }

    /// Makes the next read begin with this byte.
    pub(super) fn put_back(&mut self, byte: u8) {
        self.put_back = Some(byte);
    }

    /// Discards bytes until the client closes, too, or has sent too much. If a socket with unread bytes is closed, the kernel
    /// resets the connection, and the reset can overtake the answer.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0_u8; 4096];
        while self.discardable > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(self.socket.io().poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.discardable = self.discardable.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Limits what the kernel holds for a client that does not read: [`SOCKET_SEND_BYTES`] for at most `limits.send`.
fn limit_send_buffer(socket: &Socket, limits: &Limits) -> io::Result<()> {
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
        if let Some(byte) = self.put_back.take() {
            buffer.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(self.socket.io().poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.connection.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.io().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.io().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes only after it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.io().poll_flush(cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.io().poll_shutdown(cx))?;
        self.connection.closing();
        self.poll_discard(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_ipv4_address_and_ipv6_network() {
        let client = |text: &str| Client::at(text.parse().expect("an address")).0.to_string();
        assert_eq!(client("192.0.2.1:5"), "192.0.2.1");
        assert_eq!(client("[::ffff:192.0.2.1]:5"), "192.0.2.1");
        assert_eq!(client("[2001:db8:1:2:3:4:5:6]:7"), "2001:db8:1:2::");
    }

    #[tokio::test]
    async fn the_kernel_may_hold_little_for_a_client_and_not_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
        let (tcp, _) = listener.accept().await.expect("a client");
        let limits = Limits::for_requests(40);
        let stream = Stream::new(Socket::Tcp(tcp), Arc::new(Connection::new(limits)), &limits);
        // Linux doubles the value that is set.
        assert!(sockopt::socket_send_buffer_size(stream.socket.as_fd()).expect("a size") <= 2 * SOCKET_SEND_BYTES);
        assert_eq!(sockopt::tcp_user_timeout(stream.socket.as_fd()).expect("a time"), 60_000);
    }
}
