//! `cargo xtask dist`: everything that a release ships, in `target/release-files`, so that the release workflow only signs and publishes.
//!
//! | file | what it does |
//! |---|---|
//! | `compiler` | finds a compiler for each architecture and builds the program, the same bytes in any directory |
//! | `bill` | lists what is in the program (CycloneDX) |
//! | `archive` | tar archives that depend on their content alone |
//! | `oci` | the image: an OCI layout of all architectures, and archives for `docker load` |
//! | `packages` | .deb and .rpm |
//! | `emulated` | compares what the programs of all architectures say of one captured host |
//! | `tools` | installs what these need |
//! | `twice` | builds a clone in another directory and compares |

mod archive;
mod bill;
pub(crate) mod compiler;
pub(crate) mod emulated;
mod oci;
pub(crate) mod packages;
pub(crate) mod tools;
mod twice;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::setup::{self, Purpose};
use crate::sh::say;
use crate::workspace;

/// The program, the packages and the image are called so.
pub(crate) const NAME: &str = "docker-stats-exporter";

/// Where all is put. In `target/dist` cargo keeps what it builds for this machine by the profile of that name.
const DIRECTORY: &str = "target/release-files";

/// The version of all that is made.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE: &str = "\
usage: cargo xtask dist [--arch ARCH]...    ARCH: x86_64, aarch64 (default: both)
       cargo xtask dist --twice [--arch ARCH]...    builds a clone in another directory, too, and compares the bytes
       cargo xtask dist --program ARCH              builds the program alone";

/// A processor that releases are made for, under the names that each tool has for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Rust, the kernel and rpm.
    name: &'static str,
    /// Go, OCI, Debian and Prometheus.
    go: &'static str,
    /// Of OCI platforms.
    variant: Option<&'static str>,
    /// Of Rust. GNU's C library, linked statically: musl's allocator is slower and gives no memory back on request.
    target: &'static str,
    /// GCC of Debian and Ubuntu, where this machine is of another architecture.
    cross_compiler: &'static str,
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        name: "x86_64",
        go: "amd64",
        variant: None,
        target: "x86_64-unknown-linux-gnu",
        cross_compiler: "x86_64-linux-gnu-gcc",
    },
    Architecture {
        name: "aarch64",
        go: "arm64",
        variant: Some("v8"),
        target: "aarch64-unknown-linux-gnu",
        cross_compiler: "aarch64-linux-gnu-gcc",
    },
];

/// One architecture's program, and the list of what is in it.
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
        return twice::run(&chosen);
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
        bill::write(architecture, time, &bill)?;
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
