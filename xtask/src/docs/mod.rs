//! `cargo xtask docs [--check]`: generates parts of the documentation, the manual page and the completions from the code.
//!
//! [`settle`] compares a generated text with the file on disk. It rewrites the file, or fails with `--check`.

mod cadvisor;
mod completions;
mod manual;

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::sh::say;
use crate::workspace;

const BOUNDS: [&str; 2] = ["<!-- bounds:begin -->", "<!-- bounds:end -->"];
const FLAGS_BEGIN: &str = "<!-- flags:begin -->";
const FLAGS_END: &str = "<!-- flags:end -->";

/// Writes every generated file, or only compares it.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    settle(check, &workspace::root().join("docs/METRICS.md"), &docker_stats_exporter::metrics::markdown())?;
    let list = workspace::root().join("tests/cadvisor/families.tsv");
    let page = cadvisor::page(&read(&list)?).with_context(|| list.display().to_string())?;
    settle(check, &workspace::root().join("docs/CADVISOR.md"), &page)?;
    let path = workspace::root().join("docs/FLAGS.md");
    let table = docker_stats_exporter::config::markdown_table();
    let page = with_block(&read(&path)?, FLAGS_BEGIN, FLAGS_END, &table).with_context(|| path.display().to_string())?;
    settle(check, &path, &page)?;
    let path = workspace::root().join("SECURITY.md");
    let [begin, end] = BOUNDS;
    let bounds = bounds();
    settle(check, &path, &with_block(&read(&path)?, begin, end, &bounds).with_context(|| path.display().to_string())?)?;
    let packages = workspace::root().join("deploy/package");
    settle(check, &packages.join("docker-stats-exporter.1"), &manual::page())?;
    let completions = packages.join("completions");
    settle(check, &completions.join("docker-stats-exporter.bash"), &completions::bash())?;
    settle(check, &completions.join("_docker-stats-exporter"), &completions::zsh())?;
    settle(check, &completions.join("docker-stats-exporter.fish"), &completions::fish())
}

/// Returns the bounds for clients and engines as a table.
fn bounds() -> String {
    let others = ("cgroups that are no containers", docker_stats_exporter::discover::MAX_OTHERS.to_string());
    let rows = docker_stats_exporter::serve::bounds().into_iter().chain(docker_stats_exporter::docker::bounds());
    let rows = rows.chain([others]);
    let lines = rows.map(|(what, number)| format!("| {what} | {number} |"));
    ["| what | at most |".to_owned(), "|---|---|".to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

fn settle(check: bool, path: &Path, expected: &str) -> anyhow::Result<()> {
    settle_by("cargo xtask docs", check, path, expected)
}

/// Makes the file say `expected`, or fails where it does not, with the command that writes it.
pub(crate) fn settle_by(command: &str, check: bool, path: &Path, expected: &str) -> anyhow::Result<()> {
    let found = if path.exists() { read(path)? } else { String::new() };
    if found == expected {
        return Ok(());
    }
    let name = path.strip_prefix(workspace::root()).unwrap_or(path).display();
    ensure!(
        !check,
        "{name} is not what the code says, first at {}; run `{command}` and commit the file",
        first_difference(&found, expected)
    );
    say(&format!("writing {name}"));
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, expected).with_context(|| format!("cannot write {name}"))
}

/// The first line that differs, as a person would look for it.
fn first_difference(found: &str, expected: &str) -> String {
    let same = found.lines().zip(expected.lines()).take_while(|(left, right)| left == right).count();
    let line = |text: &str| text.lines().nth(same).map_or("the end of the file".to_owned(), |line| format!("{line:?}"));
    format!("line {}: it has {}, the code says {}", same + 1, line(found), line(expected))
}

/// `page` with what stands between the two marker lines replaced.
pub(crate) fn with_block(page: &str, begin: &str, end: &str, block: &str) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(begin).with_context(|| format!("the marker {begin} is missing"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("the marker {end} is missing after {begin}"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", block.trim_end()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{FLAGS_BEGIN, FLAGS_END, first_difference, settle, with_block};

    #[test]
    fn a_block_is_replaced_and_the_rest_is_left_alone() {
        let page = format!("top\n{FLAGS_BEGIN}\nold\n{FLAGS_END}\nbottom\n");
        let new = with_block(&page, FLAGS_BEGIN, FLAGS_END, "| a |\n").unwrap();
        assert_eq!(new, format!("top\n{FLAGS_BEGIN}\n| a |\n{FLAGS_END}\nbottom\n"));
        assert_eq!(with_block(&new, FLAGS_BEGIN, FLAGS_END, "| a |\n").unwrap(), new, "twice is as good as once");
    }

    #[test]
    fn a_missing_marker_is_named() {
        let error = with_block(&format!("{FLAGS_BEGIN}\n"), FLAGS_BEGIN, FLAGS_END, "").unwrap_err().to_string();
        assert!(error.contains(FLAGS_END), "{error}");
    }

    #[test]
    fn a_stale_file_fails_the_check_with_the_command_that_repairs_it_and_is_written_otherwise() {
        let path = std::env::temp_dir().join(format!("xtask-docs-{}", std::process::id()));
        std::fs::write(&path, "a\nb\n").unwrap();
        let error = settle(true, &path, "a\nc\n").unwrap_err().to_string();
        assert!(error.contains("cargo xtask docs") && error.contains("line 2"), "{error}");
        settle(false, &path, "a\nc\n").unwrap();
        settle(true, &path, "a\nc\n").unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_ends_too_early_differs_at_its_end() {
        assert_eq!(first_difference("a\n", "a\nb\n"), "line 2: it has the end of the file, the code says \"b\"");
    }
}
