//! The exporters that are measured: this one, as the static binary of the profile `dist`, and for a comparison another one that runs
//! on this host, such as cAdvisor (`--peer URL --peer-pid PID`).

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::figures::{PACE, Scrapes, WARM_UP, per_second};
use super::fixtures::CGROUPS;
use super::target::{Coding, Memory, Target};
use crate::compiler;

/// A socket that does not exist, because names are not measured.
const NO_ENGINE: &str = "unix:///nonexistent/docker-stats-bench.sock";
const PATIENCE: Duration = Duration::from_mins(1);

/// A running exporter, which is killed when the value is dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    process: Child,
    pub(super) target: Target,
}

/// The settings of an exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    /// Whether it asks the engine of `DOCKER_HOST` for names.
    pub(super) names: bool,
    /// Flags of the measured read path.
    pub(super) read_path: &'a [&'a str],
    /// Further flags of the command line.
    pub(super) flags: &'a [String],
    /// Limit of open files; `None` for this process's own.
    pub(super) descriptors: Option<u64>,
}

impl Exporter {
    /// Starts an exporter and waits until it is ready.
    pub(super) fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let address = listener.local_addr()?.to_string();
        drop(listener);
        let own = std::env::current_exe().context("cannot find our own binary")?;
        let limit = setup.descriptors.map_or_else(|| "own".to_owned(), |limit| limit.to_string());
        let process = Command::new(own)
            .args(["bench", "bound", &limit])
            .arg(compiler::program_here()?)
            .args(["--log.level=error", "--source=cgroup", "--path.cgroup", CGROUPS])
            .args(setup.read_path)
            .args(setup.flags)
            .arg(format!("--web.listen-address={address}"))
            .args((!setup.names).then(|| format!("--docker.url={NO_ENGINE}")))
            .spawn()
            .context("cannot start the exporter")?;
        let target = Target::new(process.id(), address, "/metrics".to_owned(), true);
        let mut exporter = Self { process, target };
        exporter.wait_until_ready()?;
        Ok(exporter)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while let Err(error) = self.target.answers("/readyz") {
            if let Some(status) = self.process.try_wait()? {
                bail!("the exporter ended with {status}");
            }
            if start.elapsed() > PATIENCE {
                return Err(error.context("the exporter does not get ready"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            crate::sh::say(&format!("the exporter cannot be ended: {error}"));
        }
    }
}

/// Executes `program`, which then ends with the parent process. `limit` is its limit of open files, or `own`.
pub(super) fn become_bound(limit: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot bind the exporter to the benchmark")?;
    if let Ok(limit) = limit.parse() {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Nofile, limit).context("cannot lower the limit of open files")?;
    }
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program}"))
}

/// Number of scrapes of each exporter in a comparison.
const SCRAPES: usize = 12;

/// The other exporter of a comparison, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    authority: String,
    path: String,
    process: u32,
}

/// The figures of this exporter with default flags, and of the other one.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) ours: Side,
    pub(super) other: Side,
}

/// The figures of one exporter in a comparison.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) scrapes: Scrapes,
    /// CPU time per second between scrapes, in nanoseconds.
    pub(super) idle: u64,
    pub(super) memory: Memory,
}

impl Peer {
    /// Parses the address of its metrics and its process id.
    pub(super) fn parse(url: &str, process: &str) -> anyhow::Result<Self> {
        let rest =
            url.strip_prefix("http://").with_context(|| format!("--peer {url}: an http:// address is wanted"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let process = process.parse().with_context(|| format!("--peer-pid {process}: a number is wanted"))?;
        Ok(Self { authority, path: format!("/{path}"), process })
    }

    /// Scrapes both exporters in turns, and then measures both at rest. Background work of the other exporter counts as part
    /// of its scrapes and of its rest.
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
