//! Whether the guest runs on this machine's processor (KVM) or is emulated (TCG).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::cache;
use super::emulator::Emulator;
use super::image::Image;
use super::machine::{self, Process};
use super::options::{Accelerator, Options};

/// A guest that has not come to user space in this time runs on no KVM worth the name.
const PROBE: Duration = Duration::from_secs(20);

/// What the initrd says when it was asked.
const PROOF: &str = "user space runs";

/// What was asked for, else what works. The answer is cached until the next boot of this machine.
pub(super) fn choose(options: &Options, emulator: &Emulator, image: &Image) -> anyhow::Result<Accelerator> {
    if options.accelerator.is_some() || fs::OpenOptions::new().write(true).open("/dev/kvm").is_err() {
        return Ok(options.accelerator.unwrap_or(Accelerator::Tcg));
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let note = image.file("kvm");
    let known = fs::read_to_string(&note).unwrap_or_default();
    let works = if let Some(answer) = known.strip_prefix(&boot) {
        answer == "works"
    } else {
        let works = kvm_works(emulator, image)?;
        fs::write(&note, format!("{boot}{}", if works { "works" } else { "does not work" }))?;
        works
    };
    Ok(if works { Accelerator::Kvm } else { Accelerator::Tcg })
}

/// A machine that is itself a guest may offer a `/dev/kvm` that cannot run this kernel: only trying tells.
fn kvm_works(emulator: &Emulator, image: &Image) -> anyhow::Result<bool> {
    let scratch = cache::Scratch::new("probe")?;
    let console = scratch.path().join("console");
    let mut command = emulator.command();
    command
        .args(["-machine", "q35", "-m", "256", "-nodefaults", "-display", "none"])
        .args(["-no-user-config", "-no-reboot", "-append", "console=ttyS0 panic=-1 probe"])
        .args(machine::processor(Accelerator::Kvm))
        .arg("-kernel")
        .arg(image.file("vmlinuz"))
        .arg("-initrd")
        .arg(image.file("initrd"))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Process::start(&mut command)?;
    // Its end is all that is waited for: by itself, or ours.
    process.wait(Some(PROBE), || Ok(says(&console, PROOF)))?;
    Ok(says(&console, PROOF))
}

fn says(file: &Path, words: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(words))
}
