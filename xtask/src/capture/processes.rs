//! The slice of `/proc` that the exporter reads: a few facts of the host, and the containers' own processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::cgroups::Cgroups;
use super::{redact, write};

const PROC: &str = "/proc";

/// Tells what of a file's text goes into the fixture.
type Keep = fn(&str) -> String;

/// Facts of the host, each with what is kept of it.
const HOST_FILES: &[(&str, Keep)] = &[
    ("cpuinfo", redact::cpuinfo),
    ("diskstats", str::to_owned),
    ("meminfo", str::to_owned),
    ("stat", redact::stat),
    ("pressure/cpu", str::to_owned),
    ("pressure/io", str::to_owned),
    ("pressure/memory", str::to_owned),
    ("sys/kernel/osrelease", redact::release),
    ("1/net/dev", redact::interfaces),
];

/// Files of a container's process. Nothing that holds a command line or an environment.
const PROCESS_FILES: &[&str] = &["cgroup", "limits", "stat"];

/// Files of a network namespace of a container's own.
const NETWORK_FILES: &[&str] = &["net/dev", "net/tcp", "net/tcp6", "net/udp", "net/udp6"];

/// Copies the slice.
pub(super) fn copy(cgroups: &Cgroups, target: &Path) -> anyhow::Result<()> {
    for (name, keep) in HOST_FILES {
        // Without PSI there is no pressure directory.
        if let Ok(text) = fs::read_to_string(Path::new(PROC).join(name)) {
            write(&target.join(name), keep(&text).as_bytes())?;
        }
    }
    let host = host_namespace();
    if let Some(namespace) = &host {
        link(namespace, &target.join("1/ns/net"))?;
    }
    let mut copied = 0;
    for pid in cgroups.processes()? {
        copied += usize::from(process(pid, target, host.as_deref())?);
    }
    ensure!(copied > 0, "no process of a container could be read in {PROC}: run this as root on the host");
    Ok(())
}

/// Copies one process; false where it has ended meanwhile.
fn process(pid: u32, target: &Path, host: Option<&Path>) -> anyhow::Result<bool> {
    let from = Path::new(PROC).join(pid.to_string());
    let to = target.join(pid.to_string());
    let Ok(namespace) = fs::read_link(from.join("ns/net")) else { return Ok(false) };
    let text = |name: &str| fs::read_to_string(from.join(name)).ok();
    for name in PROCESS_FILES {
        if let Some(text) = text(name) {
            write(&to.join(name), text.as_bytes())?;
        }
    }
    let own = host != Some(namespace.as_path());
    for name in NETWORK_FILES {
        match text(name) {
            // Sockets of the host are the host's business.
            Some(text) if own => write(&to.join(name), text.as_bytes())?,
            Some(text) if *name == "net/dev" => write(&to.join(name), redact::interfaces(&text).as_bytes())?,
            _ => {}
        }
    }
    link(&namespace, &to.join("ns/net"))?;
    Ok(true)
}

/// The host's network namespace. Pid 1 may be out of reach; where we see the interfaces that it sees, ours is the same.
fn host_namespace() -> Option<PathBuf> {
    let names = |pid: &str| {
        let text = fs::read_to_string(Path::new(PROC).join(pid).join("net/dev")).ok()?;
        Some(text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect())
    };
    fs::read_link("/proc/1/ns/net").ok().or_else(|| {
        let same: Option<bool> = names("1").zip(names("self")).map(|(init, own): (Vec<_>, Vec<_>)| init == own);
        same.filter(|same| *same).and_then(|_| fs::read_link("/proc/self/ns/net").ok())
    })
}

/// A link that points nowhere, as in `/proc`: what it says is the fact.
fn link(fact: &Path, path: &Path) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    symlink(fact, path).with_context(|| path.display().to_string())
}
