//! Renders `--help`, `--version` and the README's table from the flag table.

use super::args::COMMANDS;
use super::flag::{Flag, Group};
use super::table::FLAGS;

/// Text before the flags.
const HEAD: &str = "\
Prometheus metrics of every container on this host, read straight from the kernel.

Usage: docker-stats-exporter [COMMAND] [FLAG...]

Without a command it serves. `--flag=value` and `--flag value` are the same; a flag beats its variable; of a flag
given twice the last one counts. A variable that is set but empty counts as not set.

Commands:
";

/// Returns the text of `--help`.
pub(super) fn help() -> String {
    let mut text = HEAD.to_owned();
    for (name, _, about) in COMMANDS {
        line(&mut text, &format!("  {name:<13}{about}"));
    }
    for group in Group::ALL {
        text.push('\n');
        line(&mut text, &format!("{}:", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == *group) {
            describe(&mut text, flag);
        }
    }
    text
}

/// Returns the text of `--version`.
pub(super) fn version() -> String {
    let revision = env!("BUILD_REVISION");
    format!("docker-stats-exporter {} (revision {revision})\n", env!("CARGO_PKG_VERSION"))
}

/// Returns the flags as a Markdown table, for the README.
#[must_use]
pub fn markdown_table() -> String {
    let mut text = String::from("| flag | environment | default | meaning |\n|---|---|---|---|\n");
    for flag in FLAGS.iter() {
        let variables: Vec<String> = flag.variables.iter().map(|name| format!("`{name}`")).collect();
        let cells = [flag_cell(flag), variables.join(", "), default_cell(flag), flag.help.replace('|', "\\|")];
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    text
}

/// Returns the commands and their descriptions.
pub fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.iter().map(|(name, _, about)| (*name, *about))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Appends the description of a flag: one line for a collector, two lines for other flags.
fn describe(text: &mut String, flag: &Flag) {
    if flag.collector().is_some() {
        return line(text, &format!("  --[no-]{:<24} {:<4} {}", flag.name, flag.default, flag.help));
    }
    let mut head = match (flag.name.as_ref(), flag.value) {
        ("", value) => format!("  {}={value}", flag.variables.join(", ")),
        (name, "") => format!("  --{name}"),
        (name, value) => format!("  --{name}={value}"),
    };
    let mut notes = Vec::new();
    if !flag.name.is_empty() && !flag.variables.is_empty() {
        notes.push(flag.variables.join(", "));
    }
    if !flag.default.is_empty() {
        notes.push(format!("default {}", flag.default));
    }
    if !notes.is_empty() {
        head = format!("{head}  [{}]", notes.join("; "));
    }
    line(text, &head);
    line(text, &format!("      {}", flag.help));
}

fn flag_cell(flag: &Flag) -> String {
    match (flag.name.as_ref(), flag.collector()) {
        ("", _) => String::new(),
        (name, Some(_)) => format!("`--{name}`, `--no-{name}`"),
        (name, None) => format!("`--{name}`"),
    }
}

fn default_cell(flag: &Flag) -> String {
    match flag.default {
        "" => String::new(),
        default if flag.default_is_value => format!("`{default}`"),
        default => default.to_owned(),
    }
}
