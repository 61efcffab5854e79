//! The layout of the cgroup trees of this host: v1, v2 or hybrid, and which tree has which controller.
//!
//! Trees are recognised by their content, so that a capture works like a live tree.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::cgroup::{self, Tree, Version};
use crate::metrics::Controller;

/// Layout of a host's trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One tree for all controllers.
    V2,
    /// One v1 tree per controller.
    V1,
    /// v1 trees, and a v2 tree beside them.
    Hybrid,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        })
    }
}

/// The cgroup trees of a host, by controller.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    kind: Kind,
    root: PathBuf,
    /// The tree of each controller, in the order of [`CONTROLLERS`].
    trees: [Option<Tree>; CONTROLLERS.len()],
    searched: Vec<Tree>,
}

/// Why no hierarchy was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be listed.
    #[error(
        "cannot list the cgroup root {}: {source}; mount the host's tree (-v /sys/fs/cgroup:/sys/fs/cgroup:ro) or give --path.cgroup",
        path.display()
    )]
    Unreadable {
        /// The root.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The root has neither `cgroup.controllers` nor a controller's directory.
    #[error(
        "{} is no cgroup tree: neither cgroup.controllers (v2) nor a directory such as memory or cpu,cpuacct (v1) is in it; \
         mount the host's tree (-v /sys/fs/cgroup:/sys/fs/cgroup:ro) or give --path.cgroup",
        path.display()
    )]
    NoTree {
        /// The root.
        path: PathBuf,
    },
}

/// The controllers with their names on v1. `Core` is not a controller of the kernel: it stands for the files that each
/// cgroup of a v2 tree has.
const CONTROLLERS: [(Controller, &str); 7] = [
    (Controller::Memory, "memory"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Cpu, "cpu"),
    (Controller::Pids, "pids"),
    (Controller::Io, "blkio"),
    (Controller::Hugetlb, "hugetlb"),
    (Controller::Core, ""),
];

/// Returns the index of a controller in [`CONTROLLERS`].
fn index(controller: Controller) -> usize {
    CONTROLLERS.iter().position(|(candidate, _)| *candidate == controller).unwrap_or(0)
}

impl Hierarchy {
    /// Detects the trees at or below `root`.
    ///
    /// # Errors
    /// `root` cannot be listed, or nothing in it is a cgroup tree.
    pub fn detect(root: &Path) -> Result<Self, Error> {
        let candidates =
            cgroup::find_trees(root).map_err(|source| Error::Unreadable { path: root.to_owned(), source })?;
        let mut trees = CONTROLLERS.map(|(_, name)| cgroup::with_v1_controller(&candidates, name));
        let unified = candidates.iter().find(|candidate| candidate.tree.version == Version::V2);
        let has_v1 = candidates.iter().any(|candidate| candidate.tree.version == Version::V1);
        let kind = match (unified, has_v1) {
            (None, _) => Kind::V1,
            (Some(_), true) => Kind::Hybrid,
            (Some(_), false) => Kind::V2,
        };
        if let Some(unified) = unified {
            add_unified(&unified.tree, kind, &mut trees);
        }
        let mut searched: Vec<Tree> = Vec::new();
        for tree in trees.iter().flatten().chain(candidates.iter().map(|candidate| &candidate.tree)) {
            if !searched.contains(tree) {
                searched.push(tree.clone());
            }
        }
        if searched.is_empty() {
            return Err(Error::NoTree { path: root.to_owned() });
        }
        Ok(Self { kind, root: root.to_owned(), trees, searched })
    }

    /// Returns the layout of the host's trees.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the root at which the trees were found.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the tree that has the files of a controller.
    #[must_use]
    pub fn tree(&self, controller: Controller) -> Option<&Tree> {
        self.trees.get(index(controller))?.as_ref()
    }

