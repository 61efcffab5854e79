//! Runs the commands behind the subcommands: each one is shown before it runs.

use std::fmt;
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace;

/// One line for the person in front of the terminal.
#[expect(clippy::print_stderr, reason = "a command-line tool; stdout belongs to the commands it runs")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
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

impl fmt::Display for Sh<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.variables {
            write!(f, "{name}={value} ")?;
        }
        f.write_str(&self.words.join(" "))
    }
}
