//! The software bill of materials: which crates are in the program, as `CycloneDX` JSON. The program itself holds the same
//! list for scanners (`cargo auditable`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{Architecture, NAME};
use crate::sh::say;
use crate::workspace;

/// Writes what the program of the architecture is made of. Crates that only build scripts and tests use are left out.
pub(super) fn write(architecture: &Architecture, time: u64, path: &Path) -> anyhow::Result<()> {
    let name = format!("{NAME}-{}", architecture.go);
    say(&format!("$ cargo cyclonedx --target {}", architecture.target));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps", "--quiet"])
        .args(["--target", architecture.target, "--override-filename", &name])
        .args(["--manifest-path", "exporter/Cargo.toml"])
        .env("SOURCE_DATE_EPOCH", time.to_string())
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "cargo cyclonedx: {status}");
    // It writes one beside the manifest of each member of the workspace.
    for member in ["exporter", "exporter-ebpf", "xtask", "tests"] {
        let written = workspace::root().join(member).join(format!("{name}.json"));
        if member == "exporter" {
            let text = fs::read_to_string(&written).with_context(|| written.display().to_string())?;
            fs::write(path, without_paths(&text)).with_context(|| path.display().to_string())?;
        }
        if written.exists() {
            fs::remove_file(&written).with_context(|| written.display().to_string())?;
        }
    }
    Ok(())
}

/// Where this checkout is belongs in no release.
fn without_paths(text: &str) -> String {
    text.replace(&workspace::root().display().to_string(), "/src")
}
