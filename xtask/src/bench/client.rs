//! The scraper's side: one connection that is kept, as Prometheus keeps it, and one buffer for every answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As text.
    Plain,
    /// Compressed, as Prometheus asks.
    Gzip,
}

/// A connection to the exporter.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Asks for `path`; gives the body and the time until its last byte.
    pub(super) fn get(&mut self, path: &str, coding: Coding) -> anyhow::Result<(&[u8], Duration)> {
        let accepts = if coding == Coding::Gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{accepts}\r\n");
        let start = Instant::now();
        self.stream.write_all(request.as_bytes()).context("the exporter does not take the request")?;
        self.answer.clear();
        let body = self.read_head()?;
        while self.answer.len() < body.end {
            self.read_more()?;
        }
        let spent = start.elapsed();
        Ok((self.answer.get(body).unwrap_or_default(), spent))
    }

    /// Reads until the head is there; gives the place of the body.
    fn read_head(&mut self) -> anyhow::Result<std::ops::Range<usize>> {
        loop {
            self.read_more()?;
            let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(self.answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                bail!("the exporter answers {:?}", head.lines().next());
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("no content-length")?.trim().parse().context("content-length")?;
            return Ok(end + 4..end + 4 + length);
        }
    }

    fn read_more(&mut self) -> anyhow::Result<()> {
        let before = self.answer.len();
        self.answer.resize(before + 256 * 1024, 0);
        let read = self.stream.read(self.answer.get_mut(before..).unwrap_or_default()).context("no answer")?;
        self.answer.truncate(before + read);
        if read == 0 {
            bail!("the exporter closed the connection");
        }
        Ok(())
    }
}
