//! Prepares a machine that can run a command: its image, its accelerator, and for an emulated machine a state that was saved
//! after its boot.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::emulator::{self, Emulator};
use super::image::{self, Image};
use super::machine::{self, Machine, Process};
use super::options::{Accelerator, Options};
use super::{cache, can_run};
use crate::sh::{self, quoted, say};

/// Time limit of a boot. Minutes are usual under emulation on a busy machine.
const BOOT: Duration = Duration::from_mins(30);

/// Time limit of writing the memory.
const SAVE: Duration = Duration::from_mins(20);

/// Everything that a run starts from.
pub(super) struct Ready {
    pub(super) emulator: Emulator,
    pub(super) image: Image,
    pub(super) accelerator: Accelerator,
    /// Directory of the saved state, with `root.ext4` and `memory`; `None` if every run boots.
    pub(super) saved: Option<PathBuf>,
}

/// Returns everything that a run starts from, and makes what is missing.
pub(super) fn prepare(options: &Options) -> anyhow::Result<Ready> {
    can_run()?;
    let emulator = emulator::prepare(options)?;
    let _lock = cache::lock(options.suite.name)?;
    let image = image::prepare(options)?;
    let accelerator = choose_accelerator(options, &emulator, &image)?;
    if accelerator == Accelerator::Kvm {
        return Ok(Ready { emulator, image, accelerator, saved: None });
    }
    let key = cache::key(&[&emulator.version, &machine::make(accelerator)]);
    let saved = image.file(&format!("state-{key}"));
    let limit = options.limit.map_or(BOOT, |limit| limit.min(BOOT));
    cache::whole(&saved, |directory| boot_and_save(&emulator, &image, accelerator, limit, directory))?;
    Ok(Ready { emulator, image, accelerator, saved: Some(saved) })
}

/// Returns QEMU's arguments for starting from a saved state.
pub(super) fn incoming(saved: &Path) -> Vec<String> {
    let memory = saved.join("memory").display().to_string();
    vec!["-incoming".to_owned(), format!("exec:cat {}", quoted(&memory))]
}

/// Time limit for a guest to reach user space, if KVM works.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// The line that the initrd prints when its kernel command line says `probe`.
const PROOF: &str = "user space runs";

/// Returns the accelerator of the options, or the one that works. The answer is cached until this machine's next boot.
fn choose_accelerator(options: &Options, emulator: &Emulator, image: &Image) -> anyhow::Result<Accelerator> {
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

/// Tries to boot the kernel with KVM. A machine that is itself a guest may have a `/dev/kvm` that cannot run it.
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
    // Waits until the guest has printed the line, has ended, or the limit is over.
    process.wait(Some(PROBE_LIMIT), || Ok(says(&console, PROOF)))?;
    Ok(says(&console, PROOF))
}

fn says(file: &Path, words: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(words))
}

fn boot_and_save(
    emulator: &Emulator,
    image: &Image,
    accelerator: Accelerator,
    limit: Duration,
    directory: &Path,
) -> anyhow::Result<()> {
    say("there is no KVM here that works: the guest is emulated; it boots once, and is saved");
    let start = Instant::now();
    let root = directory.join("root.ext4");
    // A copy, because the saved memory and the disk below it belong together.
    sh::output(Command::new("cp").args(["--sparse=always"]).arg(image.file("root.ext4")).arg(&root))?;
    let scratch = cache::Scratch::new("boot")?;
    let machine =
        Machine { emulator, image, accelerator, directory: scratch.path(), root, keep: true, terminal: false };
    let mut process = machine.start(&["-qmp", "unix:monitor,server=on,wait=off"].map(str::to_owned))?;
    let ended = process.wait(Some(limit), || Ok(machine.has_said("ready")))?;
    if !machine.has_said("ready") {
        let how = ended.map_or_else(|| format!("not ready after {limit:?}"), |status| format!("ended with {status}"));
        bail!("the guest does not boot: {how}\n{}", machine.last_words());
    }
    say(&format!("booted after {:.0} s", start.elapsed().as_secs_f64()));
    let mut monitor = Monitor::open(&scratch.path().join("monitor"))?;
    save(&mut monitor, &directory.join("memory"))?;
    monitor.call("quit", &json!({}))?;
    let ended = process.wait(Some(Duration::from_mins(5)), || Ok(false))?;
    ensure!(ended.is_some(), "QEMU does not end after it has saved the guest");
    say(&format!("saved after {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn save(monitor: &mut Monitor, file: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    // The guest runs until its memory is written, because a machine that is stopped before would resume stopped. The default
    // bandwidth is that of a slow network.
    monitor.call("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 }))?;
    let target = format!("exec:cat >{}", quoted(&file.display().to_string()));
    monitor.call("migrate", &json!({ "uri": target }))?;
    while start.elapsed() < SAVE {
        let answer = monitor.call("query-migrate", &json!({}))?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => bail!("QEMU could not save the guest: {answer}"),
            _ => sleep(Duration::from_millis(100)),
        }
    }
    bail!("the guest was not saved within {SAVE:?}")
}

/// A connection to QEMU's monitor.
struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Connects to the socket that QEMU listens on.
    fn open(socket: &Path) -> anyhow::Result<Self> {
        let writer = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        writer.set_read_timeout(Some(Duration::from_mins(5)))?;
        let mut monitor = Self { reader: BufReader::new(writer.try_clone()?), writer };
        monitor.call("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Calls a command and returns its result. Greetings and events are ignored.
    fn call(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{message}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("QEMU ended before it answered {command}");
            }
            let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
        }
    }
}
