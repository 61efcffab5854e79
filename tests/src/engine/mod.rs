//! A Docker engine for tests: one that runs already (`DOCKER_HOST`, else `/var/run/docker.sock`), else a private
//! `dockerd` that all tests of a run share, else one of the test's own where the test stops or freezes it.

mod daemon;
pub(crate) mod image;
mod shared;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::wait::eventually;
use daemon::Daemon;

/// An engine that answers, with the test image in it.
pub struct Engine {
    /// `unix:///…` or `tcp://…`, as `DOCKER_HOST` wants it.
    host: String,
    /// Present where the engine is this test's own.
    own: Option<Own>,
}

struct Own {
    daemon: Daemon,
    // Dropped after the daemon, which keeps its state there.
    _directory: TempDir,
}

impl Engine {
    /// The engine of this test run: found, or started once and stopped a few seconds after the last test.
    ///
    /// # Errors
    /// Nothing answers and none can be started; the message names the package or the right that is missing.
    pub fn shared() -> Result<&'static Self> {
        static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| Self::find_or_start().map_err(|error| format!("{error:#}")));
        engine.as_ref().map_err(|error| anyhow!("no Docker engine: {error}"))
    }

    /// An engine of the test's own, which may be stopped, started, frozen and thawed. It ends with the value.
    ///
    /// # Errors
    /// As [`Engine::shared`].
    pub fn private() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("dse-engine-").tempdir()?;
        let daemon = Daemon::start(directory.path(), daemon::Until::StdinCloses)?;
        let mut engine = Self::prepare(daemon.host())?;
        engine.own = Some(Own { daemon, _directory: directory });
        Ok(engine)
    }

    fn find_or_start() -> Result<Self> {
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            ping(&host).context("the engine that DOCKER_HOST names")?;
            return Self::prepare(host);
        }
        let usual = "unix:///var/run/docker.sock";
        if ping(usual).is_ok() {
            return Self::prepare(usual.to_owned());
        }
        Self::prepare(shared::find_or_start()?)
    }

    fn prepare(host: String) -> Result<Self> {
        let engine = Self { host, own: None };
        image::build(&engine.host)?;
        Ok(engine)
    }

    /// As `DOCKER_HOST` and `--docker.url` want it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The image that tests run: busybox and nothing else.
    #[must_use]
    pub fn image(&self) -> &'static str {
        image::NAME
    }

    /// A `docker` command line for this engine.
    #[must_use]
    pub fn command(&self) -> Command {
        command(&self.host)
    }

    /// Runs the docker CLI.
    ///
    /// # Errors
    /// The CLI is missing or says no; the message holds what it said.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        run(command.args(arguments))
    }

    /// A name for a container that no other test has.
    #[must_use]
    pub fn unique(what: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        format!("dse-{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Stops the daemon; its containers end with it.
    ///
    /// # Errors
    /// The engine is not this test's own.
    pub fn stop(&mut self) -> Result<()> {
        self.own()?.daemon.stop()
    }

    /// Kills the daemon; its containers live on, as with [`Engine::stop`].
    ///
    /// # Errors
    /// The engine is not this test's own.
    pub fn kill(&mut self) -> Result<()> {
        self.own()?.daemon.signal(rustix::process::Signal::KILL)
    }

    /// Starts the stopped or killed daemon again.
    ///
    /// # Errors
    /// It is not this test's own, or does not come up.
    pub fn start(&mut self) -> Result<()> {
        self.own()?.daemon.restart()
    }

    /// Freezes the daemon (SIGSTOP): connections are taken by the kernel, and nobody answers.
    ///
    /// # Errors
    /// The engine is not this test's own.
    pub fn freeze(&mut self) -> Result<()> {
        self.own()?.daemon.signal(rustix::process::Signal::STOP)
    }

    /// Lets the frozen daemon go on.
    ///
    /// # Errors
    /// The engine is not this test's own.
    pub fn thaw(&mut self) -> Result<()> {
        self.own()?.daemon.signal(rustix::process::Signal::CONT)
    }

    fn own(&mut self) -> Result<&mut Own> {
        self.own.as_mut().context("this engine is shared: a test that stops it must use Engine::private()")
    }

    /// Path of the engine's socket, where it has one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.host.strip_prefix("unix://").map(PathBuf::from)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            // Nobody can be told from a drop, and the test's own result matters more.
            own.daemon.end().unwrap_or_default();
        }
    }
}

/// Asks the engine for its version.
fn ping(host: &str) -> Result<String> {
    run(command(host).args(["version", "--format", "{{.Server.Version}}"]))
}

/// Waits for an engine that is coming up.
fn await_answer(host: &str) -> Result<()> {
    eventually(Duration::from_mins(1), "the engine to answer", || ping(host).map(drop))
}

/// A `docker` command line for the engine at this `DOCKER_HOST`.
pub(crate) fn command(host: &str) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
    command
}

/// Runs a command and gives its stdout without the last newline.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no `{program}` here: apt-get install docker.io (or docker-cli for the client alone)")
        }
        Err(error) => return Err(error).context(program),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let arguments = command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ");
    ensure!(output.status.success(), "{program} {arguments}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
