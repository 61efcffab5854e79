//! `cargo xtask vm`: runs a Debian guest in QEMU, with cgroup v2 alone, systemd, and the kernel and the Docker of its suite.
//!
//! The image is built once per recipe (`guest/`), in the cache outside of the checkout. If only emulation works, which boots
//! slowly, the machine's state is saved when Docker is ready, and every later run starts from that state. A guest has no
//! network beyond its own, and ends with the command that started it.

pub(crate) mod arm64;
mod cache;
mod commands;
mod emulator;
mod image;
mod machine;
mod options;
mod session;
mod state;

use anyhow::{bail, ensure};

use options::USAGE;
pub(crate) use session::Ended;

use crate::setup::{self, Purpose};

/// Runs the command.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let (options, command) = options::parse(arguments)?;
    match command {
        ["build"] => state::prepare(&options).map(drop),
        ["test", filters @ ..] => commands::test(&options, filters),
        ["soak", arguments @ ..] => commands::soak(&options, arguments),
        ["packages", directory] => commands::packages(&options, directory.as_ref()),
        ["capture"] => commands::capture(&options),
        ["shell"] => commands::shell(&options),
        ["run", rest @ ..] => commands::run(&options, rest),
        ["clean"] => cache::clean(),
        [] => bail!("a command is missing\n\n{USAGE}"),
        unknown => bail!("`{}` is not a command of vm\n\n{USAGE}", unknown.join(" ")),
    }
}

/// Fails if a guest cannot run here.
fn can_run() -> anyhow::Result<()> {
    let processor = std::env::consts::ARCH;
    ensure!(
        processor == "x86_64",
        "guests have x86_64 processors and run programs built here, and this machine's is {processor}; what helps: \
         leave the steps guest and guests out (cargo xtask ci fmt clippy unit docs tidy host)"
    );
    setup::require(Purpose::Guests)
}

/// Fails if an image cannot be built here.
fn can_build() -> anyhow::Result<()> {
    setup::require(Purpose::Guests)?;
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root, "the guest's image is built by root, with root's files in it: run this as root");
    Ok(())
}
