//! `cargo xtask setup [WHAT...]`: installs what the tests need and this machine lacks. `cargo xtask test` begins with it.
//!
//! The table below is the only list of programs and packages. Existing programs are not replaced, and no service is
//! started: the tests use a running engine, or start their own.

mod tools;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::sh::{self, Sh, say};
use crate::workspace;

/// What a program is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All tests on this host.
    Tests,
    /// Building and running guests.
    Guests,
    /// Building the objects of exporter-ebpf.
    Ebpf,
    /// Building what a release ships, and checking `deploy/`.
    Dist,
}

impl Purpose {
    const ALL: [Self; 4] = [Tests, Guests, Ebpf, Dist];

    /// Returns its name on the command line.
    const fn word(self) -> &'static str {
        match self {
            Tests => "tests",
            Guests => "guests",
            Ebpf => "ebpf",
            Dist => "dist",
        }
    }
}

/// A needed program, or a needed package without a program.
struct Need {
    purpose: Purpose,
    /// Alternative names in `PATH` or absolute paths, separated by spaces; empty for a package without a program.
    program: &'static str,
    /// Packages with the program, by preference. The first one that apt knows is installed. `UNAME` is the kernel's release.
    packages: &'static str,
}

const fn need(purpose: Purpose, program: &'static str, packages: &'static str) -> Need {
    Need { purpose, program, packages }
}

use Purpose::{Dist, Ebpf, Guests, Tests};

