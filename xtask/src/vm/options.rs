//! The command line of `cargo xtask vm` before the command, and the Debian suites that it can name.

use std::time::Duration;

use anyhow::{Context, bail};

use crate::debian;

pub(super) const USAGE: &str = "\
usage: cargo xtask vm [--suite NAME] [--accel auto|kvm|tcg] [--mirror URL] [--limit SECONDS] COMMAND

  build             makes the image, and the saved state where there is no KVM
  test [FILTER...]  the end-to-end tests in the guest; with words, only tests whose names hold one of them
  soak ARGUMENT...  what `cargo xtask soak` does, in the guest
  packages DIR      installs, upgrades and removes the packages in DIR, a later version of which is in DIR/next
  capture           the guest's fixture in tests/fixtures, with containers made for it
  shell             a terminal in the guest
  run [--in DIR] [--out DIR] -- COMMAND...
                    runs a command there as root, and ends with its status. DIR's content is in /in, where the command
                    starts; what it leaves in /out comes back. One word is a line for the shell.
  clean             removes all images

  --suite NAME      bookworm, trixie or forky (default: trixie)
  --accel WHAT      kvm, tcg (emulation), or what works (default: auto)
  --mirror URL      the archive that packages come from; default: the one that apt uses on this machine,
                    where that is Debian, else mmdebstrap's own
  --limit SECONDS   ends the guest after this time (default: 10800; shell: none; its first boot: 1800 at most)";

/// How the guest's processor is provided: by KVM or by emulation (TCG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

/// The options before the command.
pub(super) struct Options {
    pub(super) suite: &'static Suite,
    pub(super) accelerator: Option<Accelerator>,
    mirror: Option<String>,
    pub(super) limit: Option<Duration>,
}

impl Options {
    /// Returns the archive of the packages; `None` leaves the choice to mmdebstrap.
    pub(super) fn mirror(&self) -> anyhow::Result<Option<String>> {
        self.mirror.clone().map_or_else(debian::mirror, |mirror| Ok(Some(mirror)))
    }
}

pub(super) fn parse<'a>(arguments: &'a [&'a str]) -> anyhow::Result<(Options, &'a [&'a str])> {
    let mut options = Options { suite: find("trixie")?, accelerator: None, mirror: None, limit: None };
    let mut rest = arguments;
    while let [flag, after @ ..] = rest {
        if !flag.starts_with("--") {
            break;
        }
        let (value, after) = after.split_first().with_context(|| format!("{flag} wants a value\n\n{USAGE}"))?;
        match *flag {
            "--suite" => options.suite = find(value)?,
            "--accel" => options.accelerator = accelerator(value)?,
            "--mirror" => options.mirror = Some((*value).to_owned()),
            "--limit" => options.limit = Some(Duration::from_secs(value.parse().context("--limit wants seconds")?)),
            _ => bail!("`{flag}` is not known\n\n{USAGE}"),
        }
        rest = after;
    }
    Ok((options, rest))
}

/// Parses the value of `--accel`; `None` means that the accelerator is chosen later.
fn accelerator(word: &str) -> anyhow::Result<Option<Accelerator>> {
    match word {
        "auto" => Ok(None),
        "kvm" => Ok(Some(Accelerator::Kvm)),
        "tcg" => Ok(Some(Accelerator::Tcg)),
        other => bail!("--accel is kvm, tcg or auto, not `{other}`"),
    }
}

/// A Debian suite that guests are made of.
#[derive(Debug)]
pub(super) struct Suite {
    /// Debian's name.
    pub(super) name: &'static str,
    /// Versions of its main packages, for messages.
    pub(super) what: &'static str,
    /// Name of its captured host in `tests/fixtures`.
    pub(super) fixture: &'static str,
    /// Packages that only this suite has or needs.
    packages: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "bookworm",
        fixture: "debian12-v2-systemd",
        what: "Linux 6.1, systemd 252, Docker 20.10, Podman 4.3",
        // Without its parser this Docker starts no container.
        packages: &["apparmor"],
    },
    Suite {
        name: "trixie",
        fixture: "debian13-v2-systemd",
        what: "Linux 6.12, systemd 257, Docker 26.1, Podman 5.4",
        packages: &["docker-cli"],
    },
    Suite {
        name: "forky",
        fixture: "debian14-v2-systemd",
        what: "Linux 7, systemd 260 and later, Docker 28, Podman 5",
        packages: &["docker-cli"],
    },
];

/// Packages of every guest: those of a Docker host, and those that the tests call.
const PACKAGES: &[&str] = &[
    "bpftool",
    "busybox-static",
    "dbus",
    "docker.io",
    "iproute2",
    "iptables",
    "kmod",
    "podman",
    "procps",
    "rpm",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// The kernel for clouds, which is small and has the drivers of a virtual machine.
pub(super) const KERNEL: &str = "linux-image-cloud-amd64";

/// Returns the suite of this name.
fn find(name: &str) -> anyhow::Result<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name).with_context(|| {
        let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        format!("`{name}` is no suite that this command knows: {}", known.join(", "))
    })
}

impl Suite {
    /// Returns the packages, comma-separated for mmdebstrap.
    pub(super) fn packages(&self) -> String {
        PACKAGES.iter().chain(self.packages).copied().collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn options_come_before_the_command_and_the_rest_is_left_to_it() {
        let arguments = ["--suite", "forky", "--limit", "9", "run", "--", "ls", "--all"];
        let (options, rest) = parse(&arguments).unwrap();
        assert_eq!((options.suite.name, options.limit), ("forky", Some(Duration::from_secs(9))));
        assert_eq!(rest, ["run", "--", "ls", "--all"]);
        assert!(parse(&["--suite", "sarge", "shell"]).err().unwrap().to_string().contains("bookworm"));
        assert!(parse(&["--suite"]).err().unwrap().to_string().contains("wants a value"));
    }
}
