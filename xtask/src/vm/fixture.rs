//! `cargo xtask vm capture`: a fixture of the guest, with containers that show what is special about its kernel.

use std::fs;

use anyhow::Context;

use super::session::{self, Job};
use super::{Options, binaries, cache, host};
use crate::sh::say;
use crate::workspace;

/// Captures into `tests/fixtures/`, in place of what is there.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    host::can_run()?;
    let name = options.suite.fixture;
    let scratch = cache::Scratch::new("input")?;
    let (input, output) = (scratch.path().join("in"), scratch.path().join("out"));
    binaries::place(&binaries::build(&["build", "--package", "xtask"])?, &input.join("bin"))?;
    let script = format!("NAME={name}\n{}", include_str!("guest/capture.sh"));
    session::run(
        options,
        &Job { input: Some(input), output: Some(output.clone()), script, terminal: false, awaited: None },
    )?;
    let target = workspace::root().join("tests/fixtures").join(name);
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| target.display().to_string())?;
    }
    host::output(std::process::Command::new("cp").arg("--archive").arg(output.join(name)).arg(&target))?;
    say(&format!("captured into {}; look it through, then: cargo xtask bless", target.display()));
    Ok(())
}
