//! Runs the arm64 program in an emulated arm64 guest: Debian's kernel and an initrd, whose script compares the program's
//! values with the kernel's files. `cargo xtask ci emulated` calls it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::cache;
use super::image::tail;
use super::machine::Process;
use crate::debian;
use crate::setup::{self, Purpose};
use crate::sh::{self, say};

const QEMU: &str = "qemu-system-aarch64";

/// Two processors test the sums over per-CPU counters. This kernel needs no module for a disk of type `nvme`.
const MACHINE: &str = "-machine virt -accel tcg,thread=multi -cpu max,pauth-impdef=on -smp 2 -m 1024 -nodefaults -no-user-config \
     -display none -no-reboot -serial file:console -drive file=disk,format=raw,if=none,id=disk,cache=unsafe -device nvme,drive=disk,serial=1 \
     -kernel vmlinuz -initrd initrd";

const KERNEL: &str = "console=ttyAMA0 quiet loglevel=4 panic=-1 mitigations=off";

const SUITE: &str = "trixie";

const PACKAGES: &str = "linux-image-cloud-arm64,busybox-static";

/// The initrd's only script.
const INIT: &str = include_str!("guest/arm64.sh");

const DISK: u64 = 64 << 20;

/// Time limit of the guest, which takes a minute or two.
const PATIENCE: Duration = Duration::from_mins(30);

/// The guest's last line.
const VERDICT: &str = "verdict: ";
const GOOD: &str = "all as it should be";

/// Boots the guest with this static program. Fails if the program's values are not those of the kernel.
pub(crate) fn boot(program: &Path) -> anyhow::Result<()> {
    setup::require(Purpose::Guests)?;
    let packages = packages()?;
    let scratch = cache::Scratch::new("arm64")?;
    let directory = scratch.path();
    initrd(&packages, program, directory)?;
    fs::copy(kernel(&packages)?, directory.join("vmlinuz"))?;
    File::create(directory.join("disk"))?.set_len(DISK)?;
    say(&format!("$ {QEMU} -kernel vmlinuz -initrd initrd ..."));
    let start = Instant::now();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]).args(MACHINE.split_whitespace()).args(["-append", KERNEL]);
    command.current_dir(directory).stdin(Stdio::null());
    let mut process = Process::start(command.stderr(File::create(directory.join("qemu"))?))?;
    process.wait(Some(PATIENCE), || Ok(false))?;
    drop(process);
    let text = |name: &str| String::from_utf8_lossy(&fs::read(directory.join(name)).unwrap_or_default()).into_owned();
    let console = text("console");
    let verdict = console.lines().find_map(|line| line.trim_end().strip_prefix(VERDICT));
    ensure!(
        verdict == Some(GOOD),
        "the arm64 guest: {}\nQEMU said:\n{}the console's last lines:\n{}",
        verdict.unwrap_or("it ended without a verdict"),
        tail(&text("qemu")),
        tail(&console)
    );
    say(&format!("{}the arm64 guest: {GOOD}, in {:.0} s", tail(&console), start.elapsed().as_secs_f64()));
    Ok(())
}

/// Returns the directory of the unpacked packages in the cache.
fn packages() -> anyhow::Result<PathBuf> {
    let root = cache::root()?.join(format!("arm64-{}", cache::key(&[SUITE, PACKAGES])));
    let _lock = cache::lock("arm64")?;
    cache::whole(&root, |directory| {
        say(&format!("unpacking the arm64 kernel of {SUITE}, once"));
        debian::extract(SUITE, Some("arm64"), PACKAGES, debian::mirror()?, &[], directory)
    })?;
    cache::used(&root)?;
    Ok(root)
}

fn kernel(packages: &Path) -> anyhow::Result<PathBuf> {
    let boot = packages.join("boot");
    let mut names = fs::read_dir(&boot).with_context(|| boot.display().to_string())?;
    let found = names.find_map(|entry| Some(entry.ok()?.path()).filter(|path| name(path).starts_with("vmlinuz-")));
    found.with_context(|| format!("no kernel in {}", boot.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes the initrd.
fn initrd(packages: &Path, program: &Path, directory: &Path) -> anyhow::Result<()> {
    let root = directory.join("root");
    for name in ["bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(packages.join("usr/bin/busybox"), root.join("bin/busybox"))?;
    fs::copy(program, root.join("bin/exporter")).with_context(|| program.display().to_string())?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let script = "find . | cpio --quiet --create --format=newc --owner=0:0 >../initrd";
    sh::output(Command::new("sh").args(["-ec", script]).current_dir(&root)).map(drop)
}
