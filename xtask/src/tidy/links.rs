//! Checks links between pages: each link leads to a file, and its fragment to a heading in that file. `docs/` is also a
//! book, so its links stay inside and its contents (`docs/SUMMARY.md`) list every page. Links to other sites are ignored.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::Finding;
use crate::workspace::File;

/// The directory of the book.
const BOOK: &str = "docs/";
/// The contents of the book.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Checks every page of the workspace.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let pages: BTreeMap<&str, &str> = files
        .iter()
        .filter(|file| Path::new(&file.path).extension().is_some_and(|kind| kind == "md"))
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
        .collect();
    let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let is_there = |path: &str| {
        let directory = format!("{path}/");
        path.is_empty() || paths.contains(path) || paths.iter().any(|file| file.starts_with(&directory))
    };
    let mut findings = Vec::new();
    let mut listed = HashSet::new();
    for (page, text) in &pages {
        for (line, link) in links(text) {
            let position = format!("{page}:{line}");
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { (*page).to_owned() } else { resolved(page, path) };
            if *page == SUMMARY {
                listed.insert(target.clone());
            }
            if !is_there(&target) {
                findings.push(Finding::new(position, format!("links to {target}, which is not there")));
            } else if page.starts_with(BOOK) && !target.starts_with(BOOK) {
                let what = format!("links to {target}, which is not in the book: write the repository's address");
                findings.push(Finding::new(position, what));
            } else if let Some(other) = pages.get(target.as_str())
                && !fragment.is_empty()
                && !anchors(other).contains(fragment)
            {
                findings
                    .push(Finding::new(position, format!("links to #{fragment}, and {target} has no such heading")));
            }
        }
    }
    if pages.contains_key(SUMMARY) {
        let book = pages.keys().filter(|page| page.starts_with(BOOK) && **page != SUMMARY && !listed.contains(**page));
        findings.extend(book.map(|page| Finding::new(*page, format!("is not in {SUMMARY}"))));
    }
    findings
}

/// A path beside a page, from the workspace's root.
fn resolved(page: &str, path: &str) -> String {
    let mut parts = PathBuf::new();
    for part in Path::new(page).parent().unwrap_or(Path::new("")).join(path).components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name),
            _ => {}
        }
    }
    parts.to_string_lossy().into_owned()
}

/// Lines of a page that are no code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// Targets of links to this workspace, with their lines.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.match_indices("](").filter_map(move |(start, opening)| {
            // An odd number of quotes before it: within code.
            let is_code = line.get(..start)?.matches('`').count() % 2 == 1;
            let target = line.get(start + opening.len()..)?.split([')', ' ']).next()?;
            let is_ours = !target.contains("://") && !target.starts_with("mailto:");
            (!is_code && is_ours && !target.is_empty()).then_some((number, target))
        })
    })
}

/// What fragments of a page's headings are, as GitHub and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut anchors = HashSet::new();
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#')).map(|line| line.trim_start_matches('#'));
    for heading in headings.filter(|heading| heading.starts_with(' ')) {
        let signs = heading.trim().to_lowercase();
        let signs = signs.chars().filter(|sign| sign.is_alphanumeric() || [' ', '-', '_'].contains(sign));
        let name: String = signs.map(|sign| if sign == ' ' { '-' } else { sign }).collect();
        let again = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(again).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: Some((*text).to_owned()) };
        let files: Vec<File> = files.iter().map(file).collect();
        check(&files).into_iter().map(|finding| format!("{}: {}", finding.location, finding.what)).collect()
    }

    #[test]
    fn a_link_leads_to_a_file_a_directory_or_a_heading() {
        let good = "# One two\n[a](docs/B.md#c-d) [b](deploy) [c](#one-two) [d](https://a.example/x) `[e](f)`\n```\n[g](h)\n```\n";
        let other = "# C: `d`\n# C: `d`\n[back](#c-d-1)\n";
        assert!(findings(&[("A.md", good), ("docs/B.md", other), ("deploy/x.yaml", "")]).is_empty());
        let found = findings(&[("A.md", "\n[a](docs/C.md) [b](docs/B.md#e)\n"), ("docs/B.md", other)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("A.md:2: links to docs/C.md, which is not there"), "{found:?}");
        assert!(found[1].contains("#e, and docs/B.md has no such heading"), "{found:?}");
    }

    #[test]
    fn the_book_is_whole_and_links_within_itself() {
        let files = [
            ("docs/SUMMARY.md", "[b](B.md)"),
            ("docs/B.md", "[r](../README.md)"),
            ("docs/D.md", ""),
            ("README.md", ""),
        ];
        let found = findings(&files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/B.md:1: links to README.md, which is not in the book"), "{found:?}");
        assert_eq!(found[1], "docs/D.md: is not in docs/SUMMARY.md");
    }
}
