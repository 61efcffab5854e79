//! The built exporter, started on a free port and stopped with SIGTERM. Called by every end-to-end test.

use std::fs::{File, read_to_string};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::exposition::{Exposition, Format};
use crate::http::{self, Response};
use crate::wait::eventually;
use crate::{Engine, judges};

/// What Prometheus asks for first.
pub const OPENMETRICS: &str =
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// How to start an exporter.
#[derive(Default)]
pub struct Builder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    docker: Option<String>,
    open_files: Option<u32>,
    without_capabilities: bool,
    hidden: Option<String>,
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

    /// Lets it see an empty directory in the place of this one. Everyone else sees what is there.
    #[must_use]
    pub fn hide(mut self, directory: &str) -> Self {
        self.hidden = Some(directory.to_owned());
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
        let address = free_address()?;
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
        let mut command = match (self.open_files, &self.hidden, self.without_capabilities) {
            (Some(limit), ..) => limited(&binary()?, limit),
            (None, Some(directory), _) => blindfolded(&binary()?, directory),
            (None, None, true) => powerless(&binary()?),
            (None, None, false) => Command::new(binary()?),
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
}

/// A running exporter. It is killed when the value goes; tests that look at the end call [`Exporter::stop`].
pub struct Exporter {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: NamedTempFile,
}

impl Exporter {
    /// Says how to start one.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One that names this engine's containers, with nothing else set.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn with(engine: &Engine) -> Result<Self> {
        Self::builder().docker(engine).start()
    }

    fn ready(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}");
        }
        let response = http::get(self.address, "/readyz", &[])?;
        ensure!(response.status == 200, "/readyz: {} {}", response.status, response.text()?);
        Ok(())
    }

    /// `GET path`.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        http::get(self.address, path, headers)
    }

    /// One scrape in text 0.0.4, shown to all judges.
    ///
    /// # Errors
    /// Anything but 200 and a faultless exposition.
    pub fn scrape(&self) -> Result<Exposition> {
        self.scrape_path("/metrics", Format::Text)
    }

    /// One scrape in OpenMetrics 1.0.0, shown to all judges.
    ///
    /// # Errors
    /// As [`Exporter::scrape`].
    pub fn scrape_openmetrics(&self) -> Result<Exposition> {
        self.scrape_path("/metrics", Format::OpenMetrics)
    }

    /// One scrape of a path with a query, shown to all judges.
    ///
    /// # Errors
    /// As [`Exporter::scrape`].
    pub fn scrape_path(&self, path: &str, format: Format) -> Result<Exposition> {
        let exposition = self.scrape_unjudged(path, format)?;
        judges::judge(&exposition, format)?;
        Ok(exposition)
    }

    /// One scrape that our own parser reads alone: for storms, where the judges would be the slowest part.
    ///
    /// # Errors
    /// Anything but 200, the content type and an exposition that parses.
    pub fn scrape_unjudged(&self, path: &str, format: Format) -> Result<Exposition> {
        let (accept, expected) = match format {
            Format::Text => ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
            Format::OpenMetrics => (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        };
        let response = self.get(path, &[("Accept", accept)])?;
        ensure!(response.status == 200, "{path}: {} {}", response.status, response.text()?);
        let kind = response.header("content-type").unwrap_or_default();
        ensure!(kind.starts_with(expected), "content-type {kind:?}, expected {expected:?}");
        Exposition::parse(&response.text()?, format)
    }

    /// Scrapes until `probe` is content.
    ///
    /// # Errors
    /// After `limit`, with what `probe` said last; a faulty exposition at once is no reason to stop waiting, but the
    /// message will tell.
    pub fn scrape_until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut probe: impl FnMut(&Exposition) -> Result<T>,
    ) -> Result<T> {
        eventually(limit, what, || probe(&self.scrape()?))
    }

    /// What it logged so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("signal to the exporter")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It lives on after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        eventually(limit, "the exporter to end", || child.try_wait()?.ok_or_else(|| anyhow!("it runs")))
    }

    /// Stops it as a service manager would and gives what it logged.
    ///
    /// # Errors
    /// It does not end within 6 s, or not with exit code 0, or a panic is in the log.
    pub fn stop(mut self) -> Result<String> {
        self.signal(Signal::TERM)?;
        let status = self.wait(Duration::from_secs(6))?;
        let log = self.stderr();
        ensure!(status.success(), "{status} after SIGTERM; it said: {log}");
        ensure!(!log.contains("panicked"), "a panic: {log}");
        Ok(log)
    }
}

impl Drop for Exporter {
    #[expect(clippy::print_stderr, reason = "the test runner shows what a failed test has printed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the exporter at {} said:\n{}", self.address, self.stderr());
        }
        // Both fail where it has ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
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

/// A loopback port that nobody listens on. Ports are not handed out twice in one process.
///
/// # Errors
/// The kernel has none left.
pub fn free_address() -> Result<SocketAddr> {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if !given.contains(&address.port()) {
            given.push(address.port());
            return Ok(address);
        }
    }
}

/// The binary: `EXPORTER_BIN`, else built once with the cargo that runs the tests.
///
/// # Errors
/// It does not build.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| match std::env::var_os("EXPORTER_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    binary.clone().map_err(|error| anyhow!("the exporter does not build: {error}"))
}

fn build() -> Result<PathBuf> {
    let started = Instant::now();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let log = NamedTempFile::new()?;
    let mut command = Command::new(cargo);
    // What cargo says of this package would make build scripts of others run again, and their crates be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .args(["build", "--quiet", "--package=docker-stats-exporter", "--bin=docker-stats-exporter"])
        .args(["--message-format=json", "--manifest-path"])
        .arg(manifest)
        .stderr(File::create(log.path())?)
        .output()
        .context("cargo")?;
    ensure!(
        output.status.success(),
        "{} after {:?}: {}",
        output.status,
        started.elapsed(),
        read_to_string(log.path())?
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifact = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    artifact.context("cargo named no executable")
}
