//! The cgroup trees: are there any, do they show the containers, and have they what the default metrics need?

use std::fs;
use std::path::Path;

use super::report::{Line, Verdict};
use super::tree::{Found, words};
use crate::discover::{Error, Hierarchy, Kind, Tree, Version};
use crate::metrics::Controller;

const TREE: &str = "cgroup tree";
const MOUNT: &str = "mount the host's tree: docker run -v /sys/fs/cgroup:/sys/fs/cgroup:ro";

/// The controllers that the default metrics need: name on v1, and on v2, where `cpu.stat` of each cgroup has what cpuacct had.
const NEEDED: [(Controller, &str, Option<&str>); 5] = [
    (Controller::Cpu, "cpu", Some("cpu")),
    (Controller::Cpuacct, "cpuacct", None),
    (Controller::Memory, "memory", Some("memory")),
    (Controller::Io, "blkio", Some("io")),
    (Controller::Pids, "pids", Some("pids")),
];

/// The trees themselves; what is not there is as bad as `verdict` says.
pub(super) fn tree(root: &Path, detected: &Result<Hierarchy, Error>, verdict: Verdict) -> Line {
    let root = root.display();
    let hint = || format!("{MOUNT}, or point --path.cgroup at it");
    match detected {
        Ok(hierarchy) => {
            let kind = match hierarchy.kind() {
                Kind::V2 => "cgroup v2",
                Kind::V1 => "cgroup v1",
                Kind::Hybrid => "cgroup v1 with a v2 tree beside it (hybrid)",
            };
            Line::ok(TREE, format!("{kind} at {root}"))
        }
        Err(Error::NoTree { .. }) => {
            Line::warn(TREE, format!("{root} holds neither cgroup.controllers nor controller directories"), hint())
                .with(verdict)
        }
        Err(Error::Unreadable { source, .. }) => {
            Line::warn(TREE, format!("{root} cannot be read: {source}"), hint()).with(verdict)
        }
    }
}

/// Whether containers can be seen in them.
pub(super) fn containers(hierarchy: &Hierarchy, found: &[Found], engine_answers: bool, verdict: Verdict) -> Line {
    const WHAT: &str = "containers in the tree";
    let root = hierarchy.root().display();
    match found {
        [] if hierarchy.is_private() => {
            Line::warn(WHAT, format!("none; {root} is the root of a private cgroup namespace, not the host's"), MOUNT)
                .with(verdict)
        }
        [] if engine_answers => Line::ok(WHAT, "none now (`docker ps` should show none either)"),
        [] => Line::ok(WHAT, "none now"),
        found => Line::ok(WHAT, format!("{} found", found.len())),
    }
}

/// The controllers that the default metrics need, and whether the containers have them.
pub(super) fn controllers(hierarchy: &Hierarchy, found: &[Found], procfs: &Path) -> Vec<Line> {
    let present = hierarchy.controllers();
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for (controller, on_v1, on_v2) in NEEDED {
        let tree = hierarchy.tree(controller);
        let version = tree.map_or(Version::V1, |tree| tree.version);
        let name = if version == Version::V1 { Some(on_v1) } else { on_v2 };
        let Some(name) = name else { continue };
        let line = match tree.filter(|_| present.iter().any(|present| present == name)) {
            None => Some(absent(name, procfs)),
            Some(tree) => without_cgroup(name, tree, found)
                .or_else(|| (version == Version::V2).then(|| not_delegated(name, tree, found)).flatten()),
        };
        names.push(name);
        lines.extend(line);
    }
    if lines.is_empty() {
        lines.push(Line::ok("controllers", names.join(", ")));
    }
    lines
}

fn absent(name: &str, procfs: &Path) -> Line {
    let what = format!("controller {name}");
    let hint = if name == "memory" {
        "boot with `cgroup_enable=memory` (v1: `swapaccount=1` too) on the kernel's command line".to_owned()
    } else {
        format!("remove cgroup_disable={name} from the kernel's command line, or mount the controller")
    };
    match boot_state(name, procfs) {
        Some(true) => {
            let mount = format!(
                "mount it (`mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}`), and give the container the whole tree"
            );
            Line::warn(what, "the kernel has it, the tree does not: it is not mounted there", mount)
        }
        Some(false) => Line::warn(what, "switched off when the kernel was booted", hint),
        None => Line::warn(what, "not in the tree, and the kernel does not know it", hint),
    }
}

/// The last column of `/proc/cgroups`; the kernel calls the v2 `io` controller `blkio` there.
fn boot_state(name: &str, procfs: &Path) -> Option<bool> {
    let name = if name == "io" { "blkio" } else { name };
    let text = fs::read(procfs.join("cgroups")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.first() == Some(&name)).and_then(|row| row.get(3).map(|enabled| *enabled == "1"))
}

/// A container can be in other trees and not in that of a controller: an engine with the v1 interface makes no cgroup in a v2
/// tree beside it.
fn without_cgroup(name: &str, tree: &Tree, found: &[Found]) -> Option<Line> {
    let lacks = |found: &&Found| !tree.path.join(found.path.trim_start_matches('/')).is_dir();
    let without: Vec<&Found> = found.iter().filter(lacks).collect();
    let first = without.first()?;
    let at = tree.path.display();
    let found = format!("{} of {} containers have no cgroup in {at}, e.g. {}", without.len(), found.len(), first.id);
    let hint = match tree.version {
        Version::V2 => format!(
            "boot without cgroup_no_v1={name} on the kernel's command line, or with systemd.unified_cgroup_hierarchy=1 (v2 alone)"
        ),
        Version::V1 => "restart the engine: it makes cgroups in the trees that were mounted when it started".to_owned(),
    };
    Some(Line::warn(format!("controller {name}"), found, hint))
}

/// On v2 a controller must also be handed down to the containers.
fn not_delegated(name: &str, tree: &Tree, found: &[Found]) -> Option<Line> {
    let lacks = |file: &Path| fs::read(file).is_ok_and(|text| !words(&text).iter().any(|word| word == name));
    let what = format!("controller {name}");
    let hint = format!("echo +{name} into cgroup.subtree_control of the cgroups above (systemd: Delegate=yes)");
    let in_tree =
        |found: &&Found| lacks(&tree.path.join(found.path.trim_start_matches('/')).join("cgroup.controllers"));
    let without: Vec<&Found> = found.iter().filter(in_tree).collect();
    match without.first() {
        Some(first) => {
            let found = format!("{} of {} containers do not have it, e.g. {}", without.len(), found.len(), first.id);
            Some(Line::warn(what, found, hint))
        }
        None if found.is_empty() && lacks(&tree.path.join("cgroup.subtree_control")) => {
            Some(Line::warn(what, "not in the root's cgroup.subtree_control", hint))
        }
        None => None,
    }
}

/// Pressure stall information.
pub(super) fn pressure(hierarchy: &Hierarchy, procfs: &Path) -> Line {
    const WHAT: &str = "pressure (PSI)";
    if let Err(error) = fs::read(procfs.join("pressure/cpu")) {
        return Line::warn(
            WHAT,
            format!("{} cannot be read: {error}", procfs.join("pressure/cpu").display()),
            "boot with `psi=1`, or a kernel built with CONFIG_PSI",
        );
    }
    match hierarchy.tree(Controller::Core) {
        Some(_) => Line::ok(WHAT, "kernel and tree have it"),
        None => Line::warn(
            WHAT,
            "the kernel has it, but cgroup v1 has none per container",
            "boot with `systemd.unified_cgroup_hierarchy=1` (cgroup v2)",
        ),
    }
}
