//! The exporter as it is shipped: the static binary of the profile `dist`, in a process of its own.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::fixtures::CGROUPS;
use super::target::Target;
use crate::compiler;

/// A socket at which nobody listens: names are not what is measured.
const NO_ENGINE: &str = "unix:///nonexistent/docker-stats-bench.sock";
const PATIENCE: Duration = Duration::from_mins(1);

/// A running exporter; it ends with the value.
#[derive(Debug)]
pub(super) struct Exporter {
    process: Child,
    pub(super) target: Target,
}

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    /// Whether it asks the engine of `DOCKER_HOST`; else none.
    pub(super) names: bool,
    /// Flags of the read path that is measured.
    pub(super) read_path: &'a [&'a str],
    /// What the command line adds for every exporter.
    pub(super) flags: &'a [String],
    /// Its limit of open files, where that is not ours.
    pub(super) descriptors: Option<u64>,
}

impl Exporter {
    /// Starts it and waits until it is ready.
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

/// Becomes `program`, which then ends with the process that started us; with a limit of open files unless that is `own`.
pub(super) fn become_bound(limit: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot bind the exporter to the benchmark")?;
    if let Ok(limit) = limit.parse() {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(Resource::Nofile, limit).context("cannot lower the limit of open files")?;
    }
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program}"))
}
