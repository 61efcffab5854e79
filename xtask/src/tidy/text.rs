//! Checks the text of files: size and first line of source files; leftover notes, paths of machines and mirrors in any file.

use std::env;

use super::{Finding, numbered};
use crate::workspace;

/// Greatest number of lines.
const TOO_LONG: usize = 500;

/// Notes about unfinished work, which belongs in issues.
const LEFTOVERS: [&str; 2] = ["TODO", "FIXME"];

/// Hosts of registries and mirrors, which belong in the configuration of tools and machines.
const HOSTS: [&str; 8] = [
    "index.crates.io",
    "static.crates.io",
    "static.rust-lang.org",
    "pypi.org",
    "files.pythonhosted.org",
    "deb.debian.org",
    "registry-1.docker.io",
    "proxy.golang.org",
];

/// Directories of users' homes.
const HOMES: [&str; 2] = ["/home/", "/Users/"];

/// The rules and their tests, which contain the forbidden words.
const RULES: &str = "xtask/src/tidy/";

/// Paths that only this machine has.
#[derive(Debug, Default)]
pub(super) struct Private {
    pub(super) paths: Vec<String>,
}

impl Private {
    /// The checkout and the home directory.
    pub(super) fn of_this_machine() -> Self {
        let checkout = workspace::root().to_string_lossy().into_owned();
        let home = env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/"));
        Self { paths: std::iter::once(checkout).chain(home).collect() }
    }
}

pub(super) fn check(path: &str, content: &str, private: &Private) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_rust(path) {
        findings.extend(size(path, content));
        findings.extend(opening(path, content));
    }
    if !path.starts_with(RULES) && !path.ends_with("LICENSE-APACHE") {
        let lines = numbered(content);
        findings.extend(lines.flat_map(|(number, line)| words(&format!("{path}:{number}"), line, private)));
    }
    findings
}

fn is_rust(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn size(path: &str, content: &str) -> Option<Finding> {
    let lines = content.lines().count();
    let what = || format!("{lines} lines; at most {TOO_LONG}: split it by what it does");
    (lines > TOO_LONG).then(|| Finding::new(path, what()))
}

/// A file says what it is before it says anything else.
fn opening(path: &str, content: &str) -> Option<Finding> {
    let first = content.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if first.is_some_and(|line| line.starts_with("//! ")) {
        return None;
    }
    Some(Finding::new(path, "does not begin with `//!`: say what the file does, what it does not, and who calls it"))
}

fn words(location: &str, line: &str, private: &Private) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(word) = LEFTOVERS.iter().find(|word| has_word(line, word)) {
        findings.push(Finding::new(location, format!("{word}: do it, or write an issue")));
    }
    if let Some(host) = HOSTS.iter().find(|host| line.contains(*host)) {
        findings
            .push(Finding::new(location, format!("names the host {host}; leave it to the tool's own configuration")));
    }
    let machine = HOMES.iter().copied().chain(private.paths.iter().map(String::as_str));
    if let Some(path) = machine.into_iter().find(|path| begins_in(line, path)) {
        findings.push(Finding::new(location, format!("names {path}, which only this machine has")));
    }
    findings
}

/// Returns whether a line has this path, alone or as the beginning of a longer one. `1/root/etc` is no path of root's, and
/// `/tmp/metrics` none below `/tmp/metric`.
fn begins_in(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, found)| {
        let (before, after) = neighbours(line, start, found);
        let goes_on = |character: char| character.is_alphanumeric() || "_-".contains(character);
        !before.is_some_and(|character| character.is_alphanumeric() || "}>._-".contains(character))
            && (path.ends_with('/') || !after.is_some_and(goes_on))
    })
}

/// Returns the characters before and after what was found at `start`.
fn neighbours(line: &str, start: usize, found: &str) -> (Option<char>, Option<char>) {
    let before = line.get(..start).and_then(|text| text.chars().next_back());
    let after = line.get(start + found.len()..).and_then(|text| text.chars().next());
    (before, after)
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_a_name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, found)| {
        let (before, after) = neighbours(line, start, found);
        !before.is_some_and(part_of_a_name) && !after.is_some_and(part_of_a_name)
    })
}
