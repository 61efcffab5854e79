//! `cargo xtask vm shell`: this terminal, in the guest.

use std::io::IsTerminal;
use std::process::{Command, Stdio};

use anyhow::ensure;

use super::session::{self, Job};
use super::{Options, quoted};

/// Opens a shell in the guest, with the terminal's kind and size.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(std::io::stdin().is_terminal(), "shell wants a terminal; for scripts there is `run -- COMMAND`");
    let kind = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    let size = stty(&["size"]).unwrap_or_default();
    let (rows, columns) = size.split_once(' ').unwrap_or(("24", "80"));
    let script = format!(
        "export TERM={}; stty sane rows {rows} cols {columns}; echo 'in the guest; exit ends it'; bash -l",
        quoted(&kind)
    );
    let before = stty(&["--save"]);
    let ended = session::run(options, &Job { input: None, output: None, script, terminal: true, awaited: None });
    // QEMU may have left it raw.
    if let Some(before) = before {
        stty(&[&before]);
    }
    ended
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
