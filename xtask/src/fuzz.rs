//! `cargo xtask fuzz [--time SECONDS] [TARGET...]`: runs the targets of `exporter/src/fuzz.rs` by libFuzzer on stable Rust.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::sh::{Sh, say};
use crate::workspace;

/// Compiler flags for coverage, as cargo-fuzz sets them.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions --cfg fuzzing";

/// The target, which is named so that build scripts and macros are built without [`COVERAGE`].
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Seconds for each target without `--time`.
const DEFAULT_SECONDS: u64 = 60;

/// Directory of the inputs that took a new branch, and of those that failed.
const CORPUS: &str = "target/fuzz";

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (seconds, wanted) = match words {
        ["--time", seconds, wanted @ ..] => (seconds.parse().context("--time takes seconds")?, wanted),
        wanted => (DEFAULT_SECONDS, wanted),
    };
    let targets = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|known| known == *name)) {
        bail!("`{unknown}` is not a target; there are {}", targets.join(", "));
    }
    let build = ["cargo", "build", "--release", "--target", TRIPLE, "--target-dir", "target/fuzz/build"];
    let manifest = ["--manifest-path", "exporter/fuzz/Cargo.toml"];
    Sh { variables: &[("RUSTFLAGS", COVERAGE)], words: &[&build[..], &manifest].concat() }.run()?;
    let program = format!("target/fuzz/build/{TRIPLE}/release/target");
    let mut failed = Vec::new();
    for target in targets.iter().filter(|target| wanted.is_empty() || wanted.contains(&target.as_str())) {
        let [corpus, findings] = ["corpus", "findings"].map(|part| format!("{CORPUS}/{part}/{target}/"));
        for directory in [&corpus, &findings] {
            fs::create_dir_all(workspace::root().join(directory))?;
        }
        let (time, prefix) = (format!("-max_total_time={seconds}"), format!("-artifact_prefix={findings}"));
        let limits = ["-max_len=65536", "-timeout=5", "-rss_limit_mb=512", "-print_final_stats=1", "-print_funcs=0"];
        let seeds = format!("exporter/fuzz/seeds/{target}");
        let words = [&[program.as_str(), &time, &prefix][..], &limits, &[&corpus, &seeds]].concat();
        if (Sh { variables: &[("FUZZ_TARGET", target)], words: &words }).run().is_err() {
            say(&format!("{target} failed: copy the input from {findings} to {seeds}/ and fix the parser"));
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "targets with findings: {}", failed.join(", "));
    Ok(())
}

/// Returns the targets. Each one has a directory of seeds.
fn targets() -> anyhow::Result<Vec<String>> {
    let seeds = fs::read_dir(workspace::root().join(Path::new("exporter/fuzz/seeds")))?;
    let mut names =
        seeds.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
