//! The built exporter, started on a free port and stopped with SIGTERM. Called by every end-to-end test.

mod binary;
mod builder;

pub use binary::binary;
pub use builder::Builder;

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::NamedTempFile;

use crate::exposition::{Exposition, Format};
use crate::http::{self, Response};
use crate::wait::eventually;
use crate::{Engine, judges};

/// What Prometheus asks for first.
pub const OPENMETRICS: &str =
    "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Ports below those that the kernel chooses from.
const PORTS: Range<u16> = 10_000..20_000;

/// A running exporter. It is killed when the value goes; tests of the end call [`Exporter::stop`].
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

    /// Has it run short of descriptors: it may open so many more and no others while `during` lasts.
    ///
    /// # Errors
    /// It is gone, or `during` says no.
    pub fn with_descriptors_left<T>(&self, left: u64, during: impl FnOnce() -> Result<T>) -> Result<T> {
        let pid = Pid::from_child(&self.child);
        let open = read_dir(format!("/proc/{}/fd", self.pid()))?;
        let open: Result<BTreeSet<u64>> = open.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?)).collect();
        let open = open?;
        let free = (0..).filter(|number| !open.contains(number)).nth(usize::try_from(left)?);
        // It has the hard limit from us.
        let few = Rlimit { current: free, ..getrlimit(Resource::Nofile) };
        let usual = prlimit(Some(pid), Resource::Nofile, few)?;
        let result = during();
        prlimit(Some(pid), Resource::Nofile, usual)?;
        result
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

/// A loopback port that nobody listens on. Ports are not given twice in one process, and none is of the range that the
/// kernel gives to whoever asks for any: between this and the bind, nobody else on the host may get it.
///
/// # Errors
/// All are in use.
pub fn free_address() -> Result<SocketAddr> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        // Processes that run beside each other begin at different ports.
        let turn = GIVEN.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = PORTS.start + u16::try_from(turn % u32::from(PORTS.end - PORTS.start))?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port of {PORTS:?} is free")
}
