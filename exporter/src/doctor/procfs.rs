//! Procfs: is it the host's, and does it let us read the network counters of a container?

use std::fs;
use std::path::Path;

use super::report::Line;
use super::tree::{self, Found};

const PROCFS: &str = "procfs";

/// The name of the first pid namespace: its inode number is fixed in the kernel.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// One line on procfs, and one on the network counters where a process of a container is in sight.
pub(super) fn check(procfs: &Path, containers: &[Found]) -> Vec<Line> {
    let root = procfs.display();
    if let Err(error) = fs::read_dir(procfs) {
        let found = format!("{root} cannot be read: {error}");
        return vec![Line::warn(
            PROCFS,
            found,
            "docker run --pid=host, or -v /proc:/host/proc:ro --path.procfs=/host/proc",
        )];
    }
    let mut pids = containers.iter().flat_map(|container| tree::pids(&container.path)).peekable();
    if pids.peek().is_none() {
        return vec![without_containers(procfs)];
    }
    let mut saw_zero = false;
    // The kernel writes 0 for a process that our pid namespace does not hold.
    let live = pids.inspect(|&pid| saw_zero |= pid == 0).find(|&pid| pid != 0 && procfs.join(pid.to_string()).is_dir());
    match live {
        Some(pid) => vec![Line::ok(PROCFS, format!("{root} is the host's")), network(procfs, pid)],
        None if saw_zero => vec![Line::warn(
            PROCFS,
            "the containers' processes belong to a pid namespace that cannot be seen from here: no network metrics",
            "docker run --pid=host",
        )],
        None => vec![Line::warn(
            PROCFS,
            format!("{root} does not show the containers' processes: no network metrics"),
            "docker run --pid=host, or -v /proc:/host/proc:ro --path.procfs=/host/proc",
        )],
    }
}

/// With no container to look for, the pid namespace itself tells.
fn without_containers(procfs: &Path) -> Line {
    let root = procfs.display();
    match fs::read_link(procfs.join("self/ns/pid")) {
        Ok(namespace) if namespace.as_os_str() == FIRST_PID_NAMESPACE => {
            Line::ok(PROCFS, format!("{root} is the host's"))
        }
        Ok(_) => Line::warn(
            PROCFS,
            format!(
                "{root} shows a pid namespace of its own, and there is no container to tell whether it is the engine's"
            ),
            "in a container: docker run --pid=host",
        ),
        Err(_) => {
            Line::ok(PROCFS, format!("{root} can be read; there is no container to tell whether it is the host's"))
        }
    }
}

fn network(procfs: &Path, pid: u32) -> Line {
    const WHAT: &str = "network counters";
    let file = procfs.join(pid.to_string()).join("net/dev");
    match fs::read(&file) {
        Ok(_) => Line::ok(WHAT, format!("{} can be read", file.display())),
        Err(error) => Line::warn(
            WHAT,
            format!("{} cannot be read: {error}", file.display()),
            "run as root, or docker run --cap-add=SYS_PTRACE; with hidepid= on /proc, its gid= group",
        ),
    }
}
