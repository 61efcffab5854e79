//! The containers' directories in every cgroup tree of this host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use docker_stats_exporter::discover::ContainerId;

use super::write;

/// Trees whose files the exporter reads, or that tell what a container was like when it was captured.
const TREES: &[&str] = &["blkio", "cpu", "cpuacct", "cpuset", "freezer", "hugetlb", "memory", "pids", "unified"];

/// Files of a tree's root: they tell which tree it is, and hold the host's own totals on v2.
const ROOT_FILES: &[&str] = &[
    "cgroup.controllers",
    "cgroup.subtree_control",
    "cpu.stat",
    "io.stat",
    "memory.stat",
    "cpu.pressure",
    "io.pressure",
    "memory.pressure",
];

/// A file longer than this is none that the exporter reads.
const MAX_LENGTH: usize = 64 * 1024;

/// What was found below the cgroup mount.
pub(super) struct Cgroups {
    root: PathBuf,
    hierarchy: &'static str,
    /// Every container's directory in every tree, relative to the mount.
    directories: Vec<(ContainerId, PathBuf)>,
    /// The roots of the trees, relative to the mount.
    trees: Vec<PathBuf>,
}

/// Looks at every tree.
pub(super) fn find(root: &Path) -> anyhow::Result<Cgroups> {
    let is_v2 = |path: &Path| path.join("cgroup.controllers").is_file();
    let (hierarchy, trees) = if is_v2(root) {
        ("v2", vec![PathBuf::new()])
    } else {
        let trees = v1_trees(root)?;
        (if is_v2(&root.join("unified")) { "hybrid" } else { "v1" }, trees)
    };
    ensure!(!trees.is_empty(), "{} is no cgroup mount", root.display());
    let mut cgroups = Cgroups { root: root.to_owned(), hierarchy, directories: Vec::new(), trees };
    for tree in cgroups.trees.clone() {
        cgroups.walk(&tree)?;
    }
    Ok(cgroups)
}

/// Directories of the mount that hold one of [`TREES`]; links (`cpu` → `cpu,cpuacct`) are left to their target.
fn v1_trees(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut trees = Vec::new();
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && name.split(',').any(|part| TREES.contains(&part)) {
            trees.push(PathBuf::from(name));
        }
    }
    trees.sort();
    Ok(trees)
}

impl Cgroups {
    /// `v1`, `v2` or `hybrid`.
    pub(super) fn hierarchy(&self) -> &'static str {
        self.hierarchy
    }

    /// Every container once.
    pub(super) fn containers(&self) -> BTreeSet<ContainerId> {
        self.directories.iter().map(|(id, _)| *id).collect()
    }

    /// Without the containers that are not wanted, and without what is nested in them.
    pub(super) fn only(mut self, wanted: impl Fn(ContainerId) -> bool) -> Self {
        self.directories.retain(|(id, path)| {
            let outer = path.ancestors().skip(1).filter_map(Path::file_name);
            let outer = outer.filter_map(|name| ContainerId::from_cgroup_name(name.as_bytes()));
            outer.chain([*id]).all(&wanted)
        });
        self
    }

    /// Whether the engine names cgroups as systemd units.
    pub(super) fn is_systemd(&self) -> bool {
        self.directories.iter().any(|(_, path)| path.extension().is_some_and(|extension| extension == "scope"))
    }

    /// The processes of all containers.
    pub(super) fn processes(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for (_, path) in &self.directories {
            for directory in below(&self.root.join(path))? {
                // The list of a threaded cgroup cannot be read; its processes are in the domain's.
                let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
        }
        Ok(found)
    }

    fn walk(&mut self, directory: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.root.join(directory))? {
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = directory.join(entry.file_name());
            if let Some(id) = ContainerId::from_cgroup_name(entry.file_name().as_bytes()) {
                self.directories.push((id, path.clone()));
            }
            self.walk(&path)?;
        }
        Ok(())
    }

    /// Copies the roots' few files and the containers' directories.
    pub(super) fn copy(&self, target: &Path) -> anyhow::Result<()> {
        for tree in &self.trees {
            for name in ROOT_FILES {
                copy_file(&self.root.join(tree).join(name), &target.join(tree).join(name))?;
            }
        }
        for (_, path) in &self.directories {
            for directory in below(&self.root.join(path))? {
                let relative = directory.strip_prefix(&self.root)?;
                copy_files(&directory, &target.join(relative))?;
            }
        }
        Ok(())
    }
}

/// A container's directory and those in it that are no containers of their own (those are captured by themselves).
fn below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let nested = ContainerId::from_cgroup_name(entry.file_name().as_bytes()).is_some();
        if entry.file_type()?.is_dir() && !nested {
            found.extend(below(&entry.path())?);
        }
    }
    Ok(found)
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy_file(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies what can be read: some files are for writing only, some say that the kernel does not support them.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::read(from) {
        Ok(content) if content.len() <= MAX_LENGTH => write(to, &content),
        _ => Ok(()),
    }
}