    /// Returns the names of all controllers that the trees have, as the version of each tree spells them.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let unified = self.tree(Controller::Core).map(|tree| enabled(&tree.path)).unwrap_or_default();
        let v1 = CONTROLLERS.iter().filter(|(controller, name)| {
            let tree = self.tree(*controller).filter(|tree| tree.version == Version::V1);
            tree.is_some() && !name.is_empty()
        });
        v1.map(|(_, name)| (*name).to_owned()).chain(unified).collect()
    }

    /// Returns whether no tree begins at the host's root: each begins at the root of a cgroup namespace, or at a cgroup
    /// that was mounted alone.
    ///
    /// The kernel gives `cgroup.type` (v2) to every cgroup but the root, and `release_agent` (v1) to the root alone.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.searched.iter().all(|tree| {
            let has = |name: &str| tree.path.join(name).exists();
            match tree.version {
                Version::V2 => has("cgroup.type"),
                Version::V1 => has("tasks") && !has("release_agent"),
            }
        })
    }

    /// Returns whether the trees show only our own cgroup, as in a container without the host's mount. They can show no
    /// containers except those created below our own.
    ///
    /// The trees of a guest (LXC, nspawn) and of Docker in Docker have a private root, too, but other cgroups below it.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.is_private() && !self.searched.iter().any(has_other_cgroups)
    }

    /// Returns whether the kernel serves the trees; false for a capture.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.searched.iter().any(Tree::is_live)
    }

    /// Returns the trees to search for containers, each once. Trees with controllers that the exporter reads come
    /// first.
    ///
    /// A container is usually in all of them; only in some if an engine does not know a tree, or if a controller was
    /// moved to v2.
    #[must_use]
    pub fn searched(&self) -> &[Tree] {
        &self.searched
    }

    /// Returns the index of the searched tree that lists the processes of the cgroup at `path` (with a leading slash):
    /// the first one with processes, because an engine may create a cgroup in a tree and not use it; else the first one
    /// that has the cgroup.
    #[must_use]
    pub fn home(&self, path: &str) -> Option<usize> {
        let directories = || self.searched.iter().map(|tree| cgroup::directory(&tree.path, path));
        let has_processes = |directory: PathBuf| {
            // For a process outside our pid namespace v2 writes 0, and v1 nothing.
            let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            list.lines().any(|pid| pid != "0")
        };
        directories().position(has_processes).or_else(|| directories().position(|directory| directory.is_dir()))
    }
}

/// Sets the v2 tree as the tree of the core files, and of every controller that it has and that no v1 tree has.
fn add_unified(unified: &Tree, kind: Kind, trees: &mut [Option<Tree>; CONTROLLERS.len()]) {
    let enabled = enabled(&unified.path);
    let has = |name: &str| enabled.iter().any(|enabled| enabled == name);
    for (tree, (controller, name)) in trees.iter_mut().zip(CONTROLLERS) {
        let served = match controller {
            Controller::Core | Controller::Cpuacct => true,
            Controller::Io => has("io"),
            _ => has(name),
        };
        // A cgroup below may have files of a controller that the root's list lacks, in a capture for example.
        if tree.is_none() && (served || kind == Kind::V2) {
            *tree = Some(unified.clone());
        }
    }
}

/// Returns whether the root of a tree has a child cgroup that neither is our own cgroup nor contains it.
fn has_other_cgroups(tree: &Tree) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let is_ours = |name: &str| {
        // `HIERARCHY:CONTROLLERS:PATH`
        let mut paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.any(|path| path.split('/').nth(1) == Some(name) && cgroup::directory(&tree.path, path).is_dir())
    };
    let entries = fs::read_dir(&tree.path).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .any(|entry| entry.file_name().to_str().is_none_or(|name| !is_ours(name)))
}

