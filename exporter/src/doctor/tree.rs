//! Facts about the cgroup tree: which hierarchy, which controllers, which containers. Judges nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::discover::ContainerId;

/// Controllers that a v1 host may have a directory for and that we read.
const V1_CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "memory", "blkio", "pids", "cpuset", "hugetlb"];

/// Cgroups nested deeper than this hold no containers that anybody has seen.
const DEEPEST: usize = 16;

/// Which kind of tree it is, told by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    V2,
    V1,
    Hybrid,
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "cgroup v2",
            Self::V1 => "cgroup v1",
            Self::Hybrid => "cgroup v1 with a v2 tree beside it (hybrid)",
        })
    }
}

/// A readable tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) hierarchy: Hierarchy,
    /// Controllers that the tree offers, by name.
    pub(super) controllers: Vec<String>,
    /// The v2 tree, if there is one.
    pub(super) unified: Option<PathBuf>,
    /// The directory that containers are looked for in.
    pub(super) base: PathBuf,
}

/// A container's cgroup.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: ContainerId,
    pub(super) path: PathBuf,
}

impl Tree {
    /// Tells the hierarchy; none where the directory holds no cgroup tree.
    pub(super) fn detect(root: &Path) -> io::Result<Option<Self>> {
        fs::read_dir(root)?;
        if let Ok(controllers) = fs::read(root.join("cgroup.controllers")) {
            let controllers = words(&controllers);
            let (unified, base) = (Some(root.to_owned()), root.to_owned());
            return Ok(Some(Self { hierarchy: Hierarchy::V2, controllers, unified, base }));
        }
        let v1 = v1_directories(root);
        let unified = Some(root.join("unified")).filter(|path| path.join("cgroup.controllers").is_file());
        let base = ["memory", "cpu", "pids"].iter().find_map(|wanted| directory_of(&v1, wanted));
        Ok(base.or_else(|| v1.first().map(|(_, path)| path.clone())).map(|base| Self {
            hierarchy: if unified.is_some() { Hierarchy::Hybrid } else { Hierarchy::V1 },
            controllers: v1.into_iter().map(|(name, _)| name).collect(),
            unified,
            base,
        }))
    }

    /// Every container below the base, nested ones too.
    pub(super) fn containers(&self) -> Vec<Found> {
        let mut found = Vec::new();
        walk(&self.base, DEEPEST, &mut |path| {
            let name = path.file_name().unwrap_or_default();
            if let Some(id) = ContainerId::from_cgroup_name(name.as_encoded_bytes()) {
                found.push(Found { id, path: path.to_owned() });
            }
        });
        found
    }

    /// Whether the base is not the host's root cgroup but one below it, as in a private cgroup namespace.
    ///
    /// The kernel gives `cgroup.type` (v2) to every cgroup but the root, and `release_agent` (v1) to the root alone.
    pub(super) fn is_below_the_root(&self) -> bool {
        match self.hierarchy {
            Hierarchy::V2 => self.base.join("cgroup.type").exists(),
            Hierarchy::V1 | Hierarchy::Hybrid => {
                self.base.join("tasks").exists() && !self.base.join("release_agent").exists()
            }
        }
    }
}

/// Pids in a container's cgroup, or in those below it (a container that runs systemd has none in its own).
pub(super) fn pids(cgroup: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut collect = |path: &Path| {
        let text = fs::read(path.join("cgroup.procs")).unwrap_or_default();
        pids.extend(words(&text).iter().filter_map(|word| word.parse::<u32>().ok()));
    };
    collect(cgroup);
    walk(cgroup, 3, &mut collect);
    pids
}

fn v1_directories(root: &Path) -> Vec<(String, PathBuf)> {
    let entries: Vec<PathBuf> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| has_entries(path))
        .collect();
    let named = |path: &Path, wanted: &str| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split(',').any(|part| part == wanted)
    };
    V1_CONTROLLERS
        .iter()
        .filter_map(|wanted| {
            let path = entries.iter().find(|path| named(path, wanted))?;
            Some(((*wanted).to_owned(), path.clone()))
        })
        .collect()
}

/// A mount point without its mount is empty.
fn has_entries(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

fn directory_of(directories: &[(String, PathBuf)], wanted: &str) -> Option<PathBuf> {
    directories.iter().find(|(name, _)| name == wanted).map(|(_, path)| path.clone())
}

/// Words of a file.
pub(super) fn words(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect()
}

/// Visits every directory below `path`, to a depth; links are not followed, what vanishes is skipped.
fn walk(path: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let below = entry.path();
            visit(&below);
            if let Some(depth) = depth.checked_sub(1) {
                walk(&below, depth, visit);
            }
        }
    }
}
