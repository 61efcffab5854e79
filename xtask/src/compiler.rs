//! Builds the program for an architecture, static, with the same bytes in any directory.
//!
//! The compiler is rustup's where it has the standard library of the target (`rustup target add`), else Debian's `rustc-web`,
//! for which `cargo xtask setup dist` unpacks the library of the other architecture.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::sh::{self, say};
use crate::workspace;

/// The name of the program, the packages and the image.
pub(crate) const NAME: &str = "docker-stats-exporter";

/// A processor that releases are made for, under the names that each tool has for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Rust, the kernel and rpm.
    pub(crate) name: &'static str,
    /// Go, OCI, Debian and Prometheus.
    pub(crate) go: &'static str,
    /// Of OCI platforms.
    pub(crate) variant: Option<&'static str>,
    /// Of Rust. GNU's C library, linked statically: musl's allocator is slower and gives no memory back on request.
    pub(crate) target: &'static str,
    /// GCC of Debian and Ubuntu, where this machine is of another architecture.
    cross_compiler: &'static str,
}

pub(crate) const ARCHITECTURES: [Architecture; 2] = [
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

/// Debian's compiler, which has packages of the standard library for other architectures.
const DEBIAN: &str = "/usr/bin/rustc";

/// A compiler, and where the target's standard library is if not where the compiler has its own.
#[derive(Debug)]
pub(crate) struct Compiler {
    program: PathBuf,
    sysroot: Option<PathBuf>,
}

/// The architecture of this machine.
pub(crate) fn host() -> anyhow::Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|architecture| architecture.name == std::env::consts::ARCH);
    found.with_context(|| format!("nothing is built for {} processors", std::env::consts::ARCH))
}

/// Builds the program as it is shipped, and returns its path.
pub(crate) fn build(architecture: &Architecture) -> anyhow::Result<PathBuf> {
    build_in(workspace::root(), &workspace::target(), architecture)
}

/// The same from a checkout elsewhere.
pub(crate) fn build_in(root: &Path, built: &Path, architecture: &Architecture) -> anyhow::Result<PathBuf> {
    run(root, built, architecture, &["auditable", "build"])
}

/// The same for this machine, without the list of crates in it, for which another tool is needed.
pub(crate) fn build_here() -> anyhow::Result<PathBuf> {
    run(workspace::root(), &workspace::target(), host()?, &["build"])
}

fn run(root: &Path, built: &Path, architecture: &Architecture, command: &[&str]) -> anyhow::Result<PathBuf> {
    let target = architecture.target;
    let compiler = find(architecture)?;
    let flags = flags(root, &compiler, architecture)?;
    let linker = linker(architecture)?;
    let variable = |prefix: &str| format!("{prefix}_{}", target.replace('-', "_"));
    // In the C code of ring, paths stand in debug information alone, of which there is none; this keeps it so.
    let prefix = format!("-ffile-prefix-map={}=/src", root.display());
    let words = command.join(" ");
    say(&format!("$ RUSTC={} cargo {words} --profile dist --target {target}", compiler.program.display()));
    let status = sh::cargo()
        .args(command)
        .args(["--locked", "--profile", "dist", "--package", NAME, "--target", target])
        .env("RUSTC", &compiler.program)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env(variable("CARGO_TARGET").to_uppercase() + "_LINKER", linker)
        .env(variable("CC"), linker)
        .env(variable("CFLAGS"), prefix)
        .env("CARGO_TARGET_DIR", built)
        .env("BUILD_REVISION", workspace::revision())
        .env("SOURCE_DATE_EPOCH", workspace::commit_time()?.to_string())
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "the program for {} could not be built: {status}", architecture.name);
    Ok(built.join(target).join("dist").join(NAME))
}

/// Where [`build_here`] puts the program.
pub(crate) fn program_here() -> anyhow::Result<PathBuf> {
    Ok(program(host()?))
}

/// Where [`build`] puts the program.
pub(crate) fn program(architecture: &Architecture) -> PathBuf {
    workspace::target().join(architecture.target).join("dist").join(NAME)
}

/// What makes the program static, and independent of where it is built.
fn flags(root: &Path, compiler: &Compiler, architecture: &Architecture) -> anyhow::Result<Vec<String>> {
    // Addresses that are filled in at the start take a fiftieth of the compressed program without the last flag.
    let mut flags: Vec<String> =
        ["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,pack-relative-relocs"]
            .map(str::to_owned)
            .into();
    for (from, to) in [(root.to_owned(), "/src"), (workspace::cargo_home()?, "/cargo")] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    if let Some(sysroot) = &compiler.sysroot {
        flags.push(format!("--sysroot={}", sysroot.display()));
    }
    flags.push(format!("-Clinker={}", linker(architecture)?));
    flags.extend(small(&compiler.program)?);
    Ok(flags)
}

/// LLVM's linker, where the compiler has it, puts functions of the same code together.
fn small(program: &Path) -> anyhow::Result<Vec<String>> {
    let tools = sysroot(program)?.join("lib/rustlib").join(host()?.target).join("bin/gcc-ld");
    if !tools.is_dir() {
        return Ok(Vec::new());
    }
    let directory = format!("-Clink-arg=-B{}", tools.display());
    Ok(vec![directory, "-Clink-arg=-fuse-ld=lld".to_owned(), "-Clink-arg=-Wl,--icf=all".to_owned()])
}

fn linker(architecture: &Architecture) -> anyhow::Result<&'static str> {
    Ok(if host()? == architecture { "cc" } else { architecture.cross_compiler })
}

/// The first compiler that has the standard library of the architecture.
pub(crate) fn find(architecture: &Architecture) -> anyhow::Result<Compiler> {
    let target = architecture.target;
    let has = |sysroot: &Path| sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
    for program in ["rustc", DEBIAN].map(PathBuf::from) {
        if let Ok(sysroot) = sysroot(&program)
            && has(&sysroot)
        {
            return Ok(Compiler { program, sysroot: None });
        }
    }
    let unpacked = workspace::standard_library()?.join("usr");
    if has(&unpacked) && Path::new(DEBIAN).exists() {
        return Ok(Compiler { program: DEBIAN.into(), sysroot: Some(unpacked) });
    }
    bail!(
        "no compiler here has the standard library of {target}: run `rustup target add {target}`, or on Debian \
         `cargo xtask setup dist`"
    )
}

fn sysroot(program: &Path) -> anyhow::Result<PathBuf> {
    let answer = sh::output(Command::new(program).args(["--print", "sysroot"]).current_dir(workspace::root()))?;
    Ok(answer.trim().into())
}
