//! `cargo xtask image`: the image, around a static binary built here. Needs Docker, but no registry and no `BuildKit`.
//!
//! Users build the program inside the Rust image instead (`docker build .`); both end in the same stage of the
//! Dockerfile.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::sh::{Sh, say};
use crate::workspace;

const TAG: &str = "docker-stats-exporter";

/// Builds the program and the image `docker-stats-exporter`.
pub(crate) fn run() -> anyhow::Result<()> {
    build()?;
    stage()?;
    let argument = format!("REVISION={}", revision());
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    let mut words = vec!["docker", "build", "--quiet", "--tag", TAG, "--target", "local", "--file", "Dockerfile"];
    words.extend(["--build-arg", version, "--build-arg", &argument, "target/image"]);
    Sh { variables: &[], words: &words }.run()?;
    say(&format!("the image {TAG} is made; README.md says how to run it"));
    Ok(())
}

/// Builds the program as it is shipped.
pub(crate) fn build() -> anyhow::Result<()> {
    Sh {
        variables: &[("RUSTFLAGS", "-C target-feature=+crt-static"), ("BUILD_REVISION", &revision())],
        words: &["cargo", "build", "--locked", "--profile", "dist", "--package", TAG, "--target", &host_target()?],
    }
    .run()
}

/// The program that [`build`] has built.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    Ok(workspace::target().join(host_target()?).join("dist").join(TAG))
}

/// Puts the binary alone into a directory: the whole of what Docker is sent.
fn stage() -> anyhow::Result<()> {
    let root = workspace::root();
    let (from, to) = (program()?, root.join("target/image"));
    fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
    fs::copy(&from, to.join(TAG)).with_context(|| format!("cannot copy {}", from.display()))?;
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

fn revision() -> String {
    let answer = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(workspace::root()).output();
    let text = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&text).trim() {
        "" => "unknown".to_owned(),
        revision => revision.to_owned(),
    }
}
