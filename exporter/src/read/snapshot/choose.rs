//! How a planned file may be served: what it takes to have its values from a snapshot.

use super::recipes::{Recipe, recipe};
use crate::discover::Tree;
use crate::ebpf::Wanted;
use crate::metrics::Controller;
use crate::read::plan::PlannedFile;

/// How the values of a planned file are come by.
#[derive(Debug)]
pub(super) enum Served {
    /// It is read.
    ByFile,
    /// From the snapshot of a cgroup of this tree, key by key: slot or column, and recipe.
    BySnapshot { tree: usize, keys: Vec<(u16, Recipe)> },
}

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

/// Cgroups that are iterated over, at most: where containers have more parents, what these have in common.
const PARENTS: usize = 16;

/// Whether a cgroup is below another.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// The parents of cgroups, none of them below another. Where there are too many, what they have in common.
pub(super) fn parents<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parents: Vec<String> = paths.filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    loop {
        // The root's own files do not have the kernel add up what is below.
        parents.retain(|parent| !parent.is_empty());
        parents.sort_unstable();
        parents.dedup_by(|later, earlier| later == earlier || is_below(later, earlier));
        if parents.len() <= PARENTS {
            return parents;
        }
        let deepest = parents.iter().map(|parent| parent.matches('/').count()).max().unwrap_or(0);
        for parent in parents.iter_mut().filter(|parent| parent.matches('/').count() == deepest) {
            let above = parent.rfind('/').unwrap_or(0);
            parent.truncate(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{has_local_events, is_below, parents};

    #[test]
    fn events_of_a_cgroup_alone_are_told_by_the_mount() {
        let mount = |options: &str| format!("proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 {options} 0 0\n");
        assert!(!has_local_events(&mount("rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot")));
        assert!(has_local_events(&mount("rw,relatime,memory_localevents")));
        assert!(has_local_events(&mount("rw,pids_localevents,nsdelegate")));
    }

    #[test]
    fn parents_are_named_once_and_what_is_below_another_goes_with_it() {
        let found = parents(["/docker/a", "/docker/b", "/docker/b/docker/c", "/top", "/shop.slice/x"].into_iter());
        assert_eq!(found, ["/docker", "/shop.slice"]);
        assert!(
            is_below("/docker/a", "/docker") && !is_below("/docker", "/docker") && !is_below("/dockers/a", "/docker")
        );
    }

    #[test]
    fn many_parents_are_followed_by_what_they_have_in_common() {
        let pods: Vec<String> = (0..40).map(|pod| format!("/kubepods/pod{pod}/one")).collect();
        assert_eq!(parents(pods.iter().map(String::as_str)), ["/kubepods"]);
        let alone: Vec<String> = (0..40).map(|slice| format!("/slice{slice}/one")).collect();
        assert!(parents(alone.iter().map(String::as_str)).is_empty());
    }
}
