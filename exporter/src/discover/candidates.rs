//! Finds the cgroup trees at or below the root and the v1 controllers of each: from the kernel's list of mounts, else
//! (in a capture, or without procfs) from names of directories and files.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::{self, Mount};
use super::{Tree, Version};

/// A tree, and its controllers if it is a v1 tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) tree: Tree,
    controllers: Vec<String>,
}

/// v1 controllers that we read. Their files begin with the name and a dot.
const READ: [&str; 6] = ["memory", "cpuacct", "cpu", "pids", "blkio", "hugetlb"];
/// Directory names of other v1 trees: containers may be in them.
const OTHERS: [&str; 9] =
    ["systemd", "devices", "freezer", "cpuset", "perf_event", "net_cls", "net_prio", "rdma", "misc"];
/// Maximum number of directories of a captured tree whose files are listed.
const SAMPLED: usize = 256;

/// Finds the trees: `root` itself, or what is below it.
///
/// # Errors
/// `root` cannot be listed.
pub(super) fn find(root: &Path) -> io::Result<Vec<Candidate>> {
    let mounts = mounts::read();
    let mut paths = listed(root)?;
    if is_v2(root) || is_v1(root) {
        paths = vec![root.to_owned()];
    } else {
        // Mounts directly below the root are in the list already, and come first.
        paths.extend(mounts::below(&mounts, root));
    }
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let mount = mounts.iter().find(|mount| mount.device == metadata.dev());
        // A hierarchy is one tree, however often it or a part of it is mounted.
        let identity = (metadata.dev(), if mount.is_some() { 0 } else { metadata.ino() });
        if seen.contains(&identity) {
            continue;
        }
        if let Some(candidate) = classify(path, mount) {
            seen.push(identity);
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Returns the tree of a v1 controller: the one named after it, else any that has it.
pub(super) fn with_v1_controller(candidates: &[Candidate], controller: &str) -> Option<Tree> {
    let has = |candidate: &&Candidate| candidate.controllers.iter().any(|name| name == controller);
    let is_named = |candidate: &&Candidate| candidate.tree.path.file_name().is_some_and(|name| name == controller);
    let found = candidates.iter().filter(has).find(is_named).or_else(|| candidates.iter().find(has))?;
    Some(found.tree.clone())
}

/// Lists the directories directly below `root`; links to some (`cpu` to `cpu,cpuacct`) come last.
fn listed(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries: Vec<(bool, PathBuf)> = fs::read_dir(root)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_type().ok()?.is_symlink(), entry.path())))
        .filter(|(_, path)| path.is_dir())
        .collect();
    entries.sort_unstable();
    Ok(entries.into_iter().map(|(_, path)| path).collect())
}

fn classify(path: PathBuf, mount: Option<&Mount>) -> Option<Candidate> {
    if is_v2(&path) {
        return Some(Candidate { tree: Tree { path, version: Version::V2 }, controllers: Vec::new() });
    }
    let controllers = match mount {
        Some(mount) if mount.version == Version::V1 => mount.controllers.clone(),
        Some(_) => return None,
        None => by_content(&path)?,
    };
    Some(Candidate { tree: Tree { path, version: Version::V1 }, controllers })
}

/// Returns the controllers of a v1 tree that is in no list of mounts. None if the directory is not a tree; a mount
/// point without its mount is empty.
fn by_content(path: &Path) -> Option<Vec<String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut controllers: Vec<String> = name.split(',').filter(|part| READ.contains(part)).map(str::to_owned).collect();
    let is_named = !controllers.is_empty() || name.split(',').any(|part| OTHERS.contains(&part));
    let has_entries = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if is_v1(path) || (is_named && has_entries()) {
        sample(path, &mut controllers);
        return Some(controllers);
    }
    None
}

/// Adds the controllers with files in some of the first cgroups, because not all controllers have files in a root.
fn sample(tree: &Path, controllers: &mut Vec<String>) {
    let mut pending = VecDeque::from([tree.to_owned()]);
    for _ in 0..SAMPLED {
        let Some(directory) = pending.pop_front() else { break };
        for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push_back(entry.path());
                continue;
            }
            let name = entry.file_name();
            let stem = name.as_bytes().split(|byte| *byte == b'.').next().unwrap_or_default();
            if let Some(controller) = READ.into_iter().find(|controller| controller.as_bytes() == stem)
                && !controllers.iter().any(|known| known == controller)
            {
                controllers.push(controller.to_owned());
            }
        }
    }
}

fn is_v2(path: &Path) -> bool {
    path.join("cgroup.controllers").is_file()
}

/// Returns whether a directory is a cgroup of v1, by its files.
fn is_v1(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    has("tasks") && !is_v2(path) && ["release_agent", "cgroup.procs", "notify_on_release"].into_iter().any(has)
}
