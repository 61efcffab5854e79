//! Finds the QEMU that runs the guest: this machine's, or if that is old, a newer one that is unpacked into the cache.
//!
//! Emulation became up to three times as fast after QEMU 7, the version of Debian 12.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::options::Options;
use super::{cache, can_build};
use crate::debian;
use crate::sh::{self, say};

const QEMU: &str = "qemu-system-x86_64";

/// The first fast version.
const GOOD: u32 = 8;

/// The suite of the unpacked QEMU.
const SUITE: &str = "trixie";

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A QEMU.
#[derive(Debug)]
pub(super) struct Emulator {
    /// The program and its first arguments.
    words: Vec<OsString>,
    /// Directory of its accelerators, if it is not the usual one.
    modules: Option<PathBuf>,
    /// Output of `--version`.
    pub(super) version: String,
}

/// Finds or unpacks a QEMU.
pub(super) fn prepare(options: &Options) -> anyhow::Result<Emulator> {
    let installed = Emulator::new(vec![QEMU.into()], None);
    if let Ok(installed) = installed
        && major(&installed.version).is_some_and(|version| version >= GOOD)
    {
        return Ok(installed);
    }
    let root = cache::root()?.join(format!("qemu-{SUITE}"));
    {
        let _lock = cache::lock("qemu")?;
        cache::whole(&root, |directory| unpack(options, directory))?;
    }
    let mut words: Vec<OsString> =
        vec![root.join(LIBRARIES).join("ld-linux-x86-64.so.2").into(), "--library-path".into()];
    words.extend([root.join(LIBRARIES).into(), root.join("usr/bin").join(QEMU).into()]);
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        words.extend(["-L".into(), root.join(data).into()]);
    }
    Emulator::new(words, Some(root.join(LIBRARIES).join("qemu")))
}

fn unpack(options: &Options, directory: &Path) -> anyhow::Result<()> {
    can_build()?;
    say(&format!("this machine's QEMU is missing, or older than {GOOD}: unpacking that of {SUITE}, once"));
    debian::extract(SUITE, None, "qemu-system-x86,seabios", options.mirror()?, &[], directory)
}

/// Returns the major version in a text such as `QEMU emulator version 7.2.22 (Debian ...)`.
fn major(text: &str) -> Option<u32> {
    text.split_once("version ")?.1.split('.').next()?.parse().ok()
}

impl Emulator {
    fn new(words: Vec<OsString>, modules: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut emulator = Self { words, modules, version: String::new() };
        let (program, rest) = emulator.words.split_first().context("no words")?;
        let mut command = Command::new(program);
        command.args(rest).arg("--version");
        emulator.version = sh::output(&mut command)?;
        Ok(emulator)
    }

    /// Returns a command that the kernel ends when this process ends, even if it is killed.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&self.words);
        if let Some(modules) = &self.modules {
            command.env("QEMU_MODULE_DIR", modules);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_number_before_the_first_point() {
        assert_eq!(super::major("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), Some(7));
        assert_eq!(super::major("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(super::major("no such program"), None);
    }
}
