//! `cargo xtask capture`: copies the containers of this host into a fixture.

use anyhow::bail;

/// Refuses: this is the place where it will be.
pub(crate) fn run(_arguments: &[&str]) -> anyhow::Result<()> {
    bail!("capture is not written yet; tests/fixtures/README.md says what a fixture holds")
}
