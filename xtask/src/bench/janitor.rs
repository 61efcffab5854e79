//! Sees to it that nothing of a benchmark stays on the host: a process outside of our process group, which waits until we are gone
//! and then removes what we made: also after a signal, SIGKILL included.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::{containers, population};
use crate::sh::say;

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    Cgroups,
    Containers,
}

impl Leftovers {
    const ALL: [(&'static str, Self); 2] = [("cgroups", Self::Cgroups), ("containers", Self::Containers)];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, what)| *what == self).map_or("", |(word, _)| word)
    }

    fn remove(self) -> anyhow::Result<()> {
        match self {
            Self::Cgroups => population::remove_all(),
            Self::Containers => containers::remove_all(),
        }
    }
}

/// The process; it does its work when the value goes.
#[derive(Debug)]
pub(super) struct Janitor {
    process: Child,
    what: Leftovers,
}

impl Janitor {
    /// Starts it. Removes what an earlier run has left.
    pub(super) fn start(what: Leftovers) -> anyhow::Result<Self> {
        let lock = lock()?;
        what.remove()?;
        let program = std::env::current_exe().context("cannot find our own binary")?;
        let process = Command::new(program)
            .args(["bench", "janitor", what.word()])
            .stdin(Stdio::piped())
            // The lock goes with the last who holds the file: no other benchmark starts before all is removed.
            .stdout(lock)
            .process_group(0)
            .spawn()
            .context("cannot start the janitor")?;
        Ok(Self { process, what })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        match self.process.wait() {
            Ok(status) if status.success() => {}
            outcome => say(&format!("the {} may not all be removed: {outcome:?}", self.what.word())),
        }
    }
}

/// The process' own side: waits until whoever started it is gone, then removes everything.
pub(super) fn serve(what: &str) -> anyhow::Result<()> {
    let Some((_, what)) = Leftovers::ALL.iter().find(|(word, _)| *word == what) else { bail!("the janitor of what?") };
    io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end")?;
    what.remove()
}

/// One benchmark at a time: another one's cgroups would be taken for leftovers.
fn lock() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("docker-stats-bench.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.try_lock().with_context(|| format!("another benchmark runs on this host: it holds {}", path.display()))?;
    Ok(file)
}
