//! `cargo xtask vm test`: the end-to-end tests of this workspace, the same as on this host, built static and run in the
//! guest in one go.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context;

use super::session::{self, Job};
use super::{Options, binaries, cache, host, quoted, state};
use crate::sh::say;
use crate::workspace;

/// The tests that look at real containers. The others compare with captured hosts or files: they say the same anywhere.
/// `guest` is for a host of one's own alone.
const TESTS: &[&str] = &["harness", "docker", "faults", "ebpf", "guest"];

/// How a test's good result reads.
const RESULT: &str = " ... ok";

/// Runs them; words choose tests by name.
pub(super) fn run(options: &Options, filters: &[&str]) -> anyhow::Result<()> {
    host::can_run()?;
    let input = cache::Scratch::new("input")?;
    let start = Instant::now();
    // Neither needs the other, and an image is mostly unpacking: together they take as long as the longer one.
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| state::prepare(options).map(drop));
        let built = build(&input.path().join("bin"));
        let prepared = guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        built.and(prepared)
    })?;
    say(&format!("tests and guest are ready after {:.0} s", start.elapsed().as_secs_f64()));
    let tests = workspace::root().join("tests");
    copy(&tests.join("fixtures"), &input.path().join("tests"))?;
    let script = script(&tests, filters);
    let awaited = Some((start, RESULT));
    session::run(options, &Job { input: Some(input.path().to_owned()), output: None, script, terminal: false, awaited })
}

fn build(bin: &Path) -> anyhow::Result<()> {
    binaries::place(&binaries::build(&["build", "--package", "docker-stats-exporter"])?, bin)?;
    let mut arguments = vec!["test", "--no-run", "--package", "exporter-tests", "--features", "guest"];
    arguments.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    binaries::place(&binaries::build(&arguments)?, bin)
}

fn script(tests: &Path, filters: &[&str]) -> String {
    let words: Vec<String> = filters.iter().map(|word| quoted(word)).collect();
    let head = include_str!("guest/test.sh");
    let tests = quoted(&tests.display().to_string());
    format!("set -- {}\nTESTS={}\nMANIFEST={tests}\n{head}", words.join(" "), quoted(&TESTS.join(" ")))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    host::output(Command::new("cp").args(["--recursive", "--no-dereference"]).args([from, to])).map(drop)
}
