//! The exporter as it is shipped: the static binary of the profile `dist` in a process of its own, seen from outside through `/proc`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::client::{Client, Coding};
use crate::image::host_target;

/// A socket at which nobody listens: names are not what is measured.
const NO_ENGINE: &str = "unix:///nonexistent/docker-stats-bench.sock";
const PATIENCE: Duration = Duration::from_mins(1);
/// What a thread needs to go to sleep after its last byte, so that its time is accounted.
pub(super) const REST: Duration = Duration::from_millis(4);

/// A running exporter.
#[derive(Debug)]
pub(super) struct Exporter {
    process: Child,
    address: String,
}

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    pub(super) root: &'a Path,
    /// Whether it asks the engine of `DOCKER_HOST`; else none.
    pub(super) names: bool,
    /// Flags of the way of reading that is measured.
    pub(super) way: &'a [&'a str],
    /// What the command line adds for every exporter.
    pub(super) flags: &'a [String],
    /// Its limit of open files, where that is not ours.
    pub(super) descriptors: Option<u64>,
}

/// What one scrape took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    /// CPU time of all threads, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// From the request to the last byte.
    pub(super) wall: Duration,
    /// Length of the body.
    pub(super) bytes: usize,
    /// Samples in it; none in a compressed one.
    pub(super) samples: usize,
    /// Of `wall`, what the exporter says it took until all values were there, in nanoseconds; none in a compressed one.
    pub(super) collected_ns: u64,
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Now.
    pub(super) resident: u64,
    /// The most there has ever been.
    pub(super) peak: u64,
}

impl Exporter {
    /// Starts it and waits until it is ready.
    pub(super) fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let own = std::env::current_exe().context("cannot find our own binary")?;
        let limit = setup.descriptors.map_or_else(|| "own".to_owned(), |limit| limit.to_string());
        let process = Command::new(own)
            .args(["bench", "bound", &limit])
            .arg(program()?)
            .args(["--log.level=error", "--source=cgroup"])
            .args(setup.way)
            .args(setup.flags)
            .arg(format!("--web.listen-address={address}"))
            .args((!setup.names).then(|| format!("--docker.url={NO_ENGINE}")))
            .arg("--path.cgroup")
            .arg(setup.root)
            .spawn()
            .context("cannot start the exporter")?;
        let mut exporter = Self { process, address };
        exporter.wait_until_ready()?;
        Ok(exporter)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ready = self.connect().and_then(|mut client| client.get("/readyz", Coding::Plain).map(|_| ()));
            let Err(error) = ready else { return Ok(()) };
            if let Some(status) = self.process.try_wait()? {
                bail!("the exporter ended with {status}");
            }
            if start.elapsed() > PATIENCE {
                return Err(error.context("the exporter does not get ready"));
            }
            sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address).with_context(|| format!("cannot connect to {}", self.address))
    }

    /// One scrape, and what it took.
    pub(super) fn scrape(&self, client: &mut Client, path: &str, coding: Coding) -> anyhow::Result<Scrape> {
        let before = self.cpu_ns()?;
        let (body, wall) = client.get(path, coding)?;
        let bytes = body.len();
        sleep(REST);
        let cpu_ns = self.cpu_ns()?.saturating_sub(before);
        Ok(Scrape { cpu_ns, wall, bytes, samples: samples(body), collected_ns: collected_ns(body) })
    }

    /// CPU time of all its threads so far, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> anyhow::Result<u64> {
        cpu_ns(self.process.id())
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        memory(self.process.id())
    }

    /// Number of open descriptors.
    pub(super) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            crate::sh::say(&format!("the exporter cannot be ended: {error}"));
        }
    }
}

/// Becomes `program`, which then ends with the process that started us; with a limit of open files unless that is `own`.
pub(super) fn become_bound(limit: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot bind the exporter to the benchmark")?;
    if let Ok(limit) = limit.parse() {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Nofile, limit).context("cannot lower the limit of open files")?;
    }
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program}"))
}

/// The binary of the profile `dist`.
fn program() -> anyhow::Result<PathBuf> {
    let own = super::release_directory()?;
    let target = own.parent().context("no target directory")?.join(host_target()?);
    Ok(target.join("dist/docker-stats-exporter"))
}

/// Whether it has a flag.
pub(super) fn has_flag(flag: &str) -> anyhow::Result<bool> {
    let help = Command::new(program()?).arg("--help").output().context("cannot start the exporter")?;
    Ok(String::from_utf8_lossy(&help.stdout).contains(flag))
}

/// Samples of containers in an uncompressed body.
pub(super) fn samples(body: &[u8]) -> usize {
    body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count()
}

/// What all collectors say they took.
fn collected_ns(body: &[u8]) -> u64 {
    let name = b"docker_stats_exporter_scrape_collector_duration_seconds{";
    let lines = body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(name));
    let seconds = lines.filter_map(|line| std::str::from_utf8(line).ok()?.rsplit_once(' ')?.1.parse::<f64>().ok());
    Duration::from_secs_f64(seconds.sum()).as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Resident memory of a process.
pub(super) fn memory(process: u32) -> anyhow::Result<Memory> {
    let file = format!("/proc/{process}/status");
    let status = fs::read_to_string(&file).context(file)?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
        let kilobytes: u64 = line.trim_end_matches("kB").trim().parse().with_context(|| name.to_owned())?;
        anyhow::Ok(kilobytes * 1024)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// CPU time of all threads of a process, in nanoseconds: exact while they sleep.
pub(super) fn cpu_ns(process: u32) -> anyhow::Result<u64> {
    let tasks = format!("/proc/{process}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let file = task?.path().join("schedstat");
        // A thread that has just ended takes its time with it.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let spent: u64 = text.split(' ').next().unwrap_or_default().parse().context("schedstat")?;
        total += spent;
    }
    Ok(total)
}

fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.to_string())
}
