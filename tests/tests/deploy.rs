//! The committed dashboards against Grafana's own published types. What their queries answer is a test of `prometheus.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const HINT: &str = "apt-get install nodejs npm";

/// The script that asks TypeScript's compiler.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// Installs the types, at the versions of `package.json`.
fn install() -> Result<()> {
    let words = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"];
    let output = Command::new("npm").current_dir(scripts()).args(words).output().context(HINT)?;
    ensure!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the compiler says of these dashboards, where it is not content.
fn check(dashboards: &[PathBuf]) -> Result<()> {
    let output =
        Command::new("node").current_dir(scripts()).arg("check.mjs").args(dashboards).output().context(HINT)?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}");
    Ok(())
}

#[test]
fn the_dashboards_are_of_grafana_s_types() {
    install().unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let mut dashboards: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    dashboards.sort();
    assert_eq!(dashboards.len(), 4, "{dashboards:?}");
    check(&dashboards).unwrap();
    // A check that finds nothing proves nothing.
    let text = fs::read_to_string(&dashboards[0]).unwrap();
    for (right, wrong) in
        [("\"editable\": false", "\"editable\": \"no\""), ("\"drawStyle\": \"line\"", "\"drawStyle\": \"lines\"")]
    {
        let faulty = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        fs::write(faulty.path(), text.replacen(right, wrong, 1)).unwrap();
        let said = check(&[faulty.path().to_owned()]).unwrap_err().to_string();
        assert!(said.contains("is not assignable"), "{wrong}: {said}");
    }
}
