//! One run of a command in a guest, from its files to its exit status.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::machine::Machine;
use super::state::{self, Ready};
use super::{Ended, Options, archive, cache};
use crate::sh::say;

/// A guest that has not ended by then never will: the whole suite takes a quarter of an hour of an emulated guest on a
/// machine that is its own, and several times as long on a busy one.
const LIMIT: Duration = Duration::from_hours(3);

/// What is to be done in the guest.
pub(super) struct Job {
    /// Its content is in `/in`.
    pub(super) input: Option<PathBuf>,
    /// Gets what is left in `/out`.
    pub(super) output: Option<PathBuf>,
    /// For `sh`.
    pub(super) script: String,
    /// Whether the command talks to this terminal.
    pub(super) terminal: bool,
    /// Words to wait for in the output: how long after this moment they first came is told in the end.
    pub(super) awaited: Option<(Instant, &'static str)>,
}

/// Runs a job; a status that is not 0 is the error [`Ended`].
pub(super) fn run(options: &Options, job: &Job) -> anyhow::Result<()> {
    let ready = state::prepare(options)?;
    let start = Instant::now();
    let scratch = cache::Scratch::new("run")?;
    let directory = scratch.path();
    archive::write(job, directory)?;
    let Ready { emulator, image, accelerator, saved } = &ready;
    let root = saved.as_ref().map_or_else(|| image.file("root.ext4"), |saved| saved.join("root.ext4"));
    let machine =
        Machine { emulator, image, accelerator: *accelerator, directory, root, keep: false, terminal: job.terminal };
    let mut process = machine.start(&saved.as_deref().map(state::incoming).unwrap_or_default())?;
    let mut said = File::open(directory.join("output"))?;
    let (mut started, mut first) = (None, None);
    let limit = options.limit.or((!job.terminal).then_some(LIMIT));
    let ended = process.wait(limit, || {
        if started.is_none() && machine.has_said("started") {
            started = Some(start.elapsed());
        }
        let news = pass_on(&mut said)?;
        if let (None, Some((since, words))) = (first, job.awaited)
            && news.contains(words)
        {
            first = Some(since.elapsed());
        }
        Ok(false)
    })?;
    pass_on(&mut said)?;
    let Some(code) = machine.status("ended ") else {
        let limit = limit.unwrap_or_default();
        let how =
            ended.map_or_else(|| format!("had not ended after {limit:?}"), |status| format!("ended with {status}"));
        bail!("the guest gave no status: it {how}\n{}", machine.last_words());
    };
    if let Some(output) = &job.output {
        archive::read(directory, output)?;
    }
    let started = started.unwrap_or_default().as_secs_f64();
    let suite = options.suite.name;
    let first =
        first.map(|time| format!(", the first result came {:.1} s after the very beginning", time.as_secs_f64()));
    say(&format!(
        "{suite}: the command started after {started:.1} s, all ended after {:.1} s{}",
        start.elapsed().as_secs_f64(),
        first.unwrap_or_default()
    ));
    match code.parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Ended(code).into()),
        Err(error) => bail!("the guest's status is {code:?}: {error}"),
    }
}

/// Shows what the command has said since the last time, and gives it.
fn pass_on(from: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
