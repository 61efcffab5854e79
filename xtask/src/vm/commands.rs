//! The commands that run in a guest: the end-to-end tests, packages, a fixture, a terminal, any command.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::options::{Options, USAGE};
use super::session::{self, Job};
use super::{cache, can_run, state};
use crate::sh::{self, quoted, say};
use crate::{compiler, workspace};

/// The tests that read real containers. The others compare with captured hosts or files, with the same result on any host.
/// `guest` changes the host, so it runs only in a guest.
const TESTS: &[&str] = &["harness", "docker", "faults", "ebpf", "guest"];

/// `test`: runs the tests, built static. `words` are arguments of the test programs.
pub(super) fn test(options: &Options, words: &[&str]) -> anyhow::Result<()> {
    can_run()?;
    let input = cache::Scratch::new("input")?;
    // The image and the tests are built at the same time, because unpacking packages leaves a processor free.
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| state::prepare(options).map(drop));
        let built = build_tests(&input.path().join("bin"));
        let prepared = guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        built.and(prepared)
    })?;
    let tests = workspace::root().join("tests");
    copy(&tests.join("fixtures"), &input.path().join("tests"))?;
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let manifest = quoted(&tests.display().to_string());
    let head = format!("set -- {}\nTESTS={}\nMANIFEST={manifest}\n", words.join(" "), quoted(&TESTS.join(" ")));
    let script = head + include_str!("guest/test.sh");
    session::run(options, &Job { input: Some(input.path().to_owned()), script, ..Job::default() })
}

fn build_tests(bin: &Path) -> anyhow::Result<()> {
    build_static(&["build", "--package", "docker-stats-exporter"], bin)?;
    let mut arguments = vec!["test", "--no-run", "--package", "exporter-tests", "--features", "guest"];
    arguments.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    build_static(&arguments, bin)
}

/// `soak`: runs the soak test without the external parsers of formats, which are not in the guest.
pub(super) fn soak(options: &Options, arguments: &[&str]) -> anyhow::Result<()> {
    can_run()?;
    let input = cache::Scratch::new("input")?;
    let bin = input.path().join("bin");
    build_static(&["build", "--package", "docker-stats-exporter"], &bin)?;
    build_static(&["build", "--package", "exporter-tests", "--bin", "soak"], &bin)?;
    let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
    let environment = "EXPORTER_BIN=/in/bin/docker-stats-exporter PATIENCE=10 JUDGES=none";
    let script = format!("uname -sr; {environment} /in/bin/soak {}", words.join(" "));
    session::run(options, &Job { input: Some(input.path().to_owned()), script, ..Job::default() })
}

/// `packages`: installs, upgrades and removes the packages in a directory, whose `next` has a later version.
pub(super) fn packages(options: &Options, directory: &Path) -> anyhow::Result<()> {
    can_run()?;
    let script = include_str!("guest/packages.sh").to_owned();
    session::run(options, &Job { input: Some(directory.to_owned()), script, ..Job::default() })
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    sh::output(Command::new("cp").args(["--recursive", "--no-dereference"]).args([from, to])).map(drop)
}

/// `capture`: replaces the guest's fixture in `tests/fixtures`. Its containers show the features of its kernel.
pub(super) fn capture(options: &Options) -> anyhow::Result<()> {
    can_run()?;
    let name = options.suite.fixture;
    let scratch = cache::Scratch::new("input")?;
    let (input, output) = (scratch.path().join("in"), scratch.path().join("out"));
    build_static(&["build", "--package", "xtask"], &input.join("bin"))?;
    let script = format!("NAME={name}\n{}", include_str!("guest/capture.sh"));
    session::run(options, &Job { input: Some(input), output: Some(output.clone()), script, terminal: false })?;
    let target = workspace::root().join("tests/fixtures").join(name);
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| target.display().to_string())?;
    }
    sh::output(Command::new("cp").arg("--archive").arg(output.join(name)).arg(&target))?;
    say(&format!("captured into {}; look it through, then: cargo xtask bless", target.display()));
    Ok(())
}

/// `shell`: opens a shell of the guest in this terminal, with its type and size.
pub(super) fn shell(options: &Options) -> anyhow::Result<()> {
    ensure!(std::io::stdin().is_terminal(), "shell wants a terminal; for scripts there is `run -- COMMAND`");
    let kind = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    let size = stty(&["size"]).unwrap_or_default();
    let (rows, columns) = size.split_once(' ').unwrap_or(("24", "80"));
    let script = format!(
        "export TERM={}; stty sane rows {rows} cols {columns}; echo 'in the guest; exit ends it'; bash -l",
        quoted(&kind)
    );
    let before = stty(&["--save"]);
    let ended = session::run(options, &Job { script, terminal: true, ..Job::default() });
    // QEMU may leave the terminal in raw mode.
    if let Some(before) = before {
        stty(&[&before]);
    }
    ended
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `run`: runs any command, with files for it and from it.
pub(super) fn run(options: &Options, arguments: &[&str]) -> anyhow::Result<()> {
    let mut job = Job::default();
    let mut rest = arguments;
    loop {
        match rest {
            ["--in", directory, after @ ..] => {
                job.input = Some(PathBuf::from(directory));
                rest = after;
            }
            ["--out", directory, after @ ..] => {
                job.output = Some(PathBuf::from(directory));
                rest = after;
            }
            ["--", command @ ..] if !command.is_empty() => {
                job.script = script(command);
                return session::run(options, &job);
            }
            _ => bail!("run wants `-- COMMAND...`\n\n{USAGE}"),
        }
    }
}

/// Returns the script for a command. One word is a line for the shell; several words are a command and its arguments.
fn script(words: &[&str]) -> String {
    match words {
        [line] => (*line).to_owned(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Builds static programs, which run in any guest without this machine's C library. `arguments` are cargo's (`["test",
/// "--no-run", ...]`). Copies the programs into a directory under their targets' names.
fn build_static(arguments: &[&str], directory: &Path) -> anyhow::Result<()> {
    let target = compiler::host()?.target;
    say(&format!("$ cargo {} --target {target}, static", arguments.join(" ")));
    let output = sh::cargo()
        .args(arguments)
        // Without --target, build scripts and macros would be linked statically, too, and fail.
        .args(["--quiet", "--locked", "--message-format=json-render-diagnostics", "--target", target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Small programs are copied into the guest faster.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments.join(" "), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let binaries: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
    ensure!(!binaries.is_empty(), "cargo {} named no program that it has built", arguments.join(" "));
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (name, path) in binaries {
        fs::copy(&path, directory.join(name)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Returns the name and the path of a program in a message of cargo.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?.into();
    Some((message.pointer("/target/name")?.as_str()?.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::{executable, script};

    #[test]
    fn a_command_reaches_the_shell_word_by_word_and_a_line_as_it_is() {
        assert_eq!(script(&["echo", "it's", "a b"]), r"'echo' 'it'\''s' 'a b'");
        assert_eq!(script(&["cat /proc/version | wc"]), "cat /proc/version | wc");
    }

    #[test]
    fn cargo_s_messages_name_the_programs() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"docker"},"executable":"/t/docker-1"}"#;
        assert_eq!(executable(line), Some(("docker".to_owned(), "/t/docker-1".into())));
        assert!(executable(r#"{"reason":"compiler-artifact","executable":null}"#).is_none());
        assert!(executable("warning: something").is_none());
    }
}
