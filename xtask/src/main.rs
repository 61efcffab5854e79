//! `cargo xtask`: the tasks of this workspace, one file or folder per subcommand.
//!
//! Each subcommand shows the commands that it runs. An error ends with the command that repairs it.

mod bench;
mod bundles;
mod capture;
mod ci;
mod compiler;
mod debian;
mod deploy;
mod dist;
mod docs;
mod ebpf;
mod fuzz;
mod setup;
mod sh;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test            what a change must pass: setup, fmt, clippy, unit tests, generated docs, tidy, and the tests against
                  the containers of a virtual machine and of this host (as root, by sudo if need be; uses the running
                  Docker engine or starts its own)
  setup [WHAT...] installs what is missing on Debian, Ubuntu and alike; WHAT: tests, guests (both are the default), ebpf, dist
  ci [STEP...]    everything CI runs, in order, or only these steps
  docs [--check]  writes the generated docs (docs/METRICS.md, docs/FLAGS.md, the bounds in SECURITY.md), or only compares them
  deploy [--check] writes rules and dashboards from deploy/source, or only compares them; lints them and runs the alerts' tests
  ebpf [--check]  builds the eBPF objects in exporter-ebpf/prebuilt, or only compares them with their sources
  fuzz [--time SECONDS] [TARGET...]
                  drives every parser of what others write, or only these, by libFuzzer (default: 60 seconds each;
                  needs a C++ compiler)
  bless           rewrites the golden files in tests/golden from what the exporter says now
  capture ...     copies containers of this host into a fixture
  image           the container image, around a static binary built here
  dist            what a release ships, for both architectures: programs, packages, image, list of crates, checksums;
                  --twice compares with a build in another directory
  vm ...          a Debian host with cgroup v2, systemd and Docker, in QEMU: its tests, a command, a shell
  tidy            rules that no compiler checks: module directions, file sizes, leftovers
  bench           what a scrape costs
  soak [--time T] holds the exporter under load for a while (default: 10m) and judges every scrape";

/// The soak test, a program of the end-to-end tests' package.
const SOAK: &str = "cargo run --quiet --locked --package exporter-tests --bin=soak --";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(vm::Ended(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            sh::say(&format!("\nxtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => ci::test(),
        ["ci", steps @ ..] => ci::run(steps),
        ["setup", what @ ..] => setup::run(what),
        ["docs"] => docs::run(false),
        ["docs", "--check"] => docs::run(true),
        ["deploy"] => deploy::run(false),
        ["deploy", "--check"] => deploy::run(true),
        ["ebpf"] => ebpf::run(false),
        ["ebpf", "--check"] => ebpf::run(true),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bless"] => bless(),
        ["capture", rest @ ..] => capture::run(rest),
        ["image"] => dist::oci::build_local(),
        ["dist", rest @ ..] => dist::run(rest),
        ["tidy"] => tidy::run(),
        ["vm", rest @ ..] => vm::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["soak", rest @ ..] => sh::run(&[&[SOAK], rest].concat().join(" ")),
        ["help" | "-h" | "--help"] => {
            sh::say(USAGE);
            Ok(())
        }
        [] => anyhow::bail!("a command is missing\n\n{USAGE}"),
        unknown => anyhow::bail!("`{}` is not a command of xtask\n\n{USAGE}", unknown.join(" ")),
    }
}

/// Rewrites the golden files: with `BLESS=1` the golden tests write what they would compare. Shows the changes.
fn bless() -> anyhow::Result<()> {
    sh::run("env BLESS=1 cargo test --locked --package exporter-tests --test golden --test hosts")?;
    sh::run("git --no-pager diff --stat -- tests/golden")
}
