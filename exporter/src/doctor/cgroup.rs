//! Checks the cgroup trees: whether they exist, whether they show the containers, and whether they have the controllers
//! that the default metrics need.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Line, Verdict};
use crate::discover::walk::{BELOW_CONTAINER, Next, walk};
use crate::discover::{self, ContainerId, Error, Hierarchy, Kind, Tree, Version, and_empty, find_and_check};
use crate::metrics::Controller;
use crate::read::shows_all_processes;

const TREE: &str = "cgroup tree";
const MOUNT: &str = "mount the host's tree: docker run -v /sys/fs/cgroup:/sys/fs/cgroup:ro";

/// A controller that the default metrics need.
struct Needed {
    controller: Controller,
    /// Name of the v1 controller.
    on_v1: &'static str,
    /// Name of the v2 controller. None if `cpu.stat`, which every v2 cgroup has, holds the same values.
    on_v2: Option<&'static str>,
    /// Metrics that are missing without the controller.
    metrics: &'static str,
    /// Kernel version and option that provide the controller on v1.
    kernel: &'static str,
}

const NEEDED: [Needed; 5] = [
    Needed {
        controller: Controller::Cpu,
        on_v1: "cpu",
        on_v2: Some("cpu"),
        metrics: "container_cpu_cfs_*, CPU limits",
        kernel: "CONFIG_CGROUP_SCHED and CONFIG_CFS_BANDWIDTH",
    },
    Needed {
        controller: Controller::Cpuacct,
        on_v1: "cpuacct",
        on_v2: None,
        metrics: "container_cpu_*_seconds_total",
        kernel: "CONFIG_CGROUP_CPUACCT",
    },
    Needed {
        controller: Controller::Memory,
        on_v1: "memory",
        on_v2: Some("memory"),
        metrics: "container_memory_*",
        kernel: "CONFIG_MEMCG",
    },
    Needed {
        controller: Controller::Io,
        on_v1: "blkio",
        on_v2: Some("io"),
        metrics: "container_fs_*",
        kernel: "CONFIG_BLK_CGROUP",
    },
    Needed {
        controller: Controller::Pids,
        on_v1: "pids",
        on_v2: Some("pids"),
        metrics: "container_threads, container_threads_max",
        kernel: "CONFIG_CGROUP_PIDS (Linux 4.3 or later)",
    },
];

/// A container's cgroup.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: ContainerId,
    /// Path from the root of the trees, with a leading slash.
    pub(super) path: String,
    /// Directory in the tree that lists the container's processes.
    pub(super) directory: PathBuf,
    /// Whether the cgroup certainly has no process. Such a cgroup may be a leftover.
    pub(super) is_empty: bool,
}

/// Returns every container in the trees, including nested ones.
pub(super) fn find_containers(hierarchy: &Hierarchy, procfs: &Path) -> Vec<Found> {
    let found = find_and_check(hierarchy.searched(), shows_all_processes(procfs, hierarchy.is_live())).into_iter();
    found
        .filter_map(|discover::Found { id, path, is_empty }| {
            let tree = hierarchy.searched().get(hierarchy.home(&path)?)?;
            Some(Found { id, directory: tree.path.join(path.trim_start_matches('/')), path, is_empty })
        })
        .collect()
}

/// Returns the pids in a container's cgroup and in the cgroups below it, where a container that runs systemd has all of
/// its processes.
pub(super) fn pids(cgroup: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    // Missed cgroups do not matter, because a few processes suffice.
    let _missed = walk(cgroup, BELOW_CONTAINER, |visited| {
        let text = fs::read(visited.path.join("cgroup.procs")).unwrap_or_default();
        pids.extend(words(&text).iter().filter_map(|word| word.parse::<u32>().ok()));
        Next::Descend
    });
    pids
}

/// Checks whether there is a cgroup tree. A missing tree gets `verdict`.
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

/// Checks whether the trees show containers. Trees that show only this process's own container get `verdict`.
pub(super) fn containers(hierarchy: &Hierarchy, found: &[Found], engine_answers: bool, verdict: Verdict) -> Line {
    const WHAT: &str = "containers in the tree";
    let root = hierarchy.root().display();
    let empty = found.iter().filter(|container| container.is_empty).count();
    let and_empty = and_empty(empty);
    match found.len() - empty {
        0 if hierarchy.is_blind() && empty == 0 => {
            let until =
                if verdict == Verdict::Warn { "; till then values come from the engine's stats API" } else { "" };
            let found = format!("none; {root} shows our own container's cgroup and no other{until}");
            Line::warn(WHAT, found, MOUNT).with(verdict)
        }
        0 if hierarchy.is_private() => Line::ok(
            WHAT,
            format!("none now; {root} is a guest's tree (LXC, Docker in Docker): its containers show in it"),
        ),
        0 if engine_answers => Line::ok(WHAT, format!("none now (`docker ps` should show none either){and_empty}")),
        0 => Line::ok(WHAT, format!("none now{and_empty}")),
        count => Line::ok(WHAT, format!("{count} found{and_empty}")),
    }
}

/// Checks the controllers that the default metrics need, and whether the containers have them.
pub(super) fn controllers(hierarchy: &Hierarchy, found: &[Found], procfs: &Path) -> Vec<Line> {
    let present = hierarchy.controllers();
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for needed in &NEEDED {
        let tree = hierarchy.tree(needed.controller);
        let is_v2 = tree.is_some_and(|tree| tree.version == Version::V2);
        let Some(name) = (if is_v2 { needed.on_v2 } else { Some(needed.on_v1) }) else { continue };
        names.push(name);
        let what = format!("controller {name}");
        let problem = match tree.filter(|_| present.iter().any(|present| present == name)) {
            None => Some(absent(name, needed.kernel, hierarchy, procfs)),
            Some(tree) => without_cgroup(tree, found).or_else(|| not_delegated(name, tree, found)),
        };
        lines.extend(problem.map(|(found, hint)| Line::warn(what, format!("{found}: no {}", needed.metrics), hint)));
    }
    if lines.is_empty() {
        lines.push(Line::ok("controllers", names.join(", ")));
    }
    lines
}

