//! Builds the same commit once more, from a clone in another directory, and compares the bytes of the programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::{Architecture, compiler, digest};
use crate::sh::say;
use crate::workspace;

/// Builds each architecture here and in a clone of what is committed. Fails where the two differ.
pub(super) fn run(architectures: &[&'static Architecture]) -> anyhow::Result<()> {
    let changes = git(workspace::root(), &["status", "--porcelain"])?;
    ensure!(changes.is_empty(), "the clone would lack what is not committed:\n{changes}");
    let scratch = tempfile::tempdir()?;
    let clone = scratch.path().join("another/directory");
    git(workspace::root(), &["clone", "--quiet", "--no-hardlinks", ".", &clone.display().to_string()])?;
    for architecture in architectures {
        let here = fs::read(compiler::build(architecture)?)?;
        say(&format!("the same in {}", clone.display()));
        let there = fs::read(compiler::build_in(&clone, &clone.join("target"), architecture)?)?;
        say(&format!(
            "{}: {}  here\n{}: {}  there",
            architecture.name,
            digest(&here),
            architecture.name,
            digest(&there)
        ));
        ensure!(here == there, "the program for {} depends on where it is built", architecture.name);
    }
    Ok(())
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let answer = Command::new("git").args(["-c", "safe.directory=*"]).args(arguments).current_dir(directory).output();
    let answer = answer.context("git")?;
    ensure!(answer.status.success(), "git {}: {}", arguments.join(" "), String::from_utf8_lossy(&answer.stderr));
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}
