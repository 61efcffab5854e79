//! Takes packages from Debian's archive without installing them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::sh;

/// Unpacks packages of another architecture or suite into a directory. The system's own apt does not learn of either.
/// Arguments: DIRECTORY ARCHITECTURE ARCHIVE-AND-SUITE PACKAGE...
const UNPACK: &str = r#"
set -eu
directory=$1 architecture=$2 archive=$3
shift 3
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/unpacked"
own=$(dpkg --print-architecture)
cat >"$state/apt.conf" <<END
APT::Architecture "$own";
APT::Architectures { "$own"; "$architecture"; };
APT::Sandbox::User "root";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
Dir::State::lists "$state/lists";
Dir::Cache "$state/cache";
END
if [ -n "$archive" ]; then
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive main" >"$state/sources.list"
    printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "-";\n' "$state/sources.list" >>"$state/apt.conf"
fi
export APT_CONFIG="$state/apt.conf"
apt-get -qq update
cd "$state"
apt-get -qq download "$@"
for package in ./*.deb; do dpkg-deb --extract "$package" "$state/unpacked"; done
rm -rf "$directory"
mkdir -p "$(dirname "$directory")"
cp --archive "$state/unpacked" "$directory"
"#;

/// Returns a command whose processes and mounts all end with this process, even if it is killed. An unfinished tree then
/// holds only files.
pub(crate) fn contained(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", program]);
    command
}

/// Returns the archive that apt uses for this machine's own suite, or `None` if this machine is not Debian; mmdebstrap then
/// uses its default.
pub(crate) fn mirror() -> anyhow::Result<Option<String>> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let fact =
        |name: &str| release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_matches('"');
    if fact("ID=") != "debian" {
        return Ok(None);
    }
    let targets = sh::output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]))?;
    Ok(archive(&targets, fact("VERSION_CODENAME=")))
}

fn archive(targets: &str, release: &str) -> Option<String> {
    let known = targets.lines().filter_map(|line| line.split_once(' '));
    known.filter(|(name, _)| *name == release).map(|(_, uri)| uri.trim().to_owned()).next()
}

/// Returns how apt on this machine reaches its archives, as lines of apt's configuration.
pub(crate) fn apt_options() -> anyhow::Result<String> {
    let keys = ["Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo"];
    sh::output(Command::new("apt-config").args(["dump", "--no-empty", "--format", "%f \"%v\";%n"]).args(keys))
}

/// Unpacks packages of a suite and their dependencies into a directory. Nothing is installed, so any architecture works.
/// `settings` are further settings of apt.
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
    sh::output(&mut command).map(drop)
}

/// Unpacks one package by the script [`UNPACK`]. `archive` is a mirror and a suite; empty for this machine's own sources.
pub(crate) fn unpack(directory: &Path, architecture: &str, archive: &str, package: &str) -> anyhow::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", UNPACK, "unpack"]).arg(directory).args([architecture, archive, package]).stdin(Stdio::null());
    let status = command.status().context("sh")?;
    ensure!(status.success(), "{package} could not be unpacked into {}", directory.display());
    Ok(())
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
