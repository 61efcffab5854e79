//! What only a host of one's own can be asked: systemd stops Docker, a controller is taken away, Podman runs beside
//! Docker, the exporter is a container as the README says, pages are written back by somebody else, every key of the v2 files
//! is held against the kernel's. Built with `--features guest`; `cargo xtask vm test` runs it in a guest, after the tests that
//! run on every host.

#[cfg(test)]
#[path = "guest/controller.rs"]
mod controller;
#[cfg(test)]
#[path = "guest/host.rs"]
mod host;
#[cfg(test)]
#[path = "guest/keys.rs"]
mod keys;
#[cfg(test)]
#[path = "guest/podman.rs"]
mod podman;
#[cfg(test)]
#[path = "guest/readme.rs"]
mod readme;
#[cfg(test)]
#[path = "guest/restart.rs"]
mod restart;
#[cfg(test)]
#[path = "guest/writeback.rs"]
mod writeback;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Exporter, Exposition};

const CPU: &str = "container_cpu_usage_seconds_total";

/// The least that waiting for an engine takes.
const SOON: Duration = Duration::from_secs(20);

/// These tests stop what the others of this program use: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scrapes until the container is there under its name, with what only an inspection has: that comes after the list.
fn named(exporter: &Exporter, container: &Container<'_>) -> Result<Exposition> {
    exporter.scrape_until(SOON, &format!("the name of {}", container.name), |exposition| {
        let mine = [("name", container.name.as_str())];
        exposition.one(CPU, &mine)?;
        exposition.one("container_start_time_seconds", &mine)?;
        Ok(exposition.clone())
    })
}

/// A command's output; what it said is in the error.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}: {}", arguments.join(" "), output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
