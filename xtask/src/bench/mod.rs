//! `cargo xtask bench`: what a scrape costs, measured against a loop that does nothing but read the same files.
//!
//! Makes container cgroups directly under this host's cgroup mounts, runs the `dist` binary against them and writes
//! `docs/OVERHEAD.md`. Needs root and no engine. Nothing here asserts a time: the figures are read by people.
//! `cargo xtask bench render` needs nothing but the processor, `cargo xtask bench ebpf` a kernel that takes the programs.

mod client;
mod containers;
mod exporter;
mod figures;
mod floor;
mod host;
mod janitor;
mod measure;
mod options;
mod peer;
mod plot;
mod population;
mod probes;
mod render;
mod report;
mod starts;
mod tiers;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::sh::{Sh, say};
use crate::workspace;
use options::{Options, USAGE};

/// Measures.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match arguments {
        ["floor", rest @ ..] => return floor::serve(rest),
        ["janitor", what] => return janitor::serve(what),
        ["hold", size] => return hold(size),
        // The kernel does this work: how well we are compiled does not matter.
        ["ebpf"] => return probes::run(),
        ["--help"] => {
            say(USAGE);
            return Ok(());
        }
        ["bound", limit, program, rest @ ..] => return exporter::become_bound(limit, program, rest),
        _ => {}
    }
    let rendered = arguments.strip_prefix(&["render"]);
    let options = Options::parse(rendered.unwrap_or(arguments))?;
    if cfg!(debug_assertions) {
        return again_in_release(arguments);
    }
    if rendered.is_some() {
        return options.sizes.into_iter().try_for_each(render::run);
    }
    let runs = measure::all(&options)?;
    let tables = report::tables(&runs)?;
    say(&format!("\n{tables}"));
    if options.write { report::write(&tables, &runs) } else { Ok(()) }
}

fn hold(size: &str) -> anyhow::Result<()> {
    let mut population = population::Population::new()?;
    population.grow(size.parse().context(USAGE)?)?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end of the input")?;
    Ok(())
}

/// The loop that we compare with has to be as well compiled as what is compared with it.
fn again_in_release(arguments: &[&str]) -> anyhow::Result<()> {
    crate::image::build()?;
    let build = ["cargo", "build", "--release", "--locked", "--package", "xtask"];
    Sh { variables: &[], words: &build }.run()?;
    let program = release_directory()?.join("xtask");
    let status = Command::new(&program).arg("bench").args(arguments).current_dir(workspace::root()).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}

/// Where our own release binary is, beside that of the profile that we are of.
fn release_directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find our own binary")?;
    let target = own.parent().and_then(std::path::Path::parent).context("our own binary has no target directory")?;
    Ok(target.join("release"))
}
