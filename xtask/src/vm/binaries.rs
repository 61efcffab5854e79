//! Programs of this workspace, linked so that they run in any guest: static, without the C library of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::sh::say;
use crate::{image, workspace};

/// Builds what these arguments of cargo name (`["test", "--no-run", ...]`), and copies the programs into a directory under
/// their targets' names.
pub(super) fn build(arguments: &[&str], directory: &Path) -> anyhow::Result<()> {
    let target = image::host_target()?;
    say(&format!("$ cargo {} --target {target}, static", arguments.join(" ")));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        // With --target, build scripts and macros are not linked statically, which they cannot be.
        .args(["--quiet", "--locked", "--message-format=json-render-diagnostics", "--target", &target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Nobody debugs in the guest, and every megabyte goes there.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments.join(" "), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let binaries: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
    ensure!(!binaries.is_empty(), "cargo {} named no program that it has built", arguments.join(" "));
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (name, path) in binaries {
        fs::copy(&path, directory.join(name)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The name and the path of a program that cargo has built.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?.into();
    Some((message.pointer("/target/name")?.as_str()?.to_owned(), path))
}

#[cfg(test)]
mod tests {
    #[test]
    fn cargo_s_messages_name_the_programs() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"docker"},"executable":"/t/docker-1"}"#;
        assert_eq!(super::executable(line), Some(("docker".to_owned(), "/t/docker-1".into())));
        assert!(super::executable(r#"{"reason":"compiler-artifact","executable":null}"#).is_none());
        assert!(super::executable("warning: something").is_none());
    }
}
