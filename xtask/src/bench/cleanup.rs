//! Removes what a benchmark has made when it ends, also by a signal, SIGKILL included: a process outside of our process group waits
//! until we are gone.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use super::{cgroups, containers};
use crate::sh::say;

/// The process; it does its work when the value goes.
#[derive(Debug)]
pub(super) struct Cleanup(Child);

impl Cleanup {
    /// Starts the process, and removes what an earlier run has left: containers of the engine, or else cgroups.
    pub(super) fn start(docker: bool) -> anyhow::Result<Self> {
        let lock = lock()?;
        remove(docker)?;
        let program = std::env::current_exe().context("cannot find our own binary")?;
        let process = Command::new(program)
            .args(["bench", "cleanup", if docker { "containers" } else { "cgroups" }])
            .stdin(Stdio::piped())
            // The lock goes with the last who holds the file: no other benchmark starts before all is removed.
            .stdout(lock)
            .process_group(0)
            .spawn()
            .context("cannot start the process that cleans up")?;
        Ok(Self(process))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        match self.0.wait() {
            Ok(status) if status.success() => {}
            outcome => say(&format!("what was made may not all be removed: {outcome:?}")),
        }
    }
}

/// The process' own side: waits until whoever started it is gone, then removes everything.
pub(super) fn serve(what: &str) -> anyhow::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end")?;
    remove(what == "containers")
}

fn remove(docker: bool) -> anyhow::Result<()> {
    if docker { containers::remove_all() } else { cgroups::remove_all() }
}

/// One benchmark at a time: another one's cgroups would be taken for leftovers.
fn lock() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("docker-stats-bench.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.try_lock().with_context(|| format!("another benchmark runs on this host: it holds {}", path.display()))?;
    Ok(file)
}
