//! The virtual machine: QEMU's command line, and its process, which ends with this process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::emulator::Emulator;
use super::image::{Image, tail};
use super::options::Accelerator;

/// Arguments of all machines. A saved state fits only a machine with the same arguments.
const MACHINE: &str = "-machine q35,hpet=off -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot";

/// A network card that is connected to no network.
const NETWORK: &str = "-netdev hubport,id=net,hubid=0 -device virtio-net-pci,netdev=net,romfile=";

/// The console, a terminal, and the ports for the guest's output and status.
const PORTS: &str = "-serial file:console -device virtio-serial-pci -device virtconsole,chardev=terminal,nr=0 \
    -chardev file,id=output,path=output -device virtserialport,chardev=output,name=output,nr=1 \
    -chardev file,id=status,path=status -device virtserialport,chardev=status,name=status,nr=2";

/// The kernel's command line.
const KERNEL: &str = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 tsc=reliable no_timer_check \
     systemd.show_status=false";

/// Sizes of the disks that carry archives into the guest and out of it; sparse on this side.
const IN: u64 = 1 << 30;
const OUT: u64 = 2 << 30;

/// How often a running machine is polled.
const INTERVAL: Duration = Duration::from_millis(50);

/// A machine before its start.
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) image: &'a Image,
    pub(super) accelerator: Accelerator,
    /// Directory of its disks and its output: `in`, `out`, `console`, `output`, `status`.
    pub(super) directory: &'a Path,
    /// Image of its root filesystem.
    pub(super) root: PathBuf,
    /// Whether writes to its root persist.
    pub(super) keep: bool,
    /// Whether hvc0 is this terminal.
    pub(super) terminal: bool,
}

/// Returns everything that a saved state depends on, beside the image.
pub(super) fn make(accelerator: Accelerator) -> String {
    format!("{MACHINE} {NETWORK} {PORTS} {KERNEL} {:?} {IN} {OUT}", processor(accelerator))
}

/// Returns QEMU's `-accel` and `-cpu`.
pub(super) fn processor(accelerator: Accelerator) -> [&'static str; 4] {
    match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        // QEMU 7.2 emulates cmpxchg16b wrongly: Linux 6.12 dies of it. `rep movsb` is emulated byte by byte, and a processor
        // with fsrm and without erms never was: Linux 6.1 waits for ever on it. The others cost time and protect nobody
        // here.
        Accelerator::Tcg => {
            ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16,-erms,-fsrm,-la57,-smap,-smep,-pku"]
        }
    }
}

impl Machine<'_> {
    /// Starts it, with more arguments for QEMU.
    pub(super) fn start(&self, more: &[String]) -> anyhow::Result<Process> {
        for (name, size) in [("in", IN), ("out", OUT)] {
            let file = File::options().create(true).append(true).open(self.path(name))?;
            file.set_len(size)?;
        }
        for name in ["console", "output", "status"] {
            fs::write(self.path(name), "")?;
        }
        let mut command = self.emulator.command();
        command.args(processor(self.accelerator));
        for words in [MACHINE, NETWORK, PORTS] {
            command.args(words.split_whitespace());
        }
        let terminal = if self.terminal { "stdio,id=terminal,signal=off" } else { "null,id=terminal" };
        command.args(["-chardev", terminal, "-append", KERNEL]);
        command.arg("-kernel").arg(self.image.file("vmlinuz")).arg("-initrd").arg(self.image.file("initrd"));
        for drive in self.drives() {
            command.args(["-drive", &drive]);
        }
        command.args(more).current_dir(self.directory).env("TMPDIR", self.directory);
        let errors = File::create(self.path("qemu"))?;
        let (input, output) =
            if self.terminal { (Stdio::inherit(), Stdio::inherit()) } else { (Stdio::null(), Stdio::null()) };
        Process::start(command.stdin(input).stdout(output).stderr(errors))
    }

    fn drives(&self) -> [String; 4] {
        let drive = |path: &Path, snapshot: bool| {
            let path = path.display().to_string().replace(',', ",,");
            let snapshot = if snapshot { "on" } else { "off" };
            // A full disk of the host becomes an I/O error in the guest. By default QEMU would pause the guest.
            format!("file={path},format=raw,if=virtio,cache=unsafe,snapshot={snapshot},werror=report,rerror=report")
        };
        [
            drive(&self.root, !self.keep),
            drive(&self.path("in"), false),
            drive(&self.path("out"), false),
            drive(&self.image.file("data.ext4"), true),
        ]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns whether the guest has written a status with this first word.
    pub(super) fn has_said(&self, word: &str) -> bool {
        self.status(word).is_some()
    }

    /// Returns the rest of the guest's last status line with this first word.
    pub(super) fn status(&self, word: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("status")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.next_back().map(|rest| rest.trim().to_owned())
    }

    /// Returns the last output of QEMU and of the guest's console, for an error.
    pub(super) fn last_words(&self) -> String {
        let text = |name: &str| fs::read(self.path(name)).unwrap_or_default();
        let console = String::from_utf8_lossy(&text("console")).into_owned();
        let qemu = String::from_utf8_lossy(&text("qemu")).into_owned();
        format!("QEMU said:\n{}the console's last lines:\n{}", tail(&qemu), tail(&console))
    }
}

/// A child process that is killed when the value is dropped.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("{}", command.get_program().display()))?;
        Ok(Self(child))
    }

    /// Waits until the process ends, `enough` returns true, or the limit is over. Returns `None` if the process still runs.
    pub(super) fn wait(
        &mut self,
        limit: Option<Duration>,
        mut enough: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let ended = self.0.try_wait()?;
            if enough()? || ended.is_some() || limit.is_some_and(|limit| start.elapsed() > limit) {
                return Ok(ended);
            }
            sleep(INTERVAL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}
