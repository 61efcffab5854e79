//! `cargo xtask tidy`: rules that no compiler checks. Each is a function from files to findings, so that it is tested
//! on made-up files.
//!
//! | rule | file |
//! |---|---|
//! | which module may use which, and which crate lives in which module | [`direction`] |
//! | files that import each other in a circle | [`circles`] |
//! | links between pages, and the book's contents | [`links`] |
//! | size and opening of source files; leftovers, machine paths and mirrors in any file | [`text`] |

mod circles;
mod direction;
mod finding;
mod links;
mod text;

use anyhow::ensure;

use crate::sh::say;
use crate::workspace::{self, File};
use finding::Finding;

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

#[cfg(test)]
mod tests;
