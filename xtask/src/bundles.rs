//! `cargo xtask ci bundles`: checks every file of `deploy/` and the workflows by the tool that reads it. `cargo xtask ci
//! stacks`: runs the stacks in `deploy/`, by the tests in `tests/tests/stacks`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::setup::{self, Purpose};
use crate::sh::{self, Sh, say};
use crate::workspace;

/// The worst accepted score of `systemd-analyze security`, in tenths.
const SCORE: &str = "--threshold=25";

/// Tool, directory in the workspace, and arguments, word by word.
const CHECKS: &[(&str, &str, &str)] = &[
    // Only the syntax, because the paths are those in a container.
    ("promtool", "deploy", "check config --syntax-only prometheus/prometheus.yml"),
    ("promtool", "deploy", "check config --syntax-only swarm/prometheus.yml"),
    ("promtool", "deploy/fleet", "check config agent.yml"),
    ("promtool", "deploy/fleet", "check config receiver.yml"),
    ("promtool", "deploy/fleet", "check rules silent-agents.yml"),
    ("promtool", "deploy/fleet", "test rules silent-agents_test.yml"),
    ("amtool", "deploy", "check-config alertmanager/alertmanager.yml"),
    ("compose", "deploy", "--file compose.yaml config --quiet"),
    ("compose", "deploy", "--file compose.socket-proxy.yaml config --quiet"),
    ("compose", "deploy", "--file swarm/stack.yaml config --quiet"),
    ("ansible-playbook", "deploy/ansible", "--inventory inventory.example.yml --syntax-check playbook.yml"),
    ("ansible-lint", "deploy/ansible", "--offline --profile production -q ."),
    ("kubernetes-validate", "deploy/kubernetes", "--strict --quiet daemonset.yaml"),
    ("hadolint", ".", "Dockerfile"),
    ("zizmor", ".", "--offline --quiet .github"),
    ("mandoc", "deploy/package", "-T lint -W error docker-stats-exporter.1"),
];

/// Compose files, whose mounts of this repository are checked.
const COMPOSE: [&str; 2] = ["deploy/compose.yaml", "deploy/swarm/stack.yaml"];

/// Runs all checks and says at the end which failed.
pub(crate) fn check() -> anyhow::Result<()> {
    setup::require(Purpose::Dist)?;
    let mut failed = Vec::new();
    for (tool, directory, arguments) in CHECKS {
        if let Err(error) = run(tool, directory, &arguments.split(' ').collect::<Vec<_>>()) {
            failed.push(format!("{tool} {arguments}: {error:#}"));
        }
    }
    let root = tempfile::tempdir()?;
    if let Err(error) = unit(root.path()) {
        failed.push(format!("{error:#}"));
    }
    for file in COMPOSE {
        let text = fs::read_to_string(workspace::root().join(file)).with_context(|| file.to_owned())?;
        let directory = workspace::root().join(file).parent().map(Path::to_owned).unwrap_or_default();
        let missing = mounted(&text).filter(|path| !directory.join(path).exists());
        failed.extend(missing.map(|path| format!("{file}: {path} is not there")));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Runs the tests, with the compose program that this machine has.
pub(crate) fn run_stacks() -> anyhow::Result<()> {
    setup::require(Purpose::Tests)?;
    setup::require(Purpose::Dist)?;
    sh::run("cargo build --locked --package docker-stats-exporter")?;
    let compose = workspace::compose()?.display().to_string();
    let words = "cargo test --locked --package exporter-tests --features stacks --test stacks -- --test-threads=1";
    Sh { variables: &[("COMPOSE", &compose)], words: &words.split(' ').collect::<Vec<_>>() }.run()
}

fn run(tool: &str, directory: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let program = if tool == "compose" { workspace::compose()? } else { workspace::tool(tool)? };
    say(&format!("$ cd {directory} && {tool} {}", arguments.join(" ")));
    let mut path = workspace::python()?.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let status = Command::new(program)
        .args(arguments)
        .current_dir(workspace::root().join(directory))
        // Some of the Python tools call each other.
        .env("PATH", path)
        .stdin(Stdio::null())
        .status()
        .context("does not start")?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

/// Checks the systemd units in a root directory with the files that they name.
fn unit(root: &Path) -> anyhow::Result<()> {
    let units = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&units)?;
    fs::create_dir_all(root.join("usr/bin"))?;
    let program = root.join("usr/bin/docker-stats-exporter");
    fs::write(&program, "#!/bin/sh\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for unit in ["docker-stats-exporter.service", "docker-stats-exporter.socket"] {
        fs::copy(workspace::root().join("deploy/systemd").join(unit), units.join(unit))?;
    }
    // These units exist on every system.
    for target in [
        "sysinit.target",
        "basic.target",
        "sockets.target",
        "network-online.target",
        "multi-user.target",
        "shutdown.target",
    ] {
        fs::write(units.join(target), "[Unit]\n")?;
    }
    let root = format!("--root={}", root.display());
    run(
        "systemd-analyze",
        ".",
        &["verify", "--man=no", &root, "docker-stats-exporter.service", "docker-stats-exporter.socket"],
    )?;
    run(
        "systemd-analyze",
        ".",
        &["security", "--offline=true", SCORE, "--no-pager", &root, "docker-stats-exporter.service"],
    )
}

/// Returns the relative paths that a compose file mounts or makes configurations of.
fn mounted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let mount = line.strip_prefix("- ").filter(|path| path.starts_with('.'));
        let path = mount.and_then(|mount| mount.split(':').next());
        path.or_else(|| line.strip_prefix("file: "))
    })
}

#[cfg(test)]
mod tests {
    use super::mounted;

    #[test]
    fn mounts_and_files_of_a_compose_file_are_found() {
        let text = "volumes:\n  - ./a/b.yml:/etc/b.yml:ro\n  - data:/data\n  - /proc:/host/proc\nconfigs:\n  c:\n    file: ../c.yml\n";
        assert_eq!(mounted(text).collect::<Vec<_>>(), ["./a/b.yml", "../c.yml"]);
    }
}
