//! Facts about the cgroup tree, as [`crate::discover`] tells them, in the words of the report. Judges nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::{ContainerId, Error, Hierarchy, Kind, find_all};
use crate::metrics::Controller;

/// A readable tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) kind: Kind,
    /// Whether the base is the root of a private cgroup namespace.
    pub(super) is_private: bool,
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
    /// # Errors
    /// The root cannot be listed, or holds no tree.
    pub(super) fn detect(root: &Path) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect(root)?;
        let path = |controller| hierarchy.tree(controller).map(|tree| tree.path.clone());
        Ok(Self {
            kind: hierarchy.kind(),
            is_private: hierarchy.is_private(),
            controllers: hierarchy.controllers(),
            unified: path(Controller::Core),
            base: path(Controller::Procs).unwrap_or_else(|| root.to_owned()),
        })
    }

    /// The kind in an operator's words.
    pub(super) fn words(&self) -> &'static str {
        match self.kind {
            Kind::V2 => "cgroup v2",
            Kind::V1 => "cgroup v1",
            Kind::Hybrid => "cgroup v1 with a v2 tree beside it (hybrid)",
        }
    }

    /// Every container below the base, nested ones too.
    pub(super) fn containers(&self) -> Vec<Found> {
        find_all(&self.base).into_iter().map(|(id, path)| Found { id, path }).collect()
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
