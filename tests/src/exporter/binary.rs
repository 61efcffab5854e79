//! The binary that is tested.

use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::NamedTempFile;

/// The binary: `EXPORTER_BIN`, else built once with the cargo that runs the tests.
///
/// # Errors
/// It does not build.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| match std::env::var_os("EXPORTER_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    binary.clone().map_err(|error| anyhow!("the exporter does not build: {error}"))
}

fn build() -> Result<PathBuf> {
    let started = Instant::now();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let log = NamedTempFile::new()?;
    let mut command = Command::new(cargo);
    // What cargo says of this package would make build scripts of others run again, and their crates be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .args(["build", "--quiet", "--package=docker-stats-exporter", "--bin=docker-stats-exporter"])
        .args(["--message-format=json", "--manifest-path"])
        .arg(manifest)
        .stderr(File::create(log.path())?)
        .output()
        .context("cargo")?;
    ensure!(
        output.status.success(),
        "{} after {:?}: {}",
        output.status,
        started.elapsed(),
        read_to_string(log.path())?
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifact = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    artifact.context("cargo named no executable")
}
