//! `cargo xtask vm faults`: what becomes of a guest that hangs, of one that does not boot, and of one whose command is
//! killed. Each must end within its limit, say what it saw, and leave no process and no half-made state behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::machine::Process;
use super::{Options, cache, state};
use crate::sh::say;

/// What a guest that hangs is given: its start takes a few seconds of it. On a machine where it takes longer, it is given
/// the second.
const HANGS: [Duration; 2] = [Duration::from_mins(1), Duration::from_mins(10)];

/// What a guest is given that ends by itself.
const ENDS: Duration = Duration::from_mins(20);

/// What may come on top of a limit: the program's start, and the processes' ends.
const MORE: Duration = Duration::from_mins(5);

/// How long the kernel may take to end a process.
const SOON: Duration = Duration::from_mins(1);

/// Runs all three.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let image = state::prepare(options)?.image.file("");
    let faults: [(&str, &dyn Fn() -> anyhow::Result<()>); 3] = [
        ("a guest that hangs", &|| hangs(options)),
        ("a guest that does not boot", &|| does_not_boot(options, &image)),
        ("a command that is killed", &|| is_killed(options)),
    ];
    for (what, check) in faults {
        let start = Instant::now();
        check().context(what)?;
        say(&format!("{what} ... ok ({:.1} s)", start.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// This program with a guest's command and this limit.
fn command(options: &Options, limit: Duration, words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["vm", "--suite", options.suite.name, "--limit", &limit.as_secs().to_string()]).args(words);
    command.stdin(Stdio::null());
    Ok(command)
}

/// What it says before it ends, as it must within the limit, by itself, with a status that is not 0 and nothing left of it.
fn fails_in_time(command: &mut Command, limit: Duration) -> anyhow::Result<String> {
    let said = tempfile::NamedTempFile::new()?;
    let output = said.reopen()?;
    let mut process = Process::start(command.stdout(output.try_clone()?).stderr(output))?;
    let status = process.wait(Some(limit + MORE), || Ok(false))?;
    let said = fs::read_to_string(said.path())?;
    let status = status.with_context(|| format!("not over {MORE:?} after its limit of {limit:?}: {said}"))?;
    ensure!(status.code().is_some_and(|code| code != 0), "it ended with {status}: {said}");
    await_nothing_of(process.id())?;
    Ok(said)
}

fn hangs(options: &Options) -> anyhow::Result<()> {
    const WORDS: &str = "these were my words";
    let line = format!("echo {WORDS}; exec sleep 1d");
    let mut said = String::new();
    for limit in HANGS {
        said = fails_in_time(&mut command(options, limit, &["run", "--", &line])?, limit)?;
        if said.contains(WORDS) {
            break;
        }
    }
    for words in [WORDS, "had not ended after", "the console's last lines"] {
        ensure!(said.contains(words), "not told: {words:?} in {said}");
    }
    Ok(())
}

/// An image like the suite's, but with an empty disk in place of its root.
fn does_not_boot(options: &Options, image: &Path) -> anyhow::Result<()> {
    let scratch = cache::Scratch::new("faults")?;
    let (from, to) = (cache::root()?, scratch.path().join("docker-stats-exporter/vm"));
    let name = image.components().next_back().context("the image's name")?;
    fs::create_dir_all(to.join(name))?;
    for entry in fs::read_dir(&from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("qemu-") {
            symlink(&path, to.join(name))?;
        }
    }
    for file in ["vmlinuz", "initrd", "data.ext4"] {
        symlink(image.join(file), to.join(name).join(file))?;
    }
    fs::File::create(to.join(name).join("root.ext4"))?.set_len(1 << 30)?;
    let mut command = command(options, ENDS, &["--accel", "tcg", "build"])?;
    let said = fails_in_time(command.env("XDG_CACHE_HOME", scratch.path()), ENDS)?;
    for words in ["the guest does not boot", "the console's last lines", "panic"] {
        ensure!(said.contains(words), "not told: {words:?} in {said}");
    }
    let left = fs::read_dir(to.join(name))?.filter_map(Result::ok).map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("state-")).collect();
    ensure!(left.is_empty(), "a state of a guest that never booted: {left:?}");
    Ok(())
}

fn is_killed(options: &Options) -> anyhow::Result<()> {
    let mut command = command(options, ENDS, &["run", "--", "sleep 1d"])?;
    let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let pid = process.id();
    let is_emulator = |process: &PathBuf| {
        // As a program that starts QEMU it is not bound to its parent's life yet.
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("-netdev") && !words.starts_with(b"setpriv")
    };
    let there = || anyhow::Ok(processes_of(pid)?.iter().any(is_emulator));
    let ended = process.wait(Some(ENDS), there)?;
    ensure!(ended.is_none(), "it ended with {ended:?} before there was a guest");
    ensure!(there()?, "no guest after {ENDS:?}");
    // By SIGKILL, against which it can do nothing.
    drop(process);
    await_nothing_of(pid)
}

fn await_nothing_of(pid: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let left = processes_of(pid)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < SOON, "still running {SOON:?} after the command's end: {left:?}");
        sleep(Duration::from_millis(50));
    }
}

/// The machines that process `pid` has started: they work in one of its run directories, even when that is removed.
fn processes_of(pid: u32) -> anyhow::Result<Vec<PathBuf>> {
    let runs = format!("vm/runs/{pid}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // A process may have ended meanwhile, and the kernel's own have no directory.
        let works_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        if works_in.to_string_lossy().contains(&runs) {
            found.push(process);
        }
    }
    Ok(found)
}
