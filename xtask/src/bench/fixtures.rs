//! The containers that are measured: cgroups that the benchmark makes, or with `--docker` real containers of the engine that `docker`
//! talks to. They are removed however the benchmark ends.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::cgroups::{self, Cgroups};
use crate::sh::{self, say};

/// The host's cgroup root. Its other containers are read, too, by the exporters and by the baseline.
pub(super) const CGROUPS: &str = cgroups::ROOT;

/// The containers of a run.
#[derive(Debug)]
pub(super) struct Fixtures {
    pub(super) containers: Kind,
    /// Dropped last, after the processes.
    _cleanup: Cleanup,
}

/// The kind of the containers.
#[derive(Debug)]
pub(super) enum Kind {
    /// Cgroups that the benchmark makes.
    Cgroups(Cgroups),
    /// Containers of an engine.
    Docker(Containers),
}

impl Fixtures {
    /// No containers yet. Removes what an earlier run has left.
    pub(super) fn new(docker: bool) -> anyhow::Result<Self> {
        let cleanup = Cleanup::start(docker)?;
        let containers = if docker { Kind::Docker(Containers::new()?) } else { Kind::Cgroups(Cgroups::new()?) };
        Ok(Self { containers, _cleanup: cleanup })
    }

    /// Adds containers up to `size`.
    pub(super) fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        match &mut self.containers {
            Kind::Cgroups(cgroups) => cgroups.grow(size),
            Kind::Docker(containers) => containers.grow(size),
        }
    }

    /// Stops each of them for a moment and lets it go on: the kernel has something to add up for each.
    pub(super) fn touch(&self) -> anyhow::Result<()> {
        match &self.containers {
            Kind::Cgroups(cgroups) => cgroups.touch(),
            Kind::Docker(containers) => containers.touch(),
        }
    }
}

/// Name of the image and label of the containers.
const MARK: &str = "docker-stats-bench";
/// The static program that the image consists of.
const BUSYBOX: &str = "/bin/busybox";

/// Real containers. They have names, an image, a network and limits, and the engine sends events, as on a real host.
#[derive(Debug)]
pub(super) struct Containers {
    count: usize,
}

impl Containers {
    /// Imports the image. There are no containers yet.
    fn new() -> anyhow::Result<Self> {
        import_image()?;
        Ok(Self { count: 0 })
    }

    /// Adds containers up to `size`.
    fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.count < size {
            let name = name(self.count);
            let options = ["--detach", "--label", MARK, "--memory=64m", "--cpus=0.5", "--name", &name];
            docker(&[&["run"], options.as_slice(), &[MARK, "sleep", "1d"]].concat())?;
            self.count += 1;
        }
        say(&format!("{size} containers of the engine, {:.0} s", start.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Stops each of them for a moment and lets it go on.
    fn touch(&self) -> anyhow::Result<()> {
        let names: Vec<String> = (0..self.count).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for signal in ["--signal=STOP", "--signal=CONT"] {
            docker(&[&["kill", signal], names.as_slice()].concat())?;
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("{MARK}-{number}")
}

/// Removes all containers of a benchmark.
fn remove_containers() -> anyhow::Result<()> {
    let ids = docker(&["ps", "--all", "--quiet", "--filter", &format!("label={MARK}")])?;
    let ids: Vec<&str> = ids.lines().collect();
    ids.chunks(50).try_for_each(|some| docker(&[&["rm", "--force"], some].concat()).map(drop))
}

fn import_image() -> anyhow::Result<()> {
    if docker(&["image", "inspect", MARK]).is_ok() {
        return Ok(());
    }
    ensure!(Path::new(BUSYBOX).exists(), "{BUSYBOX} is missing: apt-get install busybox-static");
    let pack = "tar --create --directory=/ --transform=s,bin/busybox,bin/sleep, bin/busybox";
    sh::output(Command::new("sh").args(["-c", &format!("{pack} | docker import - {MARK}")])).map(drop)
}

fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    sh::output(Command::new("docker").args(arguments)).context("the engine's client is in the package docker-cli")
}

/// A process outside of this process group that waits for the end of the benchmark, SIGKILL included, and removes what it has made.
#[derive(Debug)]
struct Cleanup(Child);

impl Cleanup {
    /// Starts the process, and removes what an earlier run has left: containers of the engine, or else cgroups.
    fn start(docker: bool) -> anyhow::Result<Self> {
        let lock = lock()?;
        remove(docker)?;
        let program = std::env::current_exe().context("cannot find our own binary")?;
        let process = Command::new(program)
            .args(["bench", "cleanup", if docker { "containers" } else { "cgroups" }])
            .stdin(Stdio::piped())
            // The lock goes with the last who holds the file: no other benchmark starts before all is removed.
            .stdout(lock)
            .process_group(0)
            .spawn()
            .context("cannot start the process that cleans up")?;
        Ok(Self(process))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        match self.0.wait() {
            Ok(status) if status.success() => {}
            outcome => say(&format!("what was made may not all be removed: {outcome:?}")),
        }
    }
}

/// The code of the process: waits until the benchmark has ended, then removes everything.
pub(super) fn clean_up_at_end(what: &str) -> anyhow::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end")?;
    remove(what == "containers")
}

fn remove(docker: bool) -> anyhow::Result<()> {
    if docker { remove_containers() } else { cgroups::remove_all() }
}

/// Locks out other benchmarks, whose cgroups would be removed as leftovers.
fn lock() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("docker-stats-bench.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.try_lock().with_context(|| format!("another benchmark runs on this host: it holds {}", path.display()))?;
    Ok(file)
}