/// A finding and its hint.
type Problem = (String, String);

fn absent(name: &str, kernel: &str, hierarchy: &Hierarchy, procfs: &Path) -> Problem {
    let enable = if name == "memory" {
        "boot with `cgroup_enable=memory` (v1: `swapaccount=1` too) on the kernel's command line".to_owned()
    } else {
        format!("boot without cgroup_disable={name} on the kernel's command line")
    };
    let (found, hint) = match boot_state(name, procfs) {
        Boot::On if hierarchy.kind() == Kind::V2 && hierarchy.is_private() => (
            "the kernel has it, this guest does not",
            format!("on the host: +{name} into cgroup.subtree_control of the cgroups above the guest"),
        ),
        Boot::On if hierarchy.kind() == Kind::V2 => (
            "the kernel has it, the v2 tree does not: a v1 mount holds it",
            format!("unmount that, or boot with cgroup_no_v1={name} on the kernel's command line"),
        ),
        Boot::On => (
            "the kernel has it, the tree does not: it is not mounted there",
            format!(
                "mount it (`mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}`), and give the container the whole tree"
            ),
        ),
        Boot::Off => ("switched off when the kernel was booted", enable),
        Boot::NotBuilt => ("this kernel was built without it", format!("a kernel with {kernel}")),
        Boot::Unknown => ("not in the tree", format!("{enable}, or mount the controller")),
    };
    (found.to_owned(), hint)
}

/// State of a controller at boot.
enum Boot {
    On,
    Off,
    NotBuilt,
    Unknown,
}

/// Returns a controller's state by the last column of `/proc/cgroups`, which names the v2 `io` controller `blkio`.
fn boot_state(name: &str, procfs: &Path) -> Boot {
    let name = if name == "io" { "blkio" } else { name };
    let Ok(text) = fs::read(procfs.join("cgroups")) else { return Boot::Unknown };
    let text = String::from_utf8_lossy(&text);
    let row =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row.first() == Some(&name));
    match row.as_ref().and_then(|row| row.get(3)) {
        None => Boot::NotBuilt,
        Some(&"1") => Boot::On,
        Some(_) => Boot::Off,
    }
}

/// Returns the problem if containers have cgroups in other trees but not in this one. An engine that uses v1, for
/// example, creates no cgroup in a v2 tree.
fn without_cgroup(tree: &Tree, found: &[Found]) -> Option<Problem> {
    let lacks = |found: &&Found| !tree.path.join(found.path.trim_start_matches('/')).is_dir();
    let without: Vec<&Found> = found.iter().filter(lacks).collect();
    let first = without.first()?;
    let at = tree.path.display();
    let found = format!("{} of {} containers have no cgroup in {at}, e.g. {}", without.len(), found.len(), first.id);
    let hint = match tree.version {
        Version::V2 => {
            "the engine uses v1, and this is on v2: boot with systemd.unified_cgroup_hierarchy=1 (v2 alone), or without \
             cgroup_no_v1= on the kernel's command line"
        }
        Version::V1 => "restart the engine: it makes cgroups in the trees that were mounted when it started",
    };
    Some((found, hint.to_owned()))
}

/// Returns the problem if a v2 controller is not enabled for the containers.
fn not_delegated(name: &str, tree: &Tree, found: &[Found]) -> Option<Problem> {
    if tree.version == Version::V1 {
        return None;
    }
    let lacks = |file: &Path| fs::read(file).is_ok_and(|text| !words(&text).iter().any(|word| word == name));
    let in_tree =
        |found: &&Found| lacks(&tree.path.join(found.path.trim_start_matches('/')).join("cgroup.controllers"));
    let hint = format!("echo +{name} into cgroup.subtree_control of the cgroups above (systemd: Delegate=yes)");
    let without: Vec<&Found> = found.iter().filter(in_tree).collect();
    match without.first() {
        Some(first) => {
            Some((format!("{} of {} containers do not have it, e.g. {}", without.len(), found.len(), first.id), hint))
        }
        None if found.is_empty() && lacks(&tree.path.join("cgroup.subtree_control")) => {
            Some(("not in the root's cgroup.subtree_control".to_owned(), hint))
        }
        None => None,
    }
}

/// Checks whether pressure stall information (PSI) is available per container.
pub(super) fn pressure(hierarchy: &Hierarchy, found: &[Found], procfs: &Path) -> Line {
    const WHAT: &str = "pressure (PSI)";
    let Some(tree) = hierarchy.tree(Controller::Core) else {
        let hint = "boot with systemd.unified_cgroup_hierarchy=1 (cgroup v2), on Linux 4.20 or later";
        return Line::warn(WHAT, "cgroup v1 has none per container", hint);
    };
    if let Err(error) = fs::read(procfs.join("pressure/cpu")) {
        let found = format!("{} cannot be read: {error}", procfs.join("pressure/cpu").display());
        return Line::warn(WHAT, found, "boot with `psi=1`; the kernel needs CONFIG_PSI (Linux 4.20 or later)");
    }
    match without_cgroup(tree, found) {
        Some((found, _)) => {
            Line::warn(WHAT, found, "boot with systemd.unified_cgroup_hierarchy=1 (v2 alone): then the engine uses it")
        }
        None => Line::ok(WHAT, "kernel and tree have it"),
    }
}

/// Returns the words of a file.
fn words(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect()
}
