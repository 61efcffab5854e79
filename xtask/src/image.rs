//! `cargo xtask image`: the image, around a static binary built here. Needs Docker, but no registry and no `BuildKit`.
//!
//! Users build the program inside the Rust image instead (`docker build .`); both end in the same stage of the
//! Dockerfile.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::dist::compiler;
use crate::sh::{Sh, say};
use crate::workspace;

const TAG: &str = "docker-stats-exporter";

/// Builds the program and the image `docker-stats-exporter`.
pub(crate) fn run() -> anyhow::Result<()> {
    stage(&compiler::build_here()?)?;
    let argument = format!("REVISION={}", workspace::revision());
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    let mut words = vec!["docker", "build", "--quiet", "--tag", TAG, "--target", "local", "--file", "Dockerfile"];
    words.extend(["--build-arg", version, "--build-arg", &argument, "target/image"]);
    Sh { variables: &[], words: &words }.run()?;
    say(&format!("the image {TAG} is made; README.md says how to run it"));
    Ok(())
}

/// Puts the binary alone into a directory: the whole of what Docker is sent.
fn stage(program: &Path) -> anyhow::Result<()> {
    let to = workspace::root().join("target/image");
    fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    fs::copy(program, to.join(TAG)).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(())
}

/// Without `--target`, build scripts and macros would be linked statically too, and fail.
pub(crate) fn host_target() -> anyhow::Result<String> {
    let answer = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    ensure!(!host.is_empty(), "`rustc -vV` names no host");
    Ok(host.to_owned())
}
