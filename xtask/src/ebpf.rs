//! `cargo xtask ebpf [--check]`: builds the eBPF objects that are committed in `exporter-ebpf/prebuilt/`.
//!
//! The objects are committed so that other builds need no eBPF toolchain. `--check` builds them again and compares the bytes.

#[path = "../../exporter-ebpf/provenance.rs"]
mod provenance;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::sh::{self, Sh, say};
use crate::workspace;

/// One object per hook family: the names of the binaries of exporter-ebpf.
const OBJECTS: &[&str] = &["block", "empty", "network", "sched", "snapshot", "tasks", "tcp"];
const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";

const MISSING: &str = "\
no compiler for eBPF was found. Either of these installs one:
  (Debian) cargo xtask setup ebpf
  rustup toolchain install nightly --component rust-src && cargo install bpf-linker";

/// Builds the objects, and writes or compares them.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    toolchain.build()?;
    if check { compare(&toolchain) } else { write(&toolchain) }
}

/// A compiler with the sources of `core`, and a linker.
struct Toolchain {
    cargo: Vec<String>,
    rustc: Vec<String>,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds rustup's nightly compiler, or the distribution's compiler with its sources.
    fn find() -> anyhow::Result<Self> {
        let installed =
            workspace::cargo_home().ok().map(|home| home.join("bin/bpf-linker")).filter(|path| path.exists());
        let linker = installed.unwrap_or_else(|| "bpf-linker".into());
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let candidates = [
            (words(&["rustup", "run", "nightly", "cargo"]), words(&["rustup", "run", "nightly", "rustc"])),
            (words(&["/usr/bin/cargo"]), words(&["/usr/bin/rustc"])),
        ];
        let found = candidates.into_iter().find(|(_, rustc)| has_sources(rustc));
        let (cargo, rustc) = found.context(MISSING)?;
        ensure!(version(&[linker.to_string_lossy().into_owned()]).is_some(), "bpf-linker is missing\n{MISSING}");
        Ok(Self { cargo, rustc, linker })
    }

    fn build(&self) -> anyhow::Result<()> {
        // Version 3 of the instruction set has the atomic operations (Linux 5.12). The paths of this machine must not
        // get into the objects.
        let flags = format!(
            "-C linker={} -C target-cpu=v3 --remap-path-prefix={}=.",
            self.linker.display(),
            workspace::root().display()
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let rustc_path = format!("/usr/bin:{path}");
        let target = workspace::root().join("target/ebpf");
        let target = target.to_string_lossy();
        let mut words: Vec<&str> = self.cargo.iter().map(String::as_str).collect();
        words.extend(["build", "--locked", "--package", "exporter-ebpf", "--features", "programs", "--bins"]);
        words.extend(["--profile", PROFILE, "--target", TARGET, "-Z", "build-std=core", "--target-dir", &target]);
        let mut variables = vec![("RUSTC_BOOTSTRAP", "1"), ("RUSTFLAGS", &*flags)];
        if let [rustc] = self.rustc.as_slice() {
            // The cargo that runs this program may have set its own compiler.
            variables.extend([("RUSTC", rustc.as_str()), ("PATH", rustc_path.as_str())]);
        }
        Sh { variables: &variables, words: &words }.run()
    }

    /// Returns the versions of compiler and linker for the provenance file.
    fn versions(&self) -> anyhow::Result<[(&'static str, String); 2]> {
        let linker = version(&[self.linker.to_string_lossy().into_owned()]).context("bpf-linker --version")?;
        Ok([("rustc", version(&self.rustc).context("rustc --version")?), ("linker", linker)])
    }
}

/// Returns whether a compiler runs and has the sources of `core`.
fn has_sources(rustc: &[String]) -> bool {
    let Some((program, arguments)) = rustc.split_first() else { return false };
    let sysroot = sh::output(Command::new(program).args(arguments).args(["--print", "sysroot"]));
    sysroot.is_ok_and(|path| Path::new(path.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists())
}

fn version(command: &[String]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let text = sh::output(Command::new(program).args(arguments).arg("--version")).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

fn folder() -> PathBuf {
    workspace::root().join("exporter-ebpf")
}

fn built(object: &str) -> PathBuf {
    workspace::root().join("target/ebpf").join(TARGET).join(PROFILE).join(object)
}

fn committed(object: &str) -> PathBuf {
    folder().join(provenance::PREBUILT).join(format!("{object}.o"))
}

fn write(toolchain: &Toolchain) -> anyhow::Result<()> {
    fs::create_dir_all(folder().join(provenance::PREBUILT))?;
    let mut text =
        "What the objects beside this file were built from, and with. Written by `cargo xtask ebpf`.\n\n".to_owned();
    writeln!(text, "sources: {}", provenance::sources(&folder())?)?;
    for (what, version) in toolchain.versions()? {
        writeln!(text, "{what}: {version}")?;
    }
    for object in OBJECTS {
        let to = committed(object);
        fs::copy(built(object), &to).with_context(|| format!("cannot write {}", to.display()))?;
        writeln!(text, "object {object}.o: {}", provenance::file(&to)?)?;
    }
    let path = folder().join(provenance::PROVENANCE);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say("the objects in exporter-ebpf/prebuilt are those of the sources; commit them");
    Ok(())
}

fn compare(toolchain: &Toolchain) -> anyhow::Result<()> {
    let path = folder().join(provenance::PROVENANCE);
    let said = fs::read_to_string(&path).with_context(|| format!("{}: run `cargo xtask ebpf`", path.display()))?;
    for object in OBJECTS {
        if same(&built(object), &committed(object))? {
            continue;
        }
        for (what, version) in toolchain.versions()? {
            ensure!(
                said.lines().any(|line| line == format!("{what}: {version}")),
                "{object}.o differs, and so does the {what}: here it is {version}; see {}",
                path.display()
            );
        }
        bail!("{object}.o is not what its sources make; run `cargo xtask ebpf` and commit exporter-ebpf/prebuilt");
    }
    say("the committed objects are byte for byte those of the sources");
    Ok(())
}

fn same(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(read(one)? == read(other)?)
}
