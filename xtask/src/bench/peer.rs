//! Another exporter that runs on this host, for a comparison in one run: `--peer URL --peer-pid PID`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::exporter::{Memory, REST, Scrape, cpu_ns, memory, samples};

/// However slow it is.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who is compared, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    authority: String,
    path: String,
    process: u32,
}

impl Peer {
    /// Of the address of its metrics, and the number of its process.
    pub(super) fn parse(url: &str, process: &str) -> anyhow::Result<Self> {
        let rest =
            url.strip_prefix("http://").with_context(|| format!("--peer {url}: an http:// address is wanted"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let process = process.parse().with_context(|| format!("--peer-pid {process}: a number is wanted"))?;
        Ok(Self { authority, path: format!("/{path}"), process })
    }

    /// One scrape, and what it took. It is asked on a connection of its own and as HTTP/1.0, which every server answers in
    /// one piece.
    pub(super) fn scrape(&self) -> anyhow::Result<Scrape> {
        let before = self.cpu_ns()?;
        let start = Instant::now();
        let answer = self.get().with_context(|| format!("the peer at {}", self.authority))?;
        let wall = start.elapsed();
        sleep(REST);
        let cpu_ns = self.cpu_ns()?.saturating_sub(before);
        let body = body(&answer)?;
        Ok(Scrape { cpu_ns, wall, bytes: body.len(), samples: samples(body), collected_ns: 0 })
    }

    fn get(&self) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.authority)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.authority)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// CPU time of all its threads so far.
    pub(super) fn cpu_ns(&self) -> anyhow::Result<u64> {
        cpu_ns(self.process)
    }

    /// Its resident memory.
    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        memory(self.process)
    }
}

fn body(answer: &[u8]) -> anyhow::Result<&[u8]> {
    let first = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = String::from_utf8_lossy(first);
    ensure!(status.split(' ').nth(1) == Some("200"), "the peer answers {status:?}");
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        bail!("the peer's answer ends in its head")
    };
    Ok(answer.get(end + 4..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Peer, body};

    #[test]
    fn an_address_is_taken_apart() {
        let whole = Peer::parse("http://127.0.0.1:8080/metrics?x=1", "7").unwrap();
        assert_eq!(whole, Peer { authority: "127.0.0.1:8080".into(), path: "/metrics?x=1".into(), process: 7 });
        let short = Peer::parse("http://localhost", "7").unwrap();
        assert_eq!((short.authority.as_str(), short.path.as_str()), ("localhost:80", "/metrics"));
        assert!(Peer::parse("https://localhost", "7").unwrap_err().to_string().contains("http://"));
        assert!(Peer::parse("http://localhost", "x").unwrap_err().to_string().contains("--peer-pid x"));
    }

    #[test]
    fn only_the_body_of_a_good_answer_counts() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nup 1\n").unwrap(), b"up 1\n");
        assert!(body(b"HTTP/1.0 503 Busy\r\n\r\n").unwrap_err().to_string().contains("503"));
        assert!(body(b"HTTP/1.0 200 OK\r\nServer").is_err());
    }
}
