//! The packages: .deb and .rpm of one description, `deploy/package/nfpm.yaml`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, ensure};

use super::archive::gzip;
use super::{Build, DIRECTORY, VERSION};
use crate::compiler::{self, NAME};
use crate::sh::say;
use crate::{vm, workspace};

/// Path of the generated manual page.
const MANUAL: &str = "deploy/package/docker-stats-exporter.1";

/// The files of packages and of the archive for manual installation, beside the program.
pub(super) const EXTRAS: &[&str] = &[
    "deploy/systemd/docker-stats-exporter.service",
    "deploy/systemd/docker-stats-exporter.socket",
    "deploy/systemd/least-privilege.conf",
    ENVIRONMENT,
    "deploy/package/sysusers.conf",
    MANUAL,
    "deploy/package/completions/docker-stats-exporter.bash",
    "deploy/package/completions/docker-stats-exporter.fish",
    "deploy/package/completions/_docker-stats-exporter",
];

/// The description of the packages.
const DESCRIPTION: &str = "deploy/package/nfpm.yaml";

/// The file that administrators change.
const ENVIRONMENT: &str = "deploy/package/environment";

/// The version that tests upgrade to.
const LATER: &str = "99.0.0";

/// Debian releases whose guests install the packages.
const SUITES: [&str; 3] = ["trixie", "bookworm", "forky"];

/// `cargo xtask ci packages`: what `cargo xtask dist` has made is installed, upgraded and removed under systemd, in guests.
pub(crate) fn check() -> anyhow::Result<()> {
    let made = workspace::root().join(DIRECTORY);
    let architecture = compiler::host()?;
    let program = compiler::program(architecture);
    let bill = made.join(format!("{NAME}-{VERSION}.linux-{}.cdx.json", architecture.go));
    let build = Build { architecture, program, bill };
    let scratch = tempfile::tempdir()?;
    let next = scratch.path().join("next");
    fs::create_dir(&next)?;
    for format in ["deb", "rpm"] {
        let name = file_name(format, VERSION, &build);
        fs::copy(made.join(&name), scratch.path().join(&name))
            .with_context(|| format!("{name} is missing: run `cargo xtask dist`"))?;
    }
    write_later(&build, &next)?;
    for suite in SUITES {
        say(&format!("$ cargo xtask vm --suite {suite} packages DIRECTORY"));
        let directory = scratch.path().display().to_string();
        vm::run(&["--suite", suite, "packages", &directory]).with_context(|| format!("the guest {suite}"))?;
    }
    Ok(())
}

/// Writes the same packages as a later version, with another environment file.
fn write_later(build: &Build, directory: &Path) -> anyhow::Result<()> {
    let root = workspace::root();
    let environment = directory.join("environment");
    fs::write(&environment, fs::read_to_string(root.join(ENVIRONMENT))? + "\n# Of a later version.\n")?;
    let description =
        fs::read_to_string(root.join(DESCRIPTION))?.replace(ENVIRONMENT, &environment.display().to_string());
    package(build, LATER, &description, workspace::commit_time()?, directory)
}

/// Writes both packages of one architecture into a directory.
pub(super) fn write(build: &Build, time: u64, directory: &Path) -> anyhow::Result<()> {
    let path = workspace::root().join(DESCRIPTION);
    let description = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    package(build, VERSION, &description, time, directory)
}

fn package(build: &Build, version: &str, description: &str, time: u64, directory: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let [manual, changes, config] = ["manual.gz", "changelog.yaml", "nfpm.yaml"].map(|name| scratch.path().join(name));
    fs::write(&manual, gzip(&fs::read(workspace::root().join(MANUAL))?)?)?;
    fs::write(&changes, changelog(version, time))?;
    let paths = [("PROGRAM", &build.program), ("MANUAL", &manual), ("BILL", &build.bill), ("CHANGELOG", &changes)];
    let paths = paths.map(|(name, path)| (name, path.display().to_string()));
    let words = [("ARCH", build.architecture.go), ("VERSION", version), ("TIME", &date(time))];
    let words = words.map(|(name, word)| (name, word.to_owned()));
    let values = paths.into_iter().chain(words);
    let filled =
        values.fold(description.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), &value));
    fs::write(&config, filled)?;
    for format in ["deb", "rpm"] {
        let name = file_name(format, version, build);
        say(&format!("$ nfpm package --packager {format} --target {name}"));
        let answer = Command::new(workspace::tool("nfpm")?)
            .arg("package")
            .arg("--config")
            .arg(&config)
            .args(["--packager", format, "--target"])
            .arg(directory.join(&name))
            .env("SOURCE_DATE_EPOCH", time.to_string())
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .output()
            .context("nfpm")?;
        let said = [answer.stdout, answer.stderr].concat();
        ensure!(answer.status.success(), "nfpm: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

/// Returns the changelog that package managers show: the version, and a link to CHANGELOG.md.
fn changelog(version: &str, time: u64) -> String {
    let date = date(time);
    let repository = env!("CARGO_PKG_REPOSITORY");
    format!(
        "- semver: {version}\n  date: {date}\n  packager: The {NAME} developers <{NAME}@users.noreply.github.com>\n  \
         deb:\n    urgency: medium\n    distributions: [stable]\n  changes:\n    \
         - note: \"{version}, see {repository}/blob/v{version}/CHANGELOG.md\"\n"
    )
}

fn date(time: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string()
}

/// Returns the file name that the format's own tools would choose. `~` sorts a pre-release below its release.
fn file_name(format: &str, version: &str, build: &Build) -> String {
    let version = version.replacen('-', "~", 1);
    match format {
        "deb" => format!("{NAME}_{version}-1_{}.deb", build.architecture.go),
        _ => format!("{NAME}-{version}-1.{}.rpm", build.architecture.name),
    }
}
