//! Real containers, of the engine that `docker` talks to: with `--docker`.
//!
//! They have names, an image, a network and limits, and an engine that events come from, as on a real host. They are removed by [`remove_all`].

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::sh::say;

/// Name of the image and label of the containers.
const MARK: &str = "docker-stats-bench";
/// The static program that the image consists of.
const BUSYBOX: &str = "/bin/busybox";

/// The containers.
#[derive(Debug)]
pub(super) struct Containers {
    count: usize,
}

impl Containers {
    /// None yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        import_image()?;
        Ok(Self { count: 0 })
    }

    /// Adds containers up to `size`.
    pub(super) fn grow(&mut self, size: usize) -> anyhow::Result<()> {
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
    pub(super) fn touch(&self) -> anyhow::Result<()> {
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
pub(super) fn remove_all() -> anyhow::Result<()> {
    let ids = docker(&["ps", "--all", "--quiet", "--filter", &format!("label={MARK}")])?;
    let ids: Vec<&str> = ids.lines().collect();
    ids.chunks(50).try_for_each(|some| docker(&[&["rm", "--force"], some].concat()).map(drop))
}

fn import_image() -> anyhow::Result<()> {
    if docker(&["image", "inspect", MARK]).is_ok() {
        return Ok(());
    }
    ensure!(Path::new(BUSYBOX).exists(), "{BUSYBOX} is missing: apt-get install busybox-static");
    let mut tar = Command::new("tar")
        .args(["--create", "--directory=/", "--transform=s,bin/busybox,bin/sleep,", "bin/busybox"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let imported = Command::new("docker").args(["import", "-", MARK]).stdin(archive).output();
    let imported = answer("docker import", imported);
    ensure!(tar.wait()?.success(), "tar cannot read {BUSYBOX}");
    imported.map(drop)
}

fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    let what = format!("docker {}", arguments.join(" "));
    answer(&what, Command::new("docker").args(arguments).stdin(Stdio::null()).output())
}

fn answer(what: &str, output: std::io::Result<std::process::Output>) -> anyhow::Result<String> {
    let output = output.with_context(|| format!("cannot start `{what}`: apt-get install docker-cli"))?;
    if !output.status.success() {
        bail!("`{what}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
