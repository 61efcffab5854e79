//! Runs and shows the commands behind the subcommands.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::workspace;

/// Prints a line to stderr.
#[expect(clippy::print_stderr, reason = "a command-line tool; stdout belongs to the commands it runs")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Shows and runs a command line whose words contain no spaces.
pub(crate) fn run(command: &str) -> anyhow::Result<()> {
    Sh { variables: &[], words: &command.split(' ').collect::<Vec<_>>() }.run()
}

/// Runs a command without input, and returns what it prints to stdout.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{shown}` ended with {}: {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns whether a command ends with 0. It reads no input, and its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns a command line of the cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command that runs in the workspace's root.
#[derive(Clone, Debug)]
pub(crate) struct Sh<'a> {
    /// Environment variables to set.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// The program and its arguments.
    pub(crate) words: &'a [&'a str],
}

impl Sh<'_> {
    /// Shows the command and runs it in the workspace's root. The command reads no input.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        say(&format!("$ {self}"));
        let Some((program, arguments)) = self.words.split_first() else { bail!("an empty command") };
        let status = Command::new(program)
            .args(arguments)
            .envs(self.variables.iter().copied())
            .envs(python().map(|python| ("PYTHON", python)))
            .envs(prometheus_3().map(|program| ("PROMETHEUS_3", program)))
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start `{program}`: is it installed and in PATH?"))?;
        if !status.success() {
            bail!("`{self}` ended with {status}");
        }
        Ok(())
    }
}

/// Returns the Python that `cargo xtask setup` has installed packages for, unless `PYTHON` names another one.
fn python() -> Option<PathBuf> {
    let ours = workspace::python().ok()?.join("bin/python3");
    (std::env::var_os("PYTHON").is_none() && ours.exists()).then_some(ours)
}

/// Returns the Prometheus 3 that `cargo xtask setup` has unpacked, unless `PROMETHEUS_3` names another one.
fn prometheus_3() -> Option<PathBuf> {
    let ours = workspace::prometheus_3().ok()?;
    (std::env::var_os("PROMETHEUS_3").is_none() && ours.exists()).then_some(ours)
}

/// Quotes a word for the shell.
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
