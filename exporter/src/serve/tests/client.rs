//! A client that says exactly what a test wants said, byte by byte.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(soon(TcpStream::connect(address)).await.expect("a connection"))
    }

    pub(super) fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.expect("the server listens");
    }

    pub(super) async fn get(&mut self, path: &str) {
        self.get_with(path, "").await;
    }

    /// `headers` are whole lines.
    pub(super) async fn get_with(&mut self, path: &str, headers: &str) {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")).await;
    }

    pub(super) async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let length = headers.get("content-length").expect("a length").parse().expect("a number");
        while self.buffer.len() < length {
            assert!(self.read().await > 0, "the connection ended inside the body");
        }
        let rest = self.buffer.split_off(length);
        Answer { status, headers, body: std::mem::replace(&mut self.buffer, rest) }
    }

    /// The answer to a HEAD request.
    pub(super) async fn answer_without_body(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        Answer { status, headers, body: Vec::new() }
    }

    async fn head(&mut self) -> (u16, HashMap<String, String>) {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read().await > 0, "the connection ended inside the header: {:?}", self.buffer);
        };
        let rest = self.buffer.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).expect("text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines.map(|line| line.split_once(": ").expect("a field"));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        (status.parse().expect("a number"), headers)
    }

    async fn read(&mut self) -> usize {
        soon(self.stream.read_buf(&mut self.buffer)).await.expect("bytes or an end")
    }

    /// Whether the server closes (or resets) the connection without a further byte, soon.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(soon(self.stream.read_buf(&mut self.buffer)).await, Ok(0) | Err(_))
    }

    /// Whether the connection is open and silent.
    pub(super) async fn is_open(&mut self) -> bool {
        let a_moment = std::time::Duration::from_millis(50);
        timeout(a_moment, self.stream.read_buf(&mut self.buffer)).await.is_err()
    }
}

/// Fails the test instead of hanging.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("done in time")
}
