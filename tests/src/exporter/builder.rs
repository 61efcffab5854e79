//! How an exporter is started.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::{Exporter, binary, free_address};
use crate::Engine;
use crate::wait::eventually;

/// How to start an exporter.
#[derive(Default)]
pub struct Builder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    docker: Option<String>,
    open_files: Option<u32>,
    without_capabilities: bool,
    hidden: Option<String>,
    wrapper: Vec<String>,
    address: Option<SocketAddr>,
}

impl Builder {
    /// Lets it have at most so many open files.
    #[must_use]
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Takes every capability from it, though it stays root: what is root's by file permission it may still read.
    #[must_use]
    pub fn without_capabilities(mut self) -> Self {
        self.without_capabilities = true;
        self
    }

    /// Lets it see an empty directory instead of this one. Everyone else sees what is there.
    #[must_use]
    pub fn hide(mut self, directory: &str) -> Self {
        self.hidden = Some(directory.to_owned());
        self
    }

    /// Has this command start it, with the program as its last argument but for the flags.
    #[must_use]
    pub fn started_by(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Lets it listen here: where another one has listened before.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Adds a flag, as `--flag=value`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.arguments.push(flag.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Names this engine's containers; without it there is no engine.
    #[must_use]
    pub fn docker(mut self, engine: &Engine) -> Self {
        self.docker = Some(engine.host().to_owned());
        self
    }

    /// As [`Builder::docker`], for any URL.
    #[must_use]
    pub fn docker_url(mut self, url: &str) -> Self {
        self.docker = Some(url.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It does not build, does not start or does not become ready; the message holds what it said.
    pub fn start(self) -> Result<Exporter> {
        let address = self.address.map_or_else(free_address, Ok)?;
        let log = NamedTempFile::new()?;
        let mut command = self.command(Some(address))?;
        let child = command.stderr(log.reopen()?).spawn().with_context(|| format!("{command:?}"))?;
        let mut exporter = Exporter { address, child, log };
        eventually(Duration::from_secs(10), "the exporter to be ready", || exporter.ready())
            .with_context(|| format!("{command:?} said: {}", exporter.stderr()))?;
        Ok(exporter)
    }

    /// Runs it to its end, for command lines that are not to serve.
    ///
    /// # Errors
    /// It does not build or start.
    pub fn output(self) -> Result<std::process::Output> {
        let mut command = self.command(None)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().with_context(|| format!("{command:?}"))
    }

    /// The command line. Nothing of the test's own environment gets in but `PATH`.
    fn command(&self, listen: Option<SocketAddr>) -> Result<Command> {
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary()?);
                command
            }
            None => self.unwrapped()?,
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(address) = listen {
            command.arg(format!("--web.listen-address={address}"));
            // Never this machine's engine by accident.
            let docker = self.docker.as_deref().unwrap_or("unix:///nonexistent/docker.sock");
            command.arg(format!("--docker.url={docker}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn unwrapped(&self) -> Result<Command> {
        Ok(match (self.open_files, &self.hidden, self.without_capabilities) {
            (Some(limit), ..) => limited(&binary()?, limit),
            (None, Some(directory), _) => blindfolded(&binary()?, directory),
            (None, None, true) => powerless(&binary()?),
            (None, None, false) => Command::new(binary()?),
        })
    }
}

/// A shell that lowers its own limit and becomes the program: the signals that it gets are the program's.
fn limited(program: &Path, open_files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {open_files} && exec \"$@\""), "sh"]).arg(program);
    command
}

/// The program with no capability left, and none to be had.
fn powerless(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(program);
    command
}

/// The program in a mount namespace of its own.
fn blindfolded(program: &Path, directory: &str) -> Command {
    let mut command = Command::new("unshare");
    let hide = "mount -t tmpfs none \"$1\" && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", hide, "sh", directory]).arg(program);
    command
}