const NEEDS: &[Need] = &[
    need(Tests, "dockerd", "docker.io"),
    need(Tests, "docker", "docker-cli docker.io"),
    // On kernels with AppArmor an engine starts no container without this program.
    need(Tests, "apparmor_parser", "apparmor"),
    // The tests make an image of busybox alone, so it must be static.
    need(Tests, "", "busybox-static"),
    need(Tests, "podman", "podman"),
    need(Tests, "prometheus", "prometheus"),
    // These unpack a newer Prometheus.
    need(Tests, "mmdebstrap", "mmdebstrap"),
    need(Tests, "/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    need(Tests, "setpriv", "util-linux"),
    need(Tests, "bpftool", "bpftool linux-tools-UNAME linux-tools-generic"),
    need(Tests, "fio", "fio"),
    need(Tests, "curl", "curl"),
    need(Tests, "openssl", "openssl"),
    need(Tests, "ip", "iproute2"),
    need(Tests, "iptables", "iptables"),
    need(Tests, "kill", "procps"),
    need(Tests, "losetup", "mount"),
    need(Tests, "nsenter", "util-linux"),
    need(Tests, "perl", "perl-base"),
    need(Tests, "python3", "python3"),
    need(Tests, "chromium chromium-browser", "chromium chromium-browser"),
    need(Tests, "node", "nodejs"),
    need(Tests, "npm", "npm"),
    need(Guests, "mmdebstrap", "mmdebstrap"),
    need(Guests, "mke2fs", "e2fsprogs"),
    need(Guests, "setpriv", "util-linux"),
    need(Guests, "xz", "xz-utils"),
    // Guests are Debian on any machine.
    need(Guests, "/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    // A compiler with the sources of `core`, and the libraries of bpf-linker.
    need(Ebpf, "/usr/bin/rustc", "rustc-web"),
    need(Ebpf, "/usr/bin/cargo", "cargo-web"),
    need(Ebpf, "", "rust-web-src"),
    need(Ebpf, "", "llvm-22-dev"),
    need(Ebpf, "", "libpolly-22-dev"),
    need(Ebpf, "", "libzstd-dev"),
    need(Ebpf, "", "zlib1g-dev"),
    need(Ebpf, "", "libffi-dev"),
    // A compiler for the C code of ring, and the C library, of the other architecture.
    #[cfg(target_arch = "x86_64")]
    need(Dist, "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    #[cfg(target_arch = "x86_64")]
    need(Dist, "", "libc6-dev-arm64-cross"),
    #[cfg(target_arch = "aarch64")]
    need(Dist, "x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
    #[cfg(target_arch = "aarch64")]
    need(Dist, "", "libc6-dev-amd64-cross"),
    need(Dist, "qemu-aarch64-static", "qemu-user-static qemu-user"),
    need(Dist, "qemu-system-aarch64", "qemu-system-arm"),
    need(Dist, "cpio", "cpio"),
    need(Dist, "curl", "curl"),
    need(Dist, "tar", "tar"),
    need(Dist, "git", "git"),
    need(Dist, "/usr/bin/amtool", "prometheus-alertmanager"),
    need(Dist, "mandoc", "mandoc"),
    need(Dist, "promtool", "prometheus"),
    need(Dist, "victoria-metrics", "victoria-metrics"),
    need(Dist, "vmalert", "victoria-metrics"),
    need(Dist, "systemd-analyze", "systemd"),
];

/// Debian's directory of programs for root, which a user's `PATH` may lack.
const SYSTEM: &str = "/usr/sbin";

/// Installs packages. Each argument names alternatives, of which the first one that apt knows is installed. The policy keeps
/// packages of engines and servers from starting their services.
const INSTALL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get -qq -o Acquire::Retries=3 update
packages=
for any in "$@"; do
    chosen=
    for package in $any; do
        if apt-cache madison "$package" 2>/dev/null | grep -q .; then chosen=$package; break; fi
    done
    if [ -z "$chosen" ]; then echo "apt knows no package of: $any" >&2; exit 1; fi
    packages="$packages $chosen"
done
echo "apt-get install$packages"
apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends $packages >/dev/null
"#;

const USAGE: &str = "usage: cargo xtask setup [tests] [guests] [ebpf] [dist]     (default: tests guests)";

/// Installs what is missing for these purposes.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let purposes: Vec<Purpose> = match words {
        [] => vec![Tests, Guests],
        words => words.iter().map(|word| purpose(word)).collect::<anyhow::Result<_>>()?,
    };
    if purposes.contains(&Tests) {
        components()?;
    }
    let missing = missing(&purposes);
    if !missing.is_empty() {
        become_root(&[&["setup"], words].concat())?;
        install(&missing)?;
    }
    if purposes.contains(&Tests) {
        tools::python_libraries()?;
        if !tools::has_prometheus_3()? {
            become_root(&[&["setup"], words].concat())?;
            tools::install_prometheus_3()?;
        }
    }
    if purposes.contains(&Ebpf) {
        tools::bpf_linker()?;
    }
    if purposes.contains(&Dist) {
        tools::install_for_dist()?;
    }
    say("what is needed is there");
    Ok(())
}

/// Fails if something is missing for a purpose. The error says what, and how to install it.
pub(crate) fn require(purpose: Purpose) -> anyhow::Result<()> {
    let missing: Vec<&str> = missing(&[purpose]).iter().map(|need| need.name()).collect();
    let word = purpose.word();
    ensure!(missing.is_empty(), "missing: {}; run `cargo xtask setup {word}`, as root", missing.join(", "));
    Ok(())
}

/// Restarts this program as root by sudo, unless it runs as root already. What root builds stays out of the user's target
/// directory.
pub(crate) fn become_root(words: &[&str]) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    ensure!(find("sudo").is_some(), "this takes root, and there is no sudo: run it as root");
    // The user, not root, creates cargo's and rustup's files and the cache directory.
    std::fs::create_dir_all(workspace::cache()?)?;
    components()?;
    sh::run("cargo fetch --quiet --locked")?;
    say("this takes root: asking sudo for it");
    let path = std::env::var("PATH").unwrap_or_default();
    let error = Command::new("sudo")
        .arg("--preserve-env=HOME,CARGO_HOME,RUSTUP_HOME,RUSTUP_TOOLCHAIN,DOCKER_HOST,PYTHON,PROMETHEUS_3,XDG_CACHE_HOME")
        .args(["env", &format!("PATH={path}")])
        .arg(format!("CARGO_TARGET_DIR={}", workspace::root().join("target/root").display()))
        .arg(std::env::current_exe()?)
        .args(words)
        .current_dir(workspace::root())
        .exec();
    Err(error).context("cannot start sudo")
}

fn purpose(word: &str) -> anyhow::Result<Purpose> {
    let named = Purpose::ALL.into_iter().find(|purpose| purpose.word() == word);
    named.with_context(|| format!("`{word}` is not known\n\n{USAGE}"))
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| purposes.contains(&need.purpose) && !need.is_there()).collect()
}

