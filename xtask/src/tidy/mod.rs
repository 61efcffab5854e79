//! `cargo xtask tidy`: rules that no compiler checks. Each is a function from files to findings, so that it is tested
//! on made-up files.
//!
//! | rule | file |
//! |---|---|
//! | which room may use which, and which crate lives in which room | [`direction`] |
//! | size and opening of source files; leftovers, machine paths and mirrors in any file | [`text`] |
//! | `Cargo.lock` names no other source than crates.io | [`lock`] |
//! | generated documents are fresh | [`crate::docs`] |

mod direction;
mod lock;
#[cfg(test)]
mod tests;
mod text;

use anyhow::bail;

use crate::docs;
use crate::sh::say;
use crate::workspace::{self, File};

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// `path` or `path:line`.
    place: String,
    /// What is there, and what cures it.
    what: String,
    weight: Weight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Shown.
    Warning,
    /// Fails the check.
    Error,
}

impl Finding {
    fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), weight: Weight::Error }
    }

    fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::error(place, what) }
    }
}

/// Checks every file of the workspace.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = workspace::files()?;
    let findings = check(&files, &text::Private::of_this_machine());
    for finding in &findings {
        let prefix = if finding.weight == Weight::Warning { "warning: " } else { "" };
        say(&format!("{prefix}{}: {}", finding.place, finding.what));
    }
    docs::run(docs::Mode::Check)?;
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    if errors > 0 {
        bail!("{errors} findings");
    }
    say(&format!("{} files are tidy", files.len()));
    Ok(())
}

fn check(files: &[File], private: &text::Private) -> Vec<Finding> {
    files
        .iter()
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
        .flat_map(|(path, content)| {
            let mut findings = text::check(path, content, private);
            findings.extend(direction::check(path, content));
            findings.extend(lock::check(path, content));
            findings
        })
        .collect()
}

/// Lines with their numbers, counted from 1.
fn numbered(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content.lines().enumerate().map(|(index, line)| (index + 1, line))
}
