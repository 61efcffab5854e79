//! `cargo xtask dist`: makes everything that a release ships in `target/release-files`. The release workflow only signs and
//! publishes.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | the order of a release, the archive for manual installation, the list of crates, checksums |
//! | `archive` | tar archives that depend on their content alone |
//! | `oci` | the image: an OCI layout of all architectures, and archives for `docker load` |
//! | `packages` | .deb and .rpm |
//! | `emulated` | compares what the programs of all architectures say of one captured host |

mod archive;
pub(crate) mod emulated;
pub(crate) mod oci;
pub(crate) mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::compiler::{self, ARCHITECTURES, Architecture, NAME};
use crate::setup::{self, Purpose};
use crate::sh::{self, say};
use crate::workspace;

/// The directory of the release's files. (`target/dist` is cargo's directory of the profile `dist`.)
const DIRECTORY: &str = "target/release-files";

/// The version of the release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE: &str = "\
usage: cargo xtask dist [--arch ARCH]...    ARCH: x86_64, aarch64 (default: both)
       cargo xtask dist --twice [--arch ARCH]...    builds a clone in another directory, too, and compares the bytes
       cargo xtask dist --program ARCH              builds the program alone";

/// One architecture's program, and the list of its crates.
#[derive(Debug)]
struct Build {
    architecture: &'static Architecture,
    program: PathBuf,
    bill: PathBuf,
}

/// Makes a release of these architectures, or compares two builds of it.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    setup::require(Purpose::Dist)?;
    if let ["--program", name] = words {
        return compiler::build(find(name)?).map(|program| say(&program.display().to_string()));
    }
    let (is_compared, chosen) = options(words)?;
    if is_compared {
        return compare_builds(&chosen);
    }
    let directory = workspace::root().join(DIRECTORY);
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let time = workspace::commit_time()?;
    let mut builds = Vec::new();
    for architecture in chosen {
        let program = compiler::build(architecture)?;
        let bill = directory.join(format!("{NAME}-{VERSION}.linux-{}.cdx.json", architecture.go));
        write_bill(architecture, time, &bill)?;
        builds.push(Build { architecture, program, bill });
    }
    for build in &builds {
        tarball(build, time, &directory)?;
        packages::write(build, time, &directory)?;
        oci::write_loadable(build, time, &directory)?;
    }
    oci::write_layout(&builds, time, &directory.join("oci"))?;
    write_checksums(&directory)
}

fn options(words: &[&str]) -> anyhow::Result<(bool, Vec<&'static Architecture>)> {
    let (mut is_compared, mut chosen) = (false, Vec::new());
    let mut rest = words;
    loop {
        match rest {
            [] => break,
            ["--twice", after @ ..] => {
                is_compared = true;
                rest = after;
            }
            ["--arch", name, after @ ..] => {
                chosen.push(find(name)?);
                rest = after;
            }
            _ => bail!("{USAGE}"),
        }
    }
    if chosen.is_empty() {
        chosen.extend(&ARCHITECTURES);
    }
    Ok((is_compared, chosen))
}

fn find(name: &str) -> anyhow::Result<&'static Architecture> {
    let known = ARCHITECTURES.iter().find(|architecture| architecture.name == name);
    known.with_context(|| format!("`{name}` is not built here\n\n{USAGE}"))
}

/// Writes what the program of the architecture is made of. Crates that only build scripts and tests use are left out.
fn write_bill(architecture: &Architecture, time: u64, path: &Path) -> anyhow::Result<()> {
    let name = format!("{NAME}-{}", architecture.go);
    say(&format!("$ cargo cyclonedx --target {}", architecture.target));
    let status = sh::cargo()
        .args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps", "--quiet"])
        .args(["--target", architecture.target, "--override-filename", &name])
        .args(["--manifest-path", "exporter/Cargo.toml"])
        .env("SOURCE_DATE_EPOCH", time.to_string())
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "cargo cyclonedx: {status}");
    // It writes one beside the manifest of each member of the workspace.
    for member in ["exporter", "exporter-ebpf", "xtask", "tests"] {
        let written = workspace::root().join(member).join(format!("{name}.json"));
        if member == "exporter" {
            let text = fs::read_to_string(&written).with_context(|| written.display().to_string())?;
            // The path of this checkout belongs in no release.
            let text = text.replace(&workspace::root().display().to_string(), "/src");
            fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        if written.exists() {
            fs::remove_file(&written).with_context(|| written.display().to_string())?;
        }
    }
    Ok(())
}