impl Need {
    fn name(&self) -> &'static str {
        if self.program.is_empty() { self.packages } else { self.program }
    }

    fn is_there(&self) -> bool {
        if !self.program.is_empty() {
            return self.program.split(' ').any(|program| find(program).is_some());
        }
        let status = ["--show", "--showformat=${db:Status-Status}", self.packages];
        Command::new("dpkg-query").args(status).output().is_ok_and(|answer| answer.stdout == b"installed")
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from(SYSTEM)]);
    directories.find_map(|directory| Some(directory.join(program)).filter(|file| file.is_file()))
}

fn install(missing: &[&Need]) -> anyhow::Result<()> {
    let mut names: Vec<&str> = missing.iter().map(|need| need.name()).collect();
    names.sort_unstable();
    names.dedup();
    say(&format!("missing: {}; installing their packages", names.join(", ")));
    ensure!(find("apt-get").is_some(), "there is no apt-get here: install them by other means");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut packages: Vec<String> = missing.iter().map(|need| need.packages.replace("UNAME", kernel.trim())).collect();
    packages.sort_unstable();
    packages.dedup();
    let mut install = Command::new("sh");
    install.args(["-c", INSTALL, "install"]).args(&packages).stdin(Stdio::null());
    let status = install.status().context("cannot start sh")?;
    ensure!(status.success(), "the packages could not be installed: {}", packages.join(", "));
    Ok(())
}

/// Installs rustfmt and clippy, which rustup's minimal profile lacks.
fn components() -> anyhow::Result<()> {
    for (component, tool) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !sh::succeeds(Command::new("cargo").args([tool, "--version"])) {
            sh::run(&format!("rustup component add {component}"))?;
        }
    }
    Ok(())
}

/// Makes a virtual environment of Python.
fn make_venv(directory: &Path) -> anyhow::Result<()> {
    if !sh::succeeds(Command::new("python3").args(["-c", "import ensurepip"])) {
        become_root(&["setup"])?;
        install(&[&need(Tests, "", "python3-venv")])?;
    }
    Sh { variables: &[], words: &["python3", "-m", "venv", &directory.display().to_string()] }.run()
}

/// Installs one package for its program, if that is missing.
fn install_package(program: &'static str, package: &'static str) -> anyhow::Result<()> {
    let need = need(Dist, program, package);
    if need.is_there() { Ok(()) } else { install(&[&need]) }
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, Purpose, USAGE, find, missing, purpose};

    #[test]
    fn what_is_there_is_not_missing() {
        assert!(find("sh").is_some() && find("no-such-program").is_none());
        let lacking = super::need(super::Tests, "no-such-program", "its-package");
        assert!(!lacking.is_there());
        assert!(!super::need(super::Tests, "", "no-such-package").is_there());
    }

    #[test]
    fn every_need_has_a_purpose_that_can_be_named_and_a_package() {
        for wanted in Purpose::ALL {
            assert_eq!(purpose(wanted.word()).unwrap(), wanted);
            assert!(USAGE.contains(&format!("[{}]", wanted.word())));
        }
        assert!(NEEDS.iter().all(|need| !need.packages.is_empty()));
        assert!(missing(&[]).is_empty());
        assert!(purpose("everything").unwrap_err().to_string().contains("tests"));
    }
}
