//! Builds the static program for an architecture, with the same bytes in any directory.
//!
//! The compiler is rustup's if it has the standard library of the target (`rustup target add`). Otherwise it is Debian's
//! `rustc-web`, for which `cargo xtask setup dist` unpacks the library of the other architecture.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::sh::{self, say};
use crate::workspace;

/// The name of the program, the packages and the image.
pub(crate) const NAME: &str = "docker-stats-exporter";

/// A processor architecture of releases, with its name in each tool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// In Rust, the kernel and rpm.
    pub(crate) name: &'static str,
    /// In Go, OCI, Debian and Prometheus.
    pub(crate) go: &'static str,
    /// The variant in OCI platforms.
    pub(crate) variant: Option<&'static str>,
    /// Rust's target. The C library is GNU's, because musl's allocator is slower and returns no memory on request.
    pub(crate) target: &'static str,
    /// The cross compiler of Debian and Ubuntu.
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

/// Debian's compiler, whose standard library is packaged for other architectures, too.
const DEBIAN: &str = "/usr/bin/rustc";

/// A compiler, and the sysroot of the target's standard library if it is not the compiler's own.
#[derive(Debug)]
pub(crate) struct Compiler {
    program: PathBuf,
    sysroot: Option<PathBuf>,
}

/// Returns the architecture of this machine.
pub(crate) fn host() -> anyhow::Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|architecture| architecture.name == std::env::consts::ARCH);
    found.with_context(|| format!("nothing is built for {} processors", std::env::consts::ARCH))
}

/// Builds the program as it is shipped, and returns its path.
pub(crate) fn build(architecture: &Architecture) -> anyhow::Result<PathBuf> {
    build_in(workspace::root(), &workspace::target(), architecture)
}

/// Builds the program as it is shipped from another checkout.
pub(crate) fn build_in(root: &Path, built: &Path, architecture: &Architecture) -> anyhow::Result<PathBuf> {
    run(root, built, architecture, &["auditable", "build"])
}

/// Builds the program for this machine without the embedded list of crates, which takes another tool.
pub(crate) fn build_here() -> anyhow::Result<PathBuf> {
    run(workspace::root(), &workspace::target(), host()?, &["build"])
}

fn run(root: &Path, built: &Path, architecture: &Architecture, command: &[&str]) -> anyhow::Result<PathBuf> {
    let target = architecture.target;
    let compiler = find(architecture)?;
    let flags = flags(root, &compiler, architecture)?;
    let linker = linker(architecture)?;
    let variable = |prefix: &str| format!("{prefix}_{}", target.replace('-', "_"));
    // The C code of ring has paths only in debug information, which is off. The flag covers other uses.
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

/// Returns where [`build_here`] puts the program.
pub(crate) fn program_here() -> anyhow::Result<PathBuf> {
    Ok(program(host()?))
}

/// Returns where [`build`] puts the program.
pub(crate) fn program(architecture: &Architecture) -> PathBuf {
    workspace::target().join(architecture.target).join("dist").join(NAME)
}

/// Returns the compiler flags that make the program static and independent of the directory.
fn flags(root: &Path, compiler: &Compiler, architecture: &Architecture) -> anyhow::Result<Vec<String>> {
    // The last flag packs relocations, which otherwise take a fiftieth of the compressed program.
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

/// Returns the flags for LLVM's linker, which merges functions of the same code, if the compiler has it.
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

/// Finds a compiler that has the standard library of the architecture.
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
