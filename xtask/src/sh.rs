//! Runs the commands behind the subcommands: each one is shown before it runs.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace;

/// One line for the person in front of the terminal.
#[expect(clippy::print_stderr, reason = "a command-line tool; stdout belongs to the commands it runs")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Runs a command whose words have no spaces.
pub(crate) fn run(command: &str) -> anyhow::Result<()> {
    Sh { variables: &[], words: &command.split(' ').collect::<Vec<_>>() }.run()
}

/// A command as it would be typed in the workspace's root.
#[derive(Clone, Debug)]
pub(crate) struct Sh<'a> {
    /// Variables set before the command.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// The program and its arguments.
    pub(crate) words: &'a [&'a str],
}

impl Sh<'_> {
    /// Shows the command, runs it in the workspace's root and waits for it. It reads no input.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        say(&format!("$ {self}"));
        let Some((program, arguments)) = self.words.split_first() else { bail!("an empty command") };
        let status = Command::new(program)
            .args(arguments)
            .envs(self.variables.iter().copied())
            .envs(python().map(|python| ("PYTHON", python)))
            .envs(prometheus_3().map(|program| ("PROMETHEUS_3", program)))
            .current_dir(workspace::root())
            .stdin(std::process::Stdio::null())
            .status()
            .with_context(|| format!("cannot start `{program}`: is it installed and in PATH?"))?;
        if !status.success() {
            bail!("`{self}` ended with {status}");
        }
        Ok(())
    }
}

/// The Python that has what the tests need, where it is not this machine's own.
fn python() -> Option<PathBuf> {
    let ours = workspace::python().ok()?.join("bin/python3");
    (std::env::var_os("PYTHON").is_none() && ours.exists()).then_some(ours)
}

/// The Prometheus 3 that was unpacked for the tests.
fn prometheus_3() -> Option<PathBuf> {
    let ours = workspace::prometheus_3().ok()?;
    (std::env::var_os("PROMETHEUS_3").is_none() && ours.exists()).then_some(ours)
}

/// A word as the shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl fmt::Display for Sh<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.variables {
            write!(f, "{name}={value} ")?;
        }
        f.write_str(&self.words.join(" "))
    }
}
