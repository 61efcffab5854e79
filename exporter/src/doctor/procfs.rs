//! Checks procfs: whether it is the host's, and whether the network counters of a container can be read there.

use std::fs;
use std::path::Path;
use std::process;

use super::Line;
use super::cgroup::{Found, pids};
use crate::read::{HiddenProcesses, can_dump_links};

const PROCFS: &str = "procfs";

/// The name of the initial pid namespace, whose inode number is fixed (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Returns a line on procfs, and a line on the network counters if a container's process is visible.
///
/// `cgroup.procs` lists a process outside this pid namespace as 0 (v2) or not at all (v1).
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
    // This process's own container is always visible, and does not show whether others are.
    let others: Vec<Vec<u32>> = containers
        .iter()
        .map(|container| pids(&container.directory))
        .filter(|pids| !pids.contains(&process::id()))
        .collect();
    let mut seen = others.iter().flatten().filter(|&&pid| pid != 0).peekable();
    if others.is_empty() {
        vec![without_containers(procfs)]
    } else if seen.peek().is_none() {
        vec![Line::warn(
            PROCFS,
            "the containers' processes belong to a pid namespace that cannot be seen from here: no network metrics",
            "docker run --pid=host",
        )]
    } else if let Some(hidden) = HiddenProcesses::of(procfs).filter(|_| !can_read_any(procfs, &mut seen.clone())) {
        let found = format!("{root} is {hidden}, which hides the containers' processes: no network metrics");
        vec![Line::warn(PROCFS, found, hidden.hint())]
    } else if let Some(&pid) = seen.find(|pid| procfs.join(pid.to_string()).is_dir()) {
        vec![Line::ok(PROCFS, format!("{root} shows the containers' processes")), network(procfs, pid)]
    } else {
        vec![Line::warn(
            PROCFS,
            format!("{root} does not show the containers' processes: no network metrics"),
            "docker run --pid=host, and --path.procfs with the procfs of that pid namespace",
        )]
    }
}

/// Returns whether scrapes log this problem themselves. They do not log that `--path.procfs` names the wrong procfs.
pub(super) fn is_logged_by_scrapes(line: &Line) -> bool {
    line.what == PROCFS && !line.hint.contains("--path.procfs")
}

fn can_read_any<'p>(procfs: &Path, pids: &mut impl Iterator<Item = &'p u32>) -> bool {
    pids.any(|pid| fs::read(procfs.join(pid.to_string()).join("net/dev")).is_ok())
}

/// Returns the line if there is no container to look for: the pid namespace shows whose procfs it is.
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
        Ok(_) => Line::ok(WHAT, format!("{} can be read; {}", file.display(), netlink(procfs))),
        Err(error) => Line::warn(
            WHAT,
            format!("{} cannot be read: {error}", file.display()),
            "run as root, or docker run --cap-add=SYS_PTRACE; with hidepid= on /proc, its gid= group",
        ),
    }
}

/// Returns whether network counters can be read by one netlink dump, which costs less and gives the same metrics.
fn netlink(procfs: &Path) -> String {
    match can_dump_links(procfs) {
        Ok(()) => "one netlink dump of the host's links serves where containers are many".to_owned(),
        Err(refusal) => format!("one netlink dump for all of them would cost less, but {refusal}"),
    }
}
