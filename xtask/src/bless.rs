//! `cargo xtask bless`: rewrites the golden files from what the exporter says now, and shows what changed.

use crate::sh::Sh;

/// Runs the golden tests with `BLESS=1`, under which they write instead of compare.
pub(crate) fn run() -> anyhow::Result<()> {
    Sh {
        variables: &[("BLESS", "1")],
        words: &["cargo", "test", "--locked", "--package", "exporter-tests", "--test", "golden", "--test", "hosts"],
    }
    .run()?;
    Sh { variables: &[], words: &["git", "--no-pager", "diff", "--stat", "--", "tests/golden"] }.run()
}
