//! Another exporter that runs on this host, such as cAdvisor, for a comparison in one run: `--peer URL --peer-pid PID`.

use std::thread::sleep;

use anyhow::Context;

use super::exporter::{Exporter, Setup};
use super::figures::{PACE, Scrapes, WARM_UP, per_second};
use super::target::{Coding, Memory, Target};

/// Scrapes of each.
const SCRAPES: usize = 12;

/// Who is compared, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    authority: String,
    path: String,
    process: u32,
}

/// This exporter as it comes, and the other, in turns.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) ours: Side,
    pub(super) other: Side,
}

/// One of two exporters.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) scrapes: Scrapes,
    /// CPU time per second between scrapes, in nanoseconds.
    pub(super) idle: u64,
    pub(super) memory: Memory,
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

    /// Scrapes both, each after one of the other, and then leaves both alone for a while. What the other exporter does by
    /// itself meanwhile counts as part of its scrapes and of its rest alike.
    pub(super) fn compare(&self, setup: &Setup<'_>) -> anyhow::Result<Comparison> {
        let mut ours = Exporter::start(setup)?;
        let mut other = Target::new(self.process, self.authority.clone(), self.path.clone(), false);
        let (mut our_scrapes, mut other_scrapes) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + SCRAPES {
            let (our, their) = (ours.target.scrape(Coding::Plain)?, other.scrape(Coding::Plain)?);
            if round >= WARM_UP {
                our_scrapes.push(our);
                other_scrapes.push(their);
            }
        }
        let before = (ours.target.cpu_ns()?, other.cpu_ns()?);
        sleep(PACE);
        let side = |target: &Target, before, scrapes: &[_]| {
            let idle = per_second(before, target.cpu_ns()?);
            anyhow::Ok(Side { scrapes: Scrapes::of(scrapes), idle, memory: target.memory()? })
        };
        Ok(Comparison {
            ours: side(&ours.target, before.0, &our_scrapes)?,
            other: side(&other, before.1, &other_scrapes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn an_address_is_taken_apart() {
        let whole = Peer::parse("http://127.0.0.1:8080/metrics?x=1", "7").unwrap();
        assert_eq!(whole, Peer { authority: "127.0.0.1:8080".into(), path: "/metrics?x=1".into(), process: 7 });
        let short = Peer::parse("http://localhost", "7").unwrap();
        assert_eq!((short.authority.as_str(), short.path.as_str()), ("localhost:80", "/metrics"));
        assert!(Peer::parse("https://localhost", "7").unwrap_err().to_string().contains("http://"));
        assert!(Peer::parse("http://localhost", "x").unwrap_err().to_string().contains("--peer-pid x"));
    }
}
