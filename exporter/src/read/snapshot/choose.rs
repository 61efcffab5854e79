//! How a planned file may be served: what it takes to have its values from a snapshot.

use super::super::plan::PlannedFile;
use super::Served;
use super::recipes::{Recipe, recipe};
use crate::discover::Tree;
use crate::ebpf::Wanted;
use crate::metrics::Controller;

/// Keys of a file that are told apart.
const KEYS: usize = 64;

/// How a planned file may be served: of which of the trees with counters. Adds what it takes to what is wanted.
pub(super) fn choose(
    file: &PlannedFile,
    trees: &[(Controller, Tree)],
    wanted: &mut Vec<Wanted>,
    followed: &mut Vec<&'static str>,
) -> Served {
    let Some((controller, own)) = trees.iter().find(|(_, tree)| tree.path == file.tree) else { return Served::ByFile };
    let version = own.version;
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
    let tree = wanted.iter().position(|wanted| wanted.tree == *own).unwrap_or_else(|| {
        wanted.push(Wanted::nothing(own.clone(), *controller));
        wanted.len() - 1
    });
    if let Some(wanted) = wanted.get_mut(tree) {
        for recipe in &recipes {
            recipe.ask(version, wanted);
        }
    }
    Served::BySnapshot { tree, keys: file.targets.iter().copied().zip(recipes).collect() }
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
