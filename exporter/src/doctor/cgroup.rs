//! The cgroup tree: is there one, does it show the containers, and has it what the default metrics need?

use std::fs;
use std::path::Path;

use super::report::{Line, Verdict};
use super::tree::{Found, Tree, words};
use crate::discover::{Error, Kind};

const TREE: &str = "cgroup tree";
const MOUNT: &str = "mount the host's tree: docker run -v /sys/fs/cgroup:/sys/fs/cgroup:ro";

/// The tree itself; what is not there is as bad as `verdict` says.
pub(super) fn tree(root: &Path, detected: &Result<Tree, Error>, verdict: Verdict) -> Line {
    let root = root.display();
    match detected {
        Ok(tree) => Line::ok(TREE, format!("{} at {root}", tree.words())),
        Err(Error::NoTree { .. }) => {
            Line::warn(TREE, format!("{root} holds neither cgroup.controllers nor controller directories"), cure())
                .with(verdict)
        }
        Err(Error::Unreadable { source, .. }) => {
            Line::warn(TREE, format!("{root} cannot be read: {source}"), cure()).with(verdict)
        }
    }
}

fn cure() -> String {
    format!("{MOUNT}, or point --path.cgroup at it")
}

/// Whether containers can be seen in it.
pub(super) fn containers(tree: &Tree, found: &[Found], engine_answers: bool, verdict: Verdict) -> Line {
    const WHAT: &str = "containers in the tree";
    match found {
        [] if tree.is_private => {
            let base = tree.base.display();
            Line::warn(WHAT, format!("none; {base} is the root of a private cgroup namespace, not the host's"), MOUNT)
                .with(verdict)
        }
        [] if engine_answers => Line::ok(WHAT, "none now (`docker ps` should show none either)"),
        [] => Line::ok(WHAT, "none now"),
        found => Line::ok(WHAT, format!("{} found", found.len())),
    }
}

/// The controllers that the default metrics read.
pub(super) fn controllers(tree: &Tree, found: &[Found], procfs: &Path) -> Vec<Line> {
    let needed: &[&str] = match tree.kind {
        Kind::V2 => &["cpu", "memory", "io", "pids"],
        Kind::V1 | Kind::Hybrid => &["cpu", "cpuacct", "memory", "blkio", "pids"],
    };
    let (missing, present): (Vec<&str>, Vec<&str>) =
        needed.iter().partition(|name| !tree.controllers.iter().any(|there| there == *name));
    let mut lines: Vec<Line> = missing.iter().map(|name| absent(name, procfs)).collect();
    if tree.kind == Kind::V2 {
        lines.extend(present.iter().filter_map(|name| not_delegated(name, tree, found)));
    }
    if lines.is_empty() {
        lines.push(Line::ok("controllers", needed.join(", ")));
    }
    lines
}

fn absent(name: &str, procfs: &Path) -> Line {
    let what = format!("controller {name}");
    let cure = if name == "memory" {
        "boot with `cgroup_enable=memory` (v1: `swapaccount=1` too) on the kernel's command line".to_owned()
    } else {
        format!("remove cgroup_disable={name} from the kernel's command line, or mount the controller")
    };
    match boot_state(name, procfs) {
        Some(true) => {
            Line::warn(what, "the kernel has it, the tree does not: it is not mounted there", cure_mount(name))
        }
        Some(false) => Line::warn(what, "switched off when the kernel was booted", cure),
        None => Line::warn(what, "not in the tree, and the kernel does not know it", cure),
    }
}

fn cure_mount(name: &str) -> String {
    format!(
        "mount it (`mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}`), and give the container the whole tree"
    )
}

/// The last column of `/proc/cgroups`; the kernel calls the v2 `io` controller `blkio` there.
fn boot_state(name: &str, procfs: &Path) -> Option<bool> {
    let name = if name == "io" { "blkio" } else { name };
    let text = fs::read(procfs.join("cgroups")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.first() == Some(&name)).and_then(|row| row.get(3).map(|enabled| *enabled == "1"))
}

/// On v2 a controller must also be handed down to the containers.
fn not_delegated(name: &str, tree: &Tree, found: &[Found]) -> Option<Line> {
    let lacks = |file: &Path| fs::read(file).is_ok_and(|text| !words(&text).iter().any(|word| word == name));
    let what = format!("controller {name}");
    let cure = format!("echo +{name} into cgroup.subtree_control of the cgroups above (systemd: Delegate=yes)");
    let without: Vec<&Found> = found.iter().filter(|found| lacks(&found.path.join("cgroup.controllers"))).collect();
    match without.first() {
        Some(first) => {
            let found = format!("{} of {} containers do not have it, e.g. {}", without.len(), found.len(), first.id);
            Some(Line::warn(what, found, cure))
        }
        None if found.is_empty() && lacks(&tree.base.join("cgroup.subtree_control")) => {
            Some(Line::warn(what, "not in the root's cgroup.subtree_control", cure))
        }
        None => None,
    }
}

/// Pressure stall information.
pub(super) fn pressure(tree: &Tree, procfs: &Path) -> Line {
    const WHAT: &str = "pressure (PSI)";
    if let Err(error) = fs::read(procfs.join("pressure/cpu")) {
        return Line::warn(
            WHAT,
            format!("{} cannot be read: {error}", procfs.join("pressure/cpu").display()),
            "boot with `psi=1`, or a kernel built with CONFIG_PSI",
        );
    }
    match tree.unified {
        Some(_) => Line::ok(WHAT, "kernel and tree have it"),
        None => Line::warn(
            WHAT,
            "the kernel has it, but cgroup v1 has none per container",
            "boot with `systemd.unified_cgroup_hierarchy=1` (cgroup v2)",
        ),
    }
}
