//! Podman with storage of its own and its Docker-compatible API on a socket. Called by the tests of several engines; the guest's
//! tests have Podman as the distribution sets it up.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::Engine;
use crate::engine::run;
use crate::wait::eventually;

/// A service of Podman and what it runs; both go with the value.
pub struct Podman {
    service: Child,
    directory: TempDir,
    /// Ids: a test may rename them.
    containers: Vec<String>,
}

impl Podman {
    /// Starts the service, with the image that the tests run with Docker.
    ///
    /// # Errors
    /// There is no Podman, or it does not start; the message holds what it said.
    pub fn start(engine: &Engine) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("dse-podman-").tempdir()?;
        let image = directory.path().join("image").display().to_string();
        engine.docker(&["save", "--output", &image, engine.image()])?;
        let mut command = Self::command(&directory);
        let url = format!("unix://{}", directory.path().join("podman.sock").display());
        command.args(["system", "service", "--time=0", &url]).stdin(Stdio::null());
        let service = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let service = service.context("podman: apt-get install podman")?;
        let podman = Self { service, directory, containers: Vec::new() };
        podman.podman(&["load", "--quiet", "--input", &image])?;
        eventually(Duration::from_mins(1), "Podman's socket", || {
            ensure!(podman.directory.path().join("podman.sock").exists(), "it is not there");
            Ok(())
        })?;
        Ok(podman)
    }

    /// For `--docker.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.directory.path().join("podman.sock").display())
    }

    /// Runs a container that sleeps. Returns its id.
    ///
    /// # Errors
    /// What Podman said.
    pub fn sleeping(&mut self, name: &str, engine: &Engine) -> Result<String> {
        // Podman's own limits take a right that a confined machine lacks.
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        let words =
            [&["run", "--detach", "--network=none", "--name", name][..], &limits, &[engine.image(), "sleep", "1d"]];
        let id = self.podman(&words.concat())?;
        self.containers.push(id.clone());
        Ok(id)
    }

    /// Runs the CLI.
    ///
    /// # Errors
    /// What Podman said.
    pub fn podman(&self, arguments: &[&str]) -> Result<String> {
        run(Self::command(&self.directory).args(arguments))
    }

    /// Storage without mounts, cgroups without systemd, and the runtime that knows every hierarchy: runc comes with Docker.
    fn command(directory: &TempDir) -> Command {
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut command = Command::new("podman");
        command.args(["--root", &path("root"), "--runroot", &path("run"), "--storage-driver=vfs"]);
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for id in &self.containers {
            self.podman(&["rm", "--force", "--time=0", id]).map(drop).unwrap_or_default();
        }
        self.service.kill().unwrap_or_default();
        self.service.wait().map(drop).unwrap_or_default();
        // Podman leaves the parent of its cgroups behind in each tree; where another Podman uses it, it is not empty.
        let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok).map(|tree| tree.path());
        for tree in trees.chain([PathBuf::from("/sys/fs/cgroup")]) {
            fs::remove_dir(tree.join("libpod_parent")).unwrap_or_default();
        }
    }
}
