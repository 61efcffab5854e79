//! `cargo xtask bench`: what a scrape costs, measured against a loop that does nothing but read the same files.
//!
//! Makes container cgroups directly under this host's cgroup mounts, runs the `dist` binary against them and writes
//! `docs/OVERHEAD.md`. Needs root and no engine. Nothing here asserts a time: the figures are read by people.
//! `cargo xtask bench render` needs nothing but the processor, `cargo xtask bench ebpf` a kernel that takes the programs.

mod baseline;
mod cadvisor;
mod cgroups;
mod churn;
mod cleanup;
mod containers;
mod exporter;
mod figures;
mod fixtures;
mod measure;
mod options;
mod report;
mod target;

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context, bail};

use crate::sh::{self, say};
use crate::workspace;
use options::{Options, USAGE};

/// Measures.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match arguments {
        ["cleanup", what] => return cleanup::serve(what),
        ["hold", size] => return hold(size),
        [bench @ ("ebpf" | "render"), rest @ ..] => {
            let command = format!("cargo bench --locked --package docker-stats-exporter --bench {bench} -- ");
            return sh::run((command + &rest.join(" ")).trim_end());
        }
        ["--help"] => {
            say(USAGE);
            return Ok(());
        }
        ["bound", limit, program, rest @ ..] => return exporter::become_bound(limit, program, rest),
        _ => {}
    }
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        return again_in_release(arguments);
    }
    let runs = measure::all(&options)?;
    let tables = report::tables(&runs)?;
    say(&format!("\n{tables}"));
    if options.write { report::write(&tables) } else { Ok(()) }
}

fn hold(size: &str) -> anyhow::Result<()> {
    let mut fixtures = fixtures::Fixtures::new(false)?;
    fixtures.grow(size.parse().context(USAGE)?)?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end of the input")?;
    Ok(())
}

/// The loop that we compare with has to be as well compiled as what is compared with it.
fn again_in_release(arguments: &[&str]) -> anyhow::Result<()> {
    crate::compiler::build_here()?;
    sh::run("cargo build --release --locked --package xtask")?;
    let program = workspace::target().join("release/xtask");
    let status = Command::new(&program).arg("bench").args(arguments).current_dir(workspace::root()).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}
