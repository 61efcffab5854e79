//! Checks that the programs of all architectures show the same values of a captured host, foreign ones under QEMU's user
//! emulation, and that the arm64 program counts correctly on a kernel of its own, in an emulated machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::find;
use crate::compiler::{self, ARCHITECTURES, Architecture};
use crate::sh::say;
use crate::{vm, workspace};

/// A captured host of cgroup v2 with containers of all kinds.
const HOST: &str = "tests/fixtures/debian12-v2-systemd";

/// Emulation may be slow, and the machine busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// `cargo xtask ci emulated`: compares the programs that `cargo xtask dist` has built.
pub(crate) fn check() -> anyhow::Result<()> {
    let expositions = ARCHITECTURES.iter().map(series).collect::<anyhow::Result<Vec<_>>>()?;
    for (architecture, found) in ARCHITECTURES.iter().zip(&expositions) {
        let first = expositions.first().map(Vec::as_slice).unwrap_or_default();
        ensure!(found.len() > 100, "{}: only {} series", architecture.name, found.len());
        if let Some((found, expected)) = found.iter().zip(first).find(|(found, expected)| found != expected) {
            bail!("{}: {found}\nanother architecture: {expected}", architecture.name);
        }
        ensure!(found.len() == first.len(), "{}: {} series of {}", architecture.name, found.len(), first.len());
        say(&format!("{}: {} series, the same values", architecture.name, found.len()));
    }
    vm::arm64::boot(&compiler::program(find("aarch64")?))
}

/// Returns the program's series of containers and of the machine, without those that depend on the time.
fn series(architecture: &'static Architecture) -> anyhow::Result<Vec<String>> {
    let program = compiler::program(architecture);
    ensure!(program.exists(), "{} is missing: run `cargo xtask dist`", program.display());
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = if compiler::host()? == architecture {
        Command::new(&program)
    } else {
        let mut emulator = Command::new(format!("qemu-{}-static", architecture.name));
        emulator.arg(&program);
        emulator
    };
    say(&format!("$ {}", program.display()));
    let running = command
        .arg(format!("--path.cgroup={HOST}/sys/fs/cgroup"))
        .arg(format!("--path.procfs={HOST}/proc"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--docker.url=unix:///nonexistent.sock", "--ebpf=off", "--log.level=error"])
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .spawn()
        .context("does not start; a foreign program needs qemu-user-static: `cargo xtask setup dist`")?;
    let _running = Running(running);
    let start = Instant::now();
    let text = loop {
        let answer =
            Command::new("curl").args(["--silent", "--fail", &format!("http://127.0.0.1:{port}/metrics")]).output()?;
        if answer.status.success() {
            break String::from_utf8(answer.stdout)?;
        }
        ensure!(start.elapsed() < PATIENCE, "{} does not serve", program.display());
        std::thread::sleep(Duration::from_millis(200));
    };
    let is_captured = |line: &&str| {
        (line.starts_with("container_") || line.starts_with("machine_")) && !line.starts_with("container_last_seen")
    };
    Ok(text.lines().filter(is_captured).map(str::to_owned).collect())
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