/// The archive for those who install by hand: named and laid out as those of Prometheus' exporters.
fn tarball(build: &Build, time: u64, directory: &Path) -> anyhow::Result<()> {
    let root = workspace::root();
    let name = format!("{NAME}-{VERSION}.linux-{}", build.architecture.go);
    let mut archive = archive::Archive::new(time)?;
    archive.add(&build.program, &format!("{name}/{NAME}"), 0o755)?;
    let bill = format!("{name}/{NAME}.cdx.json");
    archive.add(&build.bill, &bill, 0o644)?;
    for file in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md", "SECURITY.md"] {
        archive.add(&root.join(file), &format!("{name}/{file}"), 0o644)?;
    }
    for file in packages::EXTRAS {
        let base = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        archive.add(&root.join(file), &format!("{name}/{base}"), 0o644)?;
    }
    let path = directory.join(format!("{name}.tar.gz"));
    fs::write(&path, archive::gzip(&archive.finish()?)?).with_context(|| path.display().to_string())
}

/// Writes the digest of every file beside them, in the format of `sha256sum`, and says what there is.
fn write_checksums(directory: &Path) -> anyhow::Result<()> {
    let mut lines = String::new();
    for path in files(directory)? {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(name.starts_with(NAME), "{} does not belong into a release", path.display());
        say(&format!("{:>10} bytes  {name}", bytes.len()));
        lines.extend([digest(&bytes).as_str(), "  ", &name, "\n"]);
    }
    fs::write(directory.join("sha256sums.txt"), lines).context("sha256sums.txt")
}

/// The files of a directory, in the order of their names.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// SHA-256 in hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    let halves = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
}

/// Builds each architecture here and in a clone of what is committed. Fails where the two differ.
fn compare_builds(architectures: &[&'static Architecture]) -> anyhow::Result<()> {
    let changes = git(workspace::root(), &["status", "--porcelain"])?;
    ensure!(changes.is_empty(), "the clone would lack what is not committed:\n{changes}");
    // A program tells its revision.
    let cloned = workspace::revision();
    let scratch = tempfile::tempdir()?;
    let clone = scratch.path().join("another/directory");
    git(workspace::root(), &["clone", "--quiet", "--no-hardlinks", ".", &clone.display().to_string()])?;
    for architecture in architectures {
        let here = fs::read(compiler::build(architecture)?)?;
        ensure!(
            workspace::revision() == cloned,
            "something was committed meanwhile, so that the programs tell two revisions: run it again"
        );
        say(&format!("the same in {}", clone.display()));
        let there = fs::read(compiler::build_in(&clone, &clone.join("target"), architecture)?)?;
        say(&format!(
            "{}: {}  here\n{}: {}  there",
            architecture.name,
            digest(&here),
            architecture.name,
            digest(&there)
        ));
        ensure!(here == there, "the program for {} depends on where it is built", architecture.name);
    }
    Ok(())
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    let text = sh::output(command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(directory))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{ARCHITECTURES, NAME, digest, options, write_checksums};

    #[test]
    fn without_a_choice_every_architecture_is_built() {
        assert_eq!(options(&[]).unwrap(), (false, ARCHITECTURES.iter().collect()));
        assert_eq!(options(&["--twice", "--arch", "aarch64"]).unwrap(), (true, vec![&ARCHITECTURES[1]]));
        for wrong in [["--arch", "riscv64"].as_slice(), &["--arch"], &["x86_64"]] {
            let message = options(wrong).unwrap_err().to_string();
            assert!(message.contains("usage: cargo xtask dist"), "{message}");
        }
    }

    #[test]
    fn nothing_else_gets_into_a_release() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(format!("{NAME}.tar.gz")), "").unwrap();
        write_checksums(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join("sha256sums.txt")).unwrap();
        std::fs::write(directory.path().join(".cargo-lock"), "").unwrap();
        assert!(write_checksums(directory.path()).unwrap_err().to_string().contains(".cargo-lock"));
    }

    #[test]
    fn a_digest_is_that_of_sha256sum() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
