//! Whether the guest runs on this machine's processor (KVM) or is emulated (TCG).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::bail;

use super::emulator::Emulator;
use super::image::Image;
use super::machine::Process;
use super::{Options, cache};

/// How the guest's processor comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

/// A guest that has not come to user space in this time runs on no KVM worth the name.
const PROBE: Duration = Duration::from_secs(20);

/// What the initrd says when it was asked.
const PROOF: &str = "user space runs";

/// As on the command line; none where we are to find out.
pub(super) fn parse(word: &str) -> anyhow::Result<Option<Accelerator>> {
    match word {
        "auto" => Ok(None),
        "kvm" => Ok(Some(Accelerator::Kvm)),
        "tcg" => Ok(Some(Accelerator::Tcg)),
        other => bail!("--accel is kvm, tcg or auto, not `{other}`"),
    }
}

impl Accelerator {
    /// What was asked for, else what works. The answer is kept until the next boot of this machine.
    pub(super) fn choose(options: &Options, emulator: &Emulator, image: &Image) -> anyhow::Result<Self> {
        if let Some(accelerator) = options.accelerator {
            return Ok(accelerator);
        }
        if fs::OpenOptions::new().write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let note = image.file("kvm");
        let known = fs::read_to_string(&note).unwrap_or_default();
        let works = match known.strip_prefix(&boot) {
            Some("works") => true,
            Some(_) => false,
            None => {
                let works = kvm_works(emulator, image)?;
                fs::write(&note, format!("{boot}{}", if works { "works" } else { "does not work" }))?;
                works
            }
        };
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's `-accel` and `-cpu`.
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // QEMU 7.2 emulates cmpxchg16b wrongly: Linux 6.12 dies of it. `rep movsb` is emulated byte by byte, and a processor
            // with fsrm and without erms never was: Linux 6.1 waits for ever on it. The others cost time and protect nobody
            // here.
            Self::Tcg => {
                ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16,-erms,-fsrm,-la57,-smap,-smep,-pku"]
            }
        }
    }
}

/// A machine that is itself a guest may offer a `/dev/kvm` that cannot run this kernel: only trying tells.
fn kvm_works(emulator: &Emulator, image: &Image) -> anyhow::Result<bool> {
    let scratch = cache::Scratch::new("probe")?;
    let console = scratch.path().join("console");
    let mut command = emulator.command();
    command
        .args(["-machine", "q35", "-m", "256", "-nodefaults", "-display", "none"])
        .args(["-no-user-config", "-no-reboot", "-append", "console=ttyS0 panic=-1 probe"])
        .args(Accelerator::Kvm.arguments())
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
