//! Which cgroup trees this host has, told by their content, so that a captured tree serves as well as a live one.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use rustix::fs::statfs;

use crate::metrics::Controller;

/// What kind of host this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One tree for everything.
    V2,
    /// A tree per controller.
    V1,
    /// A tree per controller, and a `unified` one beside them.
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

/// Interface version of one tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// `cgroup-v1/`.
    V1,
    /// `cgroup-v2.rst`.
    V2,
}

/// A mounted cgroup tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its interface.
    pub version: Version,
}

/// Magic numbers of the kernel's cgroup file systems (`include/uapi/linux/magic.h`).
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

impl Tree {
    /// Whether it is the kernel's and not a capture.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let magic = statfs(&self.path).map(|statistics| u64::try_from(statistics.f_type).unwrap_or(0));
        matches!(magic, Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC))
    }
}

/// Every tree of the host, by controller.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    kind: Kind,
    root: PathBuf,
    trees: [Option<Tree>; CONTROLLERS.len()],
}

/// Why there is no hierarchy.
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
        /// What the system said.
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

/// The controllers in the order of their slots, with their names on v1. `Core` and `Procs` are not controllers: they
/// are told by the trees that are there.
const CONTROLLERS: [(Controller, &str); 8] = [
    (Controller::Memory, "memory"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Cpu, "cpu"),
    (Controller::Pids, "pids"),
    (Controller::Io, "blkio"),
    (Controller::Hugetlb, "hugetlb"),
    (Controller::Core, "unified"),
    (Controller::Procs, ""),
];

fn slot(controller: Controller) -> usize {
    CONTROLLERS.iter().position(|(candidate, _)| *candidate == controller).unwrap_or(0)
}

impl Hierarchy {
    /// Tells the trees below `root`.
    ///
    /// # Errors
    /// `root` cannot be listed, or nothing in it is a cgroup tree.
    pub fn detect(root: &Path) -> Result<Self, Error> {
        if is_v2(root) {
            let tree = Tree { path: root.to_owned(), version: Version::V2 };
            return Ok(Self {
                kind: Kind::V2,
                root: root.to_owned(),
                trees: std::array::from_fn(|_| Some(tree.clone())),
            });
        }
        let names = directory_names(root)?;
        let mut trees = CONTROLLERS.map(|(_, name)| find_v1(root, &names, name));
        let kind = add_unified(root, &mut trees);
        if let Some(found) = trees.iter().flatten().next().cloned() {
            // The processes are listed in every tree: the first one serves, and is the one that is walked.
            if let Some(procs) = trees.get_mut(slot(Controller::Procs)) {
                *procs = Some(found);
            }
            return Ok(Self { kind, root: root.to_owned(), trees });
        }
        Err(Error::NoTree { path: root.to_owned() })
    }

    /// What kind of host this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The root that all this was found below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tree that has a controller's files.
    #[must_use]
    pub fn tree(&self, controller: Controller) -> Option<&Tree> {
        self.trees.get(slot(controller))?.as_ref()
    }

    /// Names of the controllers that the host's trees have, in the words of their version.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let unified = self.tree(Controller::Core).map(|tree| enabled(&tree.path)).unwrap_or_default();
        let v1 = CONTROLLERS.iter().filter(|(controller, name)| {
            let tree = self.tree(*controller).filter(|tree| tree.version == Version::V1);
            tree.is_some() && !name.is_empty()
        });
        v1.map(|(_, name)| (*name).to_owned()).chain(unified).collect()
    }

    /// Whether the tree that is walked is not the host's root but a cgroup below it, as a private cgroup namespace shows.
    ///
    /// The kernel gives `cgroup.type` (v2) to every cgroup but the root, and `release_agent` (v1) to the root alone.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.walked().is_some_and(|tree| {
            let has = |name: &str| tree.path.join(name).exists();
            match tree.version {
                Version::V2 => has("cgroup.type"),
                Version::V1 => has("tasks") && !has("release_agent"),
            }
        })
    }

    /// The tree in which containers are looked for.
    #[must_use]
    pub fn walked(&self) -> Option<&Tree> {
        self.tree(Controller::Procs)
    }
}

/// The `unified` tree serves the core files, and every controller that v1 does not have and it does.
fn add_unified(root: &Path, trees: &mut [Option<Tree>; CONTROLLERS.len()]) -> Kind {
    let path = root.join("unified");
    if !is_v2(&path) {
        return Kind::V1;
    }
    let enabled = enabled(&path);
    let has = |name: &str| enabled.iter().any(|enabled| enabled == name);
    for (tree, (controller, name)) in trees.iter_mut().zip(CONTROLLERS) {
        let served = match controller {
            Controller::Core | Controller::Cpuacct => true,
            Controller::Io => has("io"),
            Controller::Procs => false,
            _ => has(name),
        };
        if served && tree.is_none() {
            *tree = Some(Tree { path: path.clone(), version: Version::V2 });
        }
    }
    Kind::Hybrid
}

/// The controllers that a v2 tree offers.
fn enabled(tree: &Path) -> Vec<String> {
    let text = fs::read(tree.join("cgroup.controllers")).unwrap_or_default();
    String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
}

fn is_v2(path: &Path) -> bool {
    path.join("cgroup.controllers").is_file()
}

fn directory_names(root: &Path) -> Result<Vec<String>, Error> {
    let unreadable = |source| Error::Unreadable { path: root.to_owned(), source };
    let entries = fs::read_dir(root).map_err(unreadable)?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| has_entries(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// A mount point without its mount is empty.
fn has_entries(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// A controller's v1 tree: the directory of its name, or one that lists it (`cpu,cpuacct`).
fn find_v1(root: &Path, names: &[String], controller: &str) -> Option<Tree> {
    if controller.is_empty() || controller == "unified" {
        return None;
    }
    let exact = names.iter().find(|name| *name == controller);
    let listed = || names.iter().find(|name| name.split(',').any(|part| part == controller));
    let name = exact.or_else(listed)?;
    Some(Tree { path: root.join(name), version: Version::V1 })
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
        assert!(hierarchy.walked().unwrap().path.ends_with("memory"));
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
    fn without_a_memory_controller_another_tree_is_walked() {
        let root = tree(&["cpu", "pids"], &[]);
        assert!(Hierarchy::detect(root.path()).unwrap().walked().unwrap().path.ends_with("cpu"));
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
