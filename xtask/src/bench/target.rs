//! Scrapes a running exporter over HTTP, and reads the costs in `/proc`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Read timeout.
const PATIENCE: Duration = Duration::from_mins(2);
/// Pause after an answer, in which the exporter's threads go to sleep, so that their CPU time is accounted.
const REST: Duration = Duration::from_millis(4);

/// The requested encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As text.
    Plain,
    /// Compressed, as Prometheus asks.
    Gzip,
}

/// The costs of one scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    /// CPU time of all threads, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// From the request to the last byte, in nanoseconds.
    pub(super) wall_ns: u64,
    /// Length of the body.
    pub(super) bytes: usize,
    /// Number of container samples; 0 for a compressed body.
    pub(super) samples: usize,
    /// Duration of all collectors according to the exporter, in nanoseconds; 0 for a compressed body.
    pub(super) collected_ns: u64,
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// Peak since the start.
    pub(super) peak: u64,
}

/// A running exporter, with one connection and one buffer for every answer.
#[derive(Debug)]
pub(super) struct Target {
    process: u32,
    /// `HOST:PORT`.
    pub(super) address: String,
    path: String,
    /// Whether the connection stays open between requests, as Prometheus keeps it. Otherwise each request is HTTP/1.0 with its
    /// own connection, whose answer is not chunked.
    keeps_connection: bool,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Target {
    pub(super) fn new(process: u32, address: String, path: String, keeps_connection: bool) -> Self {
        Self { process, address, path, keeps_connection, stream: None, answer: Vec::new() }
    }

    /// Scrapes once, and returns the costs.
    pub(super) fn scrape(&mut self, coding: Coding) -> anyhow::Result<Scrape> {
        if self.keeps_connection && self.stream.is_none() {
            self.stream = Some(self.connect()?);
        }
        let before = self.cpu_ns()?;
        let start = Instant::now();
        let path = self.path.clone();
        let body = self.get(&path, coding).with_context(|| format!("the exporter at {}", self.address))?;
        let wall = start.elapsed();
        sleep(REST);
        let cpu_ns = self.cpu_ns()?.saturating_sub(before);
        let body = self.answer.get(body..).unwrap_or_default();
        Ok(Scrape {
            cpu_ns,
            wall_ns: u64::try_from(wall.as_nanos())?,
            bytes: body.len(),
            samples: samples(body),
            collected_ns: collected_ns(body),
        })
    }

    /// Fails unless the exporter answers a request for `path` with 200.
    pub(super) fn answers(&mut self, path: &str) -> anyhow::Result<()> {
        self.stream = None;
        self.get(path, Coding::Plain).map(drop)
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Requests `path` and reads the whole answer. Returns the offset of the body in the buffer.
    fn get(&mut self, path: &str, coding: Coding) -> anyhow::Result<usize> {
        let mut stream = self.stream.take().map_or_else(|| self.connect(), Ok)?;
        let version = if self.keeps_connection { "1.1" } else { "1.0" };
        let accepts = if coding == Coding::Gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        write!(stream, "GET {path} HTTP/{version}\r\nHost: {}\r\n{accepts}\r\n", self.address)?;
        self.answer.clear();
        let mut head = None;
        while !head.is_some_and(|(body, length): (usize, Option<usize>)| {
            length.is_some_and(|length| self.answer.len() >= body + length)
        }) {
            let before = self.answer.len();
            self.answer.resize(before + 256 * 1024, 0);
            let read = stream.read(self.answer.get_mut(before..).unwrap_or_default())?;
            self.answer.truncate(before + read);
            if read == 0 {
                ensure!(matches!(head, Some((_, None))), "it closed the connection within its answer");
                break;
            }
            if head.is_none() {
                head = parse_head(&self.answer)?;
            }
        }
        self.stream = Some(stream).filter(|_| self.keeps_connection);
        Ok(head.map_or(0, |(body, _)| body))
    }

    /// Returns the CPU time of all threads so far in nanoseconds, which is exact while they sleep.
    pub(super) fn cpu_ns(&self) -> anyhow::Result<u64> {
        let tasks = format!("/proc/{}/task", self.process);
        let mut total = 0;
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            // The time of a thread that has just ended is lost.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            total += text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat")?;
        }
        Ok(total)
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let file = format!("/proc/{}/status", self.process);
        let status = fs::read_to_string(&file).context(file)?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
            let kilobytes: u64 = line.trim_end_matches("kB").trim().parse().with_context(|| name.to_owned())?;
            anyhow::Ok(kilobytes * 1024)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Returns the number of open descriptors.
    pub(super) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process))?.count())
    }
}

/// Returns the offset of the body and its length, if the head names it. Returns `None` while the head is incomplete.
fn parse_head(answer: &[u8]) -> anyhow::Result<Option<(usize, Option<usize>)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("it answers {status:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map(|length| length.trim().parse()).transpose().context("content-length")?;
    Ok(Some((end + 4, length)))
}

fn samples(body: &[u8]) -> usize {
    body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count()
}

/// Returns the sum of the collectors' durations in nanoseconds.
fn collected_ns(body: &[u8]) -> u64 {
    let name = b"docker_stats_exporter_scrape_collector_duration_seconds{";
    let lines = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(name));
    let seconds = lines.filter_map(|line| std::str::from_utf8(line).ok()?.rsplit_once(' ')?.1.parse::<f64>().ok());
    Duration::from_secs_f64(seconds.sum()).as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::parse_head;

    #[test]
    fn only_the_body_of_a_good_answer_counts() {
        assert_eq!(parse_head(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nup 1\n").unwrap(), Some((30, None)));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap(), Some((38, Some(5))));
        assert!(parse_head(b"HTTP/1.0 503 Busy\r\n\r\n").unwrap_err().to_string().contains("503"));
        assert!(parse_head(b"HTTP/1.0 200 OK\r\nServer").unwrap().is_none());
    }
}
