//! A small HTTP/1.1 client over a plain socket. It is our own because tests must be able to misbehave: send half a
//! request, read slowly, hang up. Called by the exporter guard and by the HTTP tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// No single read may take longer: a guard against hanging, as a busy machine may stand still.
const TIMEOUT: Duration = Duration::from_mins(3);

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Body without transfer coding, still with its content coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body, unzipped where it says so.
    ///
    /// # Errors
    /// The body is not what its headers say.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        match self.header("content-encoding") {
            None => Ok(self.body.clone()),
            Some("gzip") => {
                let mut bytes = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(self.body.as_slice());
                decoder.read_to_end(&mut bytes).context("the body is not gzip")?;
                Ok(bytes)
            }
            Some(other) => bail!("content-encoding {other:?} was not asked for"),
        }
    }

    /// The body as text, unzipped where it says so.
    ///
    /// # Errors
    /// The body is not what its headers say, or not UTF-8.
    pub fn text(&self) -> Result<String> {
        String::from_utf8(self.bytes()?).context("the body is not UTF-8")
    }
}

/// `GET path` with more headers, on a connection of its own.
///
/// # Errors
/// No connection, no answer, or an answer that is not HTTP.
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    request(address, "GET", path, headers)
}

/// Any method, on a connection of its own.
///
/// # Errors
/// As [`get`].
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    let answer = exchange(address, text.as_bytes()).with_context(|| format!("{method} {path}"))?;
    parse(&answer).with_context(|| format!("answer to {method} {path}"))
}

/// Connects with the usual time limits.
///
/// # Errors
/// No connection.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends bytes as they are and reads until the other side closes.
///
/// # Errors
/// The connection broke before a single byte came.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(address)?;
    // The server may answer and close before it has read all of a request that it refuses.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let received = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent.context("sending")?;
        received.context("receiving")?;
    }
    Ok(answer)
}

/// Parses a whole answer.
///
/// # Errors
/// Not HTTP, or shorter than announced.
pub fn parse(answer: &[u8]) -> Result<Response> {
    let (head, body) = split_once(answer, b"\r\n\r\n").context("no end of the headers")?;
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("status line {status_line:?}"))?;
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').with_context(|| format!("header line {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut response = Response { status, headers, body: Vec::new() };
    response.body = if response.header("transfer-encoding") == Some("chunked") {
        unchunk(body)?
    } else {
        if let Some(length) = response.header("content-length") {
            let length: usize = length.parse()?;
            ensure!(body.is_empty() || body.len() == length, "{} bytes of {length}", body.len());
        }
        body.to_vec()
    };
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, after) = split_once(rest, b"\r\n").context("chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(size)?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = after.get(..size).context("the last chunk is cut")?;
        body.extend_from_slice(chunk);
        rest = after.get(size + 2..).context("chunk without an end")?;
    }
}

fn split_once<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_put_together() {
        let response =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((response.status, response.text().unwrap().as_str()), (200, "abcde"));
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc").is_err());
    }
}
