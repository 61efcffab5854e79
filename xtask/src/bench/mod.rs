//! `cargo xtask bench`: measures the cost of a scrape, and of a loop that only reads the same files.
//!
//! It makes container cgroups directly under this host's cgroup mounts, runs the `dist` binary on them and writes
//! `docs/OVERHEAD.md`. It needs root but no engine, and asserts no times: people read the figures.
//! `cargo xtask bench render` needs only a processor, `cargo xtask bench ebpf` a kernel that accepts the programs.

mod baseline;
mod cgroups;
mod exporters;
mod figures;
mod fixtures;
mod measure;
mod report;
mod target;

use std::io::Read as _;
use std::process::Command;

use anyhow::{Context, bail};

use crate::sh::{self, say};
use crate::workspace;
use exporters::Peer;

/// Default numbers of containers.
const SIZES: [usize; 3] = [100, 1000, 5000];

const USAGE: &str = "\
usage: cargo xtask bench [--write] [--docker] [--flag FLAG]... [--peer URL --peer-pid PID] [CONTAINERS...]   (as root)

  --write         also rewrites the tables in docs/OVERHEAD.md
  --docker        real containers, of the engine that `docker` talks to, instead of cgroups made for the purpose
  --flag FLAG     a further flag of the exporter that is measured, such as --flag --read.snapshot=off
  --peer URL      measures another exporter beside this one, which runs already as process PID";

/// The options of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    pub(super) write: bool,
    pub(super) docker: bool,
    pub(super) peer: Option<Peer>,
    /// Further flags of the exporter.
    pub(super) flags: Vec<String>,
    /// From small to large.
    pub(super) sizes: Vec<usize>,
}

impl Options {
    /// Parses the command line. Errors contain the usage.
    fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let (mut url, mut process) = (None, None);
        let mut rest = arguments.iter().copied();
        while let Some(word) = rest.next() {
            match word {
                "--write" => options.write = true,
                "--docker" => options.docker = true,
                "--flag" => options.flags.push(rest.next().context(USAGE)?.to_owned()),
                "--peer" => url = Some(rest.next().context(USAGE)?),
                "--peer-pid" => process = Some(rest.next().context(USAGE)?),
                number => {
                    let size = number.parse().ok().filter(|size| *size > 0);
                    options.sizes.push(size.with_context(|| format!("`{number}`\n{USAGE}"))?);
                }
            }
        }
        options.peer = match (url, process) {
            (Some(url), Some(process)) => Some(Peer::parse(url, process)?),
            (None, None) => None,
            _ => bail!("--peer and --peer-pid go together\n{USAGE}"),
        };
        if options.sizes.is_empty() {
            options.sizes = SIZES.to_vec();
        }
        options.sizes.sort_unstable();
        Ok(options)
    }
}

/// Runs the benchmark, or one of its helper processes.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match arguments {
        ["cleanup", what] => return fixtures::clean_up_at_end(what),
        ["hold", size] => return hold(size),
        [bench @ ("ebpf" | "render"), rest @ ..] => {
            let command = format!("cargo bench --locked --package docker-stats-exporter --bench {bench} -- ");
            return sh::run((command + &rest.join(" ")).trim_end());
        }
        ["--help"] => {
            say(USAGE);
            return Ok(());
        }
        ["bound", limit, program, rest @ ..] => return exporters::become_bound(limit, program, rest),
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

/// Runs this benchmark by a release build, so that the loop is as optimised as the exporter.
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

#[cfg(test)]
mod tests {
    use super::{Options, SIZES};

    #[test]
    fn sizes_are_measured_from_small_to_large() {
        let options = Options::parse(&["1000", "--write", "10"]).unwrap();
        assert_eq!(options, Options { write: true, sizes: vec![10, 1000], ..Options::default() });
        assert_eq!(Options::parse(&[]).unwrap().sizes, SIZES);
        assert_eq!(Options::parse(&["--flag", "--ebpf=off", "7"]).unwrap().flags, ["--ebpf=off"]);
    }

    #[test]
    fn what_is_no_number_of_containers_is_answered_with_the_usage() {
        for arguments in [["0"].as_slice(), &["many"], &["--flag"], &["--peer"], &["--peer", "http://localhost"]] {
            let error = Options::parse(arguments).unwrap_err();
            assert!(format!("{error:#}").contains("cargo xtask bench [--write]"), "{error:#}");
        }
    }

    #[test]
    fn a_peer_has_an_address_and_a_process() {
        let options = Options::parse(&["--docker", "--peer", "http://localhost:9/m", "--peer-pid", "3"]).unwrap();
        assert!(options.docker && options.peer.is_some());
    }
}
