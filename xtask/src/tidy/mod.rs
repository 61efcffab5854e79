//! `cargo xtask tidy`: checks rules that no compiler checks. Each rule is a function from files to findings, so that tests
//! can call it with made-up files.
//!
//! | rule | file |
//! |---|---|
//! | which module may use which, and which crate lives in which module | [`direction`] |
//! | files that import each other in a circle | [`circles`] |
//! | links between pages, and the book's contents | [`links`] |
//! | size and opening of source files; leftovers, machine paths and mirrors in any file | [`text`] |

mod circles;
mod direction;
mod links;
mod text;

use anyhow::ensure;

use crate::sh::say;
use crate::workspace::{self, File};

/// Checks every file of the workspace.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = workspace::files()?;
    let findings = check(&files, &text::Private::of_this_machine());
    for finding in &findings {
        say(&format!("{}: {}", finding.location, finding.what));
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    say(&format!("{} files are tidy", files.len()));
    Ok(())
}

fn check(files: &[File], private: &text::Private) -> Vec<Finding> {
    files
        .iter()
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
        .flat_map(|(path, content)| [text::check(path, content, private), direction::check(path, content)].concat())
        .chain(circles::check(files))
        .chain(links::check(files))
        .collect()
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// `path` or `path:line`.
    location: String,
    /// Description, with a hint.
    what: String,
}

impl Finding {
    fn new(location: impl Into<String>, what: impl Into<String>) -> Self {
        Self { location: location.into(), what: what.into() }
    }
}

/// Returns the lines with their numbers, counted from 1.
fn numbered(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests;