/// Returns the names of the controllers that a v2 tree offers.
fn enabled(tree: &Path) -> Vec<String> {
    let text = fs::read(tree.join("cgroup.controllers")).unwrap_or_default();
    String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Controller, Error, Hierarchy, Kind, Version};

    fn tree(directories: &[&str], controllers: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("tasks"), "").unwrap();
        }
        for (directory, enabled) in controllers {
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("cgroup.controllers"), enabled).unwrap();
        }
        root
    }

    fn searched(hierarchy: &Hierarchy) -> Vec<&str> {
        hierarchy.searched().iter().map(|tree| tree.path.file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn one_tree_with_a_controllers_file_is_v2() {
        let root = tree(&[], &[("", "cpu io memory pids\n")]);
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert_eq!(hierarchy.kind(), Kind::V2);
        assert_eq!(hierarchy.tree(Controller::Memory).unwrap().path, root.path());
    }

    #[test]
    fn a_joint_directory_serves_both_of_its_controllers() {
        let root = tree(&["cpu,cpuacct", "memory"], &[]);
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert_eq!(hierarchy.kind(), Kind::V1);
        assert!(hierarchy.tree(Controller::Cpu).unwrap().path.ends_with("cpu,cpuacct"));
        assert!(hierarchy.tree(Controller::Cpuacct).unwrap().path.ends_with("cpu,cpuacct"));
        assert!(hierarchy.tree(Controller::Pids).is_none());
        assert_eq!(searched(&hierarchy), ["memory", "cpu,cpuacct"]);
    }

    #[test]
    fn a_hybrid_host_takes_from_the_unified_tree_what_v1_lacks() {
        let root = tree(&["memory", "cpuacct"], &[("unified", "pids\n")]);
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert_eq!(hierarchy.kind(), Kind::Hybrid);
        assert_eq!(hierarchy.tree(Controller::Memory).unwrap().version, Version::V1);
        assert_eq!(hierarchy.tree(Controller::Pids).unwrap().version, Version::V2);
        assert!(hierarchy.tree(Controller::Core).unwrap().path.ends_with("unified"));
        assert!(hierarchy.tree(Controller::Io).is_none());
    }

    #[test]
    fn links_to_a_joint_directory_are_the_same_tree() {
        let root = tree(&["cpu,cpuacct"], &[]);
        for link in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", root.path().join(link)).unwrap();
        }
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert_eq!(searched(&hierarchy), ["cpu,cpuacct"]);
        assert!(hierarchy.tree(Controller::Cpuacct).unwrap().path.ends_with("cpu,cpuacct"));
    }

    #[test]
    fn all_v1_controllers_in_one_directory_of_any_name() {
        for name in ["", "all", "blkio,memory,pids"] {
            let root = tree(&[name], &[]);
            let directory = root.path().join(name);
            fs::write(directory.join("release_agent"), "").unwrap();
            fs::create_dir_all(directory.join("docker/container")).unwrap();
            for file in ["memory.stat", "cpuacct.usage", "cpu.shares", "pids.current", "blkio.weight", "devices.list"] {
                fs::write(directory.join("docker/container").join(file), "").unwrap();
            }
            let hierarchy = Hierarchy::detect(root.path()).unwrap();
            assert_eq!((hierarchy.kind(), hierarchy.searched().len()), (Kind::V1, 1), "{name}");
            for controller in [Controller::Memory, Controller::Cpuacct, Controller::Pids, Controller::Io] {
                assert_eq!(hierarchy.tree(controller).unwrap().path, directory, "{name} {controller:?}");
            }
            assert!(hierarchy.tree(Controller::Hugetlb).is_none(), "{name}");
        }
    }

    #[test]
    fn memory_on_v2_alone_leaves_the_other_trees_to_be_searched() {
        let root = tree(&["cpu,cpuacct", "blkio", "devices"], &[("v2", "memory\n")]);
        fs::create_dir(root.path().join("memory")).unwrap();
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert_eq!(hierarchy.tree(Controller::Memory).unwrap().version, Version::V2);
        assert_eq!(searched(&hierarchy), ["v2", "cpu,cpuacct", "blkio", "devices"]);
        fs::create_dir_all(root.path().join("blkio/docker/container")).unwrap();
        assert_eq!(hierarchy.home("/docker/container"), Some(2));
        fs::create_dir_all(root.path().join("devices/docker/container")).unwrap();
        fs::write(root.path().join("devices/docker/container/cgroup.procs"), "1\n").unwrap();
        assert_eq!(hierarchy.home("/docker/container"), Some(3));
        assert!(hierarchy.home("/docker/other").is_none());
    }

    #[test]
    fn a_private_root_with_other_cgroups_is_not_blind() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.rsplit(':').next().filter(|path| *path != "/")).unwrap_or("/own");
        for version in [Version::V1, Version::V2] {
            let root =
                if version == Version::V1 { tree(&["memory", "systemd"], &[]) } else { tree(&[], &[("", "cpu")]) };
            let directory = root.path().join(if version == Version::V1 { "systemd" } else { "" });
            if version == Version::V2 {
                fs::write(directory.join("cgroup.type"), "domain\n").unwrap();
            }
            let is_blind = || Hierarchy::detect(root.path()).unwrap().is_blind();
            assert!(is_blind(), "{version:?}");
            fs::create_dir_all(directory.join(own.trim_start_matches('/'))).unwrap();
            assert_eq!(is_blind(), own != "/own", "{version:?}");
            fs::create_dir(directory.join("system.slice")).unwrap();
            assert!(!is_blind(), "{version:?}");
        }
    }

    #[test]
    fn a_mount_point_without_its_mount_is_no_tree() {
        let root = tree(&["cpu"], &[]);
        fs::create_dir(root.path().join("memory")).unwrap();
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        assert!(hierarchy.tree(Controller::Memory).is_none());
        assert_eq!(hierarchy.controllers(), ["cpu"]);
    }

    #[test]
    fn what_is_no_tree_is_an_error_that_names_it() {
        let root = tree(&["etc"], &[]);
        assert!(matches!(Hierarchy::detect(root.path()), Err(Error::NoTree { .. })));
        let error = Hierarchy::detect(Path::new("/does/not/exist")).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }
}
