//! What this machine must bring: programs, with the package that each is in, and an archive to take packages from.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// Programs that every run needs, with their packages.
const TO_RUN: &[(&str, &str)] = &[("setpriv", "util-linux"), ("tar", "tar")];

/// Programs that building an image needs.
const TO_BUILD: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("apt-get", "apt"),
    ("unshare", "util-linux"),
];

/// Where Debian puts programs for root; a user's `PATH` may lack it.
const SYSTEM: &str = "/usr/sbin";

/// That a guest can run here.
pub(super) fn can_run() -> anyhow::Result<()> {
    let processor = std::env::consts::ARCH;
    ensure!(
        processor == "x86_64",
        "guests have x86_64 processors and run programs built here, and this machine's is {processor}; what cures it: \
         leave the steps guest and guests out (cargo xtask ci fmt clippy unit docs tidy host)"
    );
    have(TO_RUN)
}

/// That an image can be built here.
pub(super) fn can_build() -> anyhow::Result<()> {
    have(TO_BUILD)?;
    let user = output(Command::new("id").arg("-u"))?;
    ensure!(user.trim() == "0", "the guest's image is built by root, with root's files in it: run this as root");
    Ok(())
}

/// A command whose processes, all of them, end with ours, however that comes about, and whose mounts go with them: what
/// half-built trees hold is then files alone.
pub(super) fn contained(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", program]);
    command
}

fn have(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&(&str, &str)> = programs.iter().filter(|(program, _)| find(program).is_none()).collect();
    let names: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    ensure!(
        missing.is_empty(),
        "not in PATH: {}; what cures it: apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    );
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from(SYSTEM)]);
    directories.find_map(|directory| Some(directory.join(program)).filter(|file| file.is_file()))
}

/// The archive that apt takes this machine's own suite from.
pub(super) fn mirror() -> anyhow::Result<String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let own = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]))?;
    archive(&targets, own.trim_matches('"')).with_context(|| {
        format!("apt's sources on this machine name no Debian archive for {own:?}; give one with --mirror URL")
    })
}

fn archive(targets: &str, release: &str) -> Option<String> {
    let known = targets.lines().filter_map(|line| line.split_once(' '));
    known.filter(|(name, _)| *name == release).map(|(_, uri)| uri.trim().to_owned()).next()
}

/// How apt on this machine reaches its archives, as lines of apt's configuration.
pub(super) fn apt_options() -> anyhow::Result<String> {
    let keys = ["Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo"];
    output(Command::new("apt-config").args(["dump", "--no-empty", "--format", "%f \"%v\";%n"]).args(keys))
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
    use super::{archive, have};

    #[test]
    fn the_archive_is_the_one_of_the_machine_s_own_release() {
        let targets = "nodistro https://other.example/apt/\nbookworm-security https://a.example/security/\n\
                       bookworm https://a.example/debian/\nbookworm https://a.example/debian/\n";
        assert_eq!(archive(targets, "bookworm").as_deref(), Some("https://a.example/debian/"));
        assert_eq!(archive(targets, "trixie"), None);
    }

    #[test]
    fn what_is_missing_is_told_with_its_package() {
        let message = have(&[("sh", "dash"), ("no-such-program", "its-package")]).unwrap_err().to_string();
        assert!(message.contains("no-such-program;") && message.ends_with("its-package"), "{message}");
    }
}
