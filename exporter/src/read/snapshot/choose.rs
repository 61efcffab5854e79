//! How a planned file may be served: what it takes to have its values from a snapshot.

use std::path::PathBuf;

use super::super::plan::PlannedFile;
use super::Served;
use super::recipes::{Recipe, recipe};
use crate::discover::{Hierarchy, Version};
use crate::ebpf::{COUNTED, Wanted};

/// Keys of a file that are told apart.
const KEYS: usize = 64;

/// How a planned file may be served. Adds what it takes to what is wanted.
pub(super) fn choose(
    file: &PlannedFile,
    hierarchy: &Hierarchy,
    wanted: &mut Vec<(PathBuf, Wanted)>,
    followed: &mut Vec<&'static str>,
) -> Served {
    let Some(version) = version(file, hierarchy) else { return Served::ByFile };
    if file.keys.len() > KEYS {
        return Served::ByFile;
    }
    let mut follow = |key: &'static str| {
        followed.iter().position(|known| *known == key).unwrap_or_else(|| {
            followed.push(key);
            followed.len() - 1
        })
    };
    let recipes: Option<Vec<Recipe>> = file.keys.iter().map(|key| recipe(version, file, key, &mut follow)).collect();
    let Some(recipes) = recipes else { return Served::ByFile };
    let tree = wanted.iter().position(|(tree, _)| *tree == file.tree).unwrap_or_else(|| {
        wanted.push((file.tree.clone(), Wanted::default()));
        wanted.len() - 1
    });
    if let Some((_, wanted)) = wanted.get_mut(tree) {
        for recipe in &recipes {
            recipe.ask(version, wanted);
        }
    }
    Served::BySnapshot { tree, keys: file.targets.iter().copied().zip(recipes).collect() }
}

/// The interface of the tree that a file is in.
fn version(file: &PlannedFile, hierarchy: &Hierarchy) -> Option<Version> {
    let trees = COUNTED.into_iter().filter_map(|controller| hierarchy.tree(controller));
    trees.into_iter().find(|tree| tree.path == file.tree).map(|tree| tree.version)
}

/// Whether some v2 tree is mounted so that its `*.events` tell of the cgroup alone: snapshots tell of what is below, too.
pub(super) fn has_local_events(mounts: &str) -> bool {
    let options = mounts.lines().filter_map(|mount| {
        let mut fields = mount.split(' ').skip(2);
        (fields.next() == Some("cgroup2")).then(|| fields.next()).flatten()
    });
    options.flat_map(|options| options.split(',')).any(|option| option.ends_with("_localevents"))
}

#[cfg(test)]
mod tests {
    use super::has_local_events;

    #[test]
    fn events_of_a_cgroup_alone_are_told_by_the_mount() {
        let mount = |options: &str| format!("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 {options} 0 0\n");
        assert!(!has_local_events(&mount("rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot")));
        assert!(has_local_events(&mount("rw,relatime,memory_localevents")));
        assert!(has_local_events(&mount("rw,pids_localevents,nsdelegate")));
    }
}
