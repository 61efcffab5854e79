//! Runs one command in a guest, from copying its files to its exit status.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

use super::cache;
use super::machine::Machine;
use super::options::Options;
use super::state::{self, Ready};
use crate::sh::{self, say};

/// Default time limit of a run. All tests take a quarter of an hour in an emulated guest on an idle machine, and several
/// times as long on a busy one.
const LIMIT: Duration = Duration::from_hours(3);

/// Name of the directory with the guest's command, in the directory that the command starts in.
const ORDERS: &str = ".guest";

/// The status of a guest's command, which becomes this program's.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) u8);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command in the guest ended with status {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// A command for the guest, and its files.
#[derive(Default)]
pub(super) struct Job {
    /// Directory whose content is copied to `/in`.
    pub(super) input: Option<PathBuf>,
    /// Directory that the content of `/out` is copied to.
    pub(super) output: Option<PathBuf>,
    /// Script for `sh`.
    pub(super) script: String,
    /// Whether the command talks to this terminal.
    pub(super) terminal: bool,
}

/// Runs a job; a status that is not 0 is the error [`Ended`].
pub(super) fn run(options: &Options, job: &Job) -> anyhow::Result<()> {
    let ready = state::prepare(options)?;
    let start = Instant::now();
    let scratch = cache::Scratch::new("run")?;
    let directory = scratch.path();
    write_archive(job, directory)?;
    let Ready { emulator, image, accelerator, saved } = &ready;
    let root = saved.as_ref().map_or_else(|| image.file("root.ext4"), |saved| saved.join("root.ext4"));
    let machine =
        Machine { emulator, image, accelerator: *accelerator, directory, root, keep: false, terminal: job.terminal };
    let mut process = machine.start(&saved.as_deref().map(state::incoming).unwrap_or_default())?;
    let mut said = File::open(directory.join("output"))?;
    let mut started = None;
    let limit = options.limit.or((!job.terminal).then_some(LIMIT));
    let ended = process.wait(limit, || {
        if started.is_none() && machine.has_said("started") {
            started = Some(start.elapsed());
        }
        pass_on(&mut said)?;
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
        read_archive(directory, output)?;
    }
    let started = started.unwrap_or_default().as_secs_f64();
    let suite = options.suite.name;
    let ended = start.elapsed().as_secs_f64();
    say(&format!("{suite}: the command started after {started:.1} s, all ended after {ended:.1} s"));
    match code.parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Ended(code).into()),
        Err(error) => bail!("the guest's status is {code:?}: {error}"),
    }
}

/// Prints the command's output since the last call.
fn pass_on(from: &mut File) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&bytes)?;
    Ok(out.flush()?)
}

/// Writes the archive with the job's files and its command.
fn write_archive(job: &Job, directory: &Path) -> anyhow::Result<()> {
    let orders = directory.join(ORDERS);
    fs::create_dir(&orders)?;
    fs::write(orders.join("command"), format!("{}\n", job.script))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    fs::write(orders.join("time"), format!("{}\n", now.as_secs()))?;
    if job.terminal {
        fs::write(orders.join("terminal"), "")?;
    }
    let mut command = Command::new("tar");
    command.args(["--create", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--file"]);
    command.arg(directory.join("in")).arg("-C").arg(directory).arg(ORDERS);
    if let Some(input) = &job.input {
        let input = fs::canonicalize(input).with_context(|| input.display().to_string())?;
        command.arg("-C").arg(input).arg(".");
    }
    sh::output(&mut command).map(drop)
}

/// Unpacks what the guest left in `/out`.
fn read_archive(directory: &Path, output: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let mut command = Command::new("tar");
    command.args(["--extract", "--no-same-owner", "--file"]).arg(directory.join("out")).arg("-C").arg(output);
    sh::output(&mut command).map(drop)
}
