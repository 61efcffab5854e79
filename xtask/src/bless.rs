//! `cargo xtask bless`: rewrites the golden files from what the exporter says now, and shows what changed.

use crate::sh;

/// Runs the golden tests with `BLESS=1`, under which they write instead of compare.
pub(crate) fn run() -> anyhow::Result<()> {
    sh::run("env BLESS=1 cargo test --locked --package exporter-tests --test golden --test hosts")?;
    sh::run("git --no-pager diff --stat -- tests/golden")
}
