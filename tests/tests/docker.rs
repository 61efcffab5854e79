//! Real containers that do known work: our values against that work, the kernel's files, `docker stats` and `cgroups-rs`.

#[cfg(test)]
#[path = "docker/blkio.rs"]
mod blkio;
#[cfg(test)]
#[path = "docker/cadvisor.rs"]
mod cadvisor;
#[cfg(test)]
#[path = "docker/cpu.rs"]
mod cpu;
#[cfg(test)]
#[path = "docker/details.rs"]
mod details;
#[cfg(test)]
#[path = "docker/disk.rs"]
mod disk;
#[cfg(test)]
#[path = "docker/engines.rs"]
mod engines;
#[cfg(test)]
#[path = "docker/health.rs"]
mod health;
#[cfg(test)]
#[path = "docker/identity.rs"]
mod identity;
#[cfg(test)]
#[path = "docker/life.rs"]
mod life;
#[cfg(test)]
#[path = "docker/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "docker/links.rs"]
mod links;
#[cfg(test)]
#[path = "docker/memory.rs"]
mod memory;
#[cfg(test)]
#[path = "docker/modes.rs"]
mod modes;
#[cfg(test)]
#[path = "docker/names.rs"]
mod names;
#[cfg(test)]
#[path = "docker/nested.rs"]
mod nested;
#[cfg(test)]
#[path = "docker/network.rs"]
mod network;
#[cfg(test)]
#[path = "docker/oom.rs"]
mod oom;
#[cfg(test)]
#[path = "docker/others.rs"]
mod others;
#[cfg(test)]
#[path = "docker/pids.rs"]
mod pids;
#[cfg(test)]
#[path = "docker/pressure.rs"]
mod pressure;
#[cfg(test)]
#[path = "docker/readers.rs"]
mod readers;
#[cfg(test)]
#[path = "docker/restart.rs"]
mod restart;
#[cfg(test)]
#[path = "docker/sandbox.rs"]
mod sandbox;

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Exporter, Exposition};

/// Names come within a second of a start; this is for what comes before a test's own subject.
const SOON: Duration = Duration::from_secs(5);

/// Scrapes until the container is there under its name.
fn named(exporter: &Exporter, container: &Container<'_>) -> Result<Exposition> {
    exporter.scrape_until(SOON, &format!("the name of {}", container.name), |exposition| {
        exposition.one("container_cpu_usage_seconds_total", &[("name", &container.name)])?;
        Ok(exposition.clone())
    })
}

/// Ours lies between two readings of the kernel's, where such a counter must.
fn bracketed(before: f64, ours: f64, after: f64) -> Result<()> {
    // Exposed decimals are exact; the comparison's own f64 are not.
    let slack = 1e-6;
    ensure!(before - slack <= ours && ours <= after + slack, "{ours} is not between {before} and {after}");
    Ok(())
}

/// Ours is within a part of theirs, or within some units where both are small.
fn close(what: &str, ours: f64, theirs: f64, part: f64, units: f64) -> Result<()> {
    let apart = (ours - theirs).abs();
    ensure!(apart <= (theirs.abs() * part).max(units), "{what}: ours {ours}, theirs {theirs}");
    Ok(())
}
