//! `cargo xtask vm`: a host of another kind than this one, in QEMU: cgroup v2 alone, systemd, and the Docker and the
//! kernel of a Debian suite, made of Debian's packages.
//!
//! The image is built once for a recipe (`guest/`), and lies outside the checkout. Where only emulation works, which
//! boots slowly, the machine's state is saved when Docker is ready, and every later run begins there. No guest has a
//! network beyond its own, and none outlives the command that started it.

mod accelerator;
mod archive;
mod binaries;
mod cache;
mod emulator;
mod end_to_end;
mod faults;
mod fixture;
mod host;
mod image;
mod machine;
mod qmp;
mod session;
mod state;
mod suite;
mod terminal;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use accelerator::Accelerator;
use session::Job;
use suite::Suite;

const USAGE: &str = "\
usage: cargo xtask vm [--suite NAME] [--accel auto|kvm|tcg] [--mirror URL] [--limit SECONDS] COMMAND

  build             makes the image, and the saved state where there is no KVM
  test [FILTER...]  the end-to-end tests in the guest; with words, only tests whose names hold one of them
  faults            guests that hang, do not boot or are killed: that they end, and leave nothing
  capture           the guest's fixture in tests/fixtures, with containers made for it
  shell             a terminal in the guest
  run [--in DIR] [--out DIR] -- COMMAND...
                    runs a command there as root, and ends with its status. DIR's content is in /in, where the command
                    starts; what it leaves in /out comes back. One word is a line for the shell.
  clean             removes all images

  --suite NAME      bookworm, trixie or forky (default: trixie)
  --accel WHAT      kvm, tcg (emulation), or what works (default: auto)
  --mirror URL      the archive that packages come from; default: the one that apt uses on this machine
  --limit SECONDS   ends the guest after this time (default: 10800; shell: none; its first boot: 1800 at most)";

/// What the command line says, but for the command itself.
struct Options {
    suite: &'static Suite,
    accelerator: Option<Accelerator>,
    mirror: Option<String>,
    limit: Option<Duration>,
}

/// A guest's command ended with this status, which becomes ours.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) u8);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command in the guest ended with status {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// Does what the command line says.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let (options, command) = parse(arguments)?;
    match command {
        ["build"] => state::prepare(&options).map(drop),
        ["test", filters @ ..] => end_to_end::run(&options, filters),
        ["faults"] => faults::run(&options),
        ["capture"] => fixture::run(&options),
        ["shell"] => terminal::run(&options),
        ["run", rest @ ..] => run_command(&options, rest),
        ["clean"] => cache::clean(),
        [] => bail!("a command is missing\n\n{USAGE}"),
        unknown => bail!("`{}` is not a command of vm\n\n{USAGE}", unknown.join(" ")),
    }
}

fn parse<'a>(arguments: &'a [&'a str]) -> anyhow::Result<(Options, &'a [&'a str])> {
    let mut options = Options { suite: suite::find("trixie")?, accelerator: None, mirror: None, limit: None };
    let mut rest = arguments;
    while let [flag, after @ ..] = rest {
        if !flag.starts_with("--") {
            break;
        }
        let (value, after) = after.split_first().with_context(|| format!("{flag} wants a value\n\n{USAGE}"))?;
        match *flag {
            "--suite" => options.suite = suite::find(value)?,
            "--accel" => options.accelerator = accelerator::parse(value)?,
            "--mirror" => options.mirror = Some((*value).to_owned()),
            "--limit" => options.limit = Some(Duration::from_secs(value.parse().context("--limit wants seconds")?)),
            _ => bail!("`{flag}` is not known\n\n{USAGE}"),
        }
        rest = after;
    }
    Ok((options, rest))
}

fn run_command(options: &Options, arguments: &[&str]) -> anyhow::Result<()> {
    let (mut input, mut output) = (None, None);
    let mut rest = arguments;
    loop {
        match rest {
            ["--in", directory, after @ ..] => {
                input = Some(PathBuf::from(directory));
                rest = after;
            }
            ["--out", directory, after @ ..] => {
                output = Some(PathBuf::from(directory));
                rest = after;
            }
            ["--", command @ ..] if !command.is_empty() => {
                let job = Job { input, output, script: script(command), terminal: false, awaited: None };
                return session::run(options, &job);
            }
            _ => bail!("run wants `-- COMMAND...`\n\n{USAGE}"),
        }
    }
}

/// One word is a line for the shell; several are a command and its arguments.
fn script(words: &[&str]) -> String {
    match words {
        [line] => (*line).to_owned(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse, script};

    #[test]
    fn options_come_before_the_command_and_the_rest_is_left_to_it() {
        let arguments = ["--suite", "forky", "--limit", "9", "run", "--", "ls", "--all"];
        let (options, rest) = parse(&arguments).unwrap();
        assert_eq!((options.suite.name, options.limit), ("forky", Some(Duration::from_secs(9))));
        assert_eq!(rest, ["run", "--", "ls", "--all"]);
        assert!(parse(&["--suite", "sarge", "shell"]).err().unwrap().to_string().contains("bookworm"));
        assert!(parse(&["--suite"]).err().unwrap().to_string().contains("wants a value"));
    }

    #[test]
    fn a_command_reaches_the_shell_word_by_word_and_a_line_as_it_is() {
        assert_eq!(script(&["echo", "it's", "a b"]), r"'echo' 'it'\''s' 'a b'");
        assert_eq!(script(&["cat /proc/version | wc"]), "cat /proc/version | wc");
    }
}
