//! What this machine must bring: programs, root, and an archive to take packages from.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::setup::{self, Purpose};

/// That a guest can run here.
pub(super) fn can_run() -> anyhow::Result<()> {
    let processor = std::env::consts::ARCH;
    ensure!(
        processor == "x86_64",
        "guests have x86_64 processors and run programs built here, and this machine's is {processor}; what helps: \
         leave the steps guest and guests out (cargo xtask ci fmt clippy unit docs tidy host)"
    );
    setup::require(Purpose::Guests)
}

/// That an image can be built here.
pub(super) fn can_build() -> anyhow::Result<()> {
    setup::require(Purpose::Guests)?;
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root, "the guest's image is built by root, with root's files in it: run this as root");
    Ok(())
}

/// A command whose processes, all of them, end with ours, however that comes about, and whose mounts go with them: what
/// half-built trees hold is then files alone.
pub(crate) fn contained(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", program]);
    command
}

/// The archive that apt takes this machine's own suite from. None where this machine is no Debian: mmdebstrap has its own then.
pub(crate) fn mirror() -> anyhow::Result<Option<String>> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let fact =
        |name: &str| release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_matches('"');
    if fact("ID=") != "debian" {
        return Ok(None);
    }
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]))?;
    Ok(archive(&targets, fact("VERSION_CODENAME=")))
}

fn archive(targets: &str, release: &str) -> Option<String> {
    let known = targets.lines().filter_map(|line| line.split_once(' '));
    known.filter(|(name, _)| *name == release).map(|(_, uri)| uri.trim().to_owned()).next()
}

/// How apt on this machine reaches its archives, as lines of apt's configuration.
pub(crate) fn apt_options() -> anyhow::Result<String> {
    let keys = ["Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo"];
    output(Command::new("apt-config").args(["dump", "--no-empty", "--format", "%f \"%v\";%n"]).args(keys))
}

/// Unpacks packages of a suite, and what they depend on, into a directory: files without an installation, hence of any architecture.
/// `settings` are further ones of apt.
pub(crate) fn extract(
    suite: &str,
    architecture: Option<&str>,
    packages: &str,
    mirror: Option<String>,
    settings: &[&str],
    directory: &Path,
) -> anyhow::Result<()> {
    let mut command = contained("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=extract", "--skip=check/qemu"]);
    command.arg(format!("--include={packages}"));
    command.args(architecture.map(|name| format!("--architectures={name}")));
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\""]);
    for option in apt_options()?.lines().chain(settings.iter().copied()) {
        command.arg(format!("--aptopt={option}"));
    }
    command.arg(suite).arg(directory).args(mirror.map(|mirror| format!("deb {mirror} {suite} main")));
    output(&mut command).map(drop)
}

/// What a command prints.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::archive;

    #[test]
    fn the_archive_is_the_one_of_the_machine_s_own_release() {
        let targets = "nodistro https://other.example/apt/\nbookworm-security https://a.example/security/\n\
                       bookworm https://a.example/debian/\nbookworm https://a.example/debian/\n";
        assert_eq!(archive(targets, "bookworm").as_deref(), Some("https://a.example/debian/"));
        assert_eq!(archive(targets, "trixie"), None);
    }
}
