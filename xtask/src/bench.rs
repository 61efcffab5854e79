//! `cargo xtask bench`: what a scrape costs.

use anyhow::bail;

/// Refuses: this is the place where it will be.
pub(crate) fn run(_arguments: &[&str]) -> anyhow::Result<()> {
    bail!("bench is not written yet; its figures will stand in docs/OVERHEAD.md")
}
