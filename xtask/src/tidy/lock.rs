//! `Cargo.lock` names no other source than crates.io: no git revisions, no mirror of whoever wrote the file last.

use super::{Finding, numbered};

const CRATES_IO: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

pub(super) fn check(path: &str, content: &str) -> Vec<Finding> {
    if !path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    numbered(content)
        .filter(|(_, line)| line.starts_with("source = ") && *line != CRATES_IO)
        .map(|(number, line)| {
            Finding::error(
                format!("{path}:{number}"),
                format!("{line} is not crates.io; take the crate from there and run `cargo update --workspace`"),
            )
        })
        .collect()
}
