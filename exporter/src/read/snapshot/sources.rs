//! The source of each planned file's values, and which cgroups are copied for them.

use super::derivations::{Derivation, derivation};
use super::evidence::Evidence;
use crate::discover::Tree;
use crate::ebpf::TreeRequest;
use crate::metrics::Controller;
use crate::read::plan::PlannedFile;

/// The source of a planned file's values.
#[derive(Debug)]
pub(super) enum Source {
    /// The file.
    File,
    /// The copy of the cgroup in this tree, once there is evidence that it agrees with the file.
    Copy { tree: usize, keys: Vec<(u16, Derivation)>, evidence: Evidence },
}

impl Source {
    /// Returns whether copies may replace the file.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self, Self::Copy { evidence, .. } if evidence.is_enough())
    }
}

/// Keys of a file that [`super::kernel_copy`] has a bit for.
const MAX_KEYS: usize = 64;

/// Chooses the source of a planned file. Adds the counters to copy to `requests`, and unnamed ones to `stat_keys`.
pub(super) fn choose(
    file: &PlannedFile,
    trees: &[(Controller, Tree)],
    requests: &mut Vec<TreeRequest>,
    stat_keys: &mut Vec<&'static str>,
) -> Source {
    let Some((controller, own)) = trees.iter().find(|(_, tree)| tree.path == file.tree) else { return Source::File };
    let derivations: Option<Vec<Derivation>> =
        file.keys.iter().map(|key| derivation(own.version, file, key, stat_keys)).collect();
    let Some(derivations) = derivations.filter(|derivations| derivations.len() <= MAX_KEYS) else {
        return Source::File;
    };
    let tree = requests.iter().position(|request| request.tree == *own).unwrap_or_else(|| {
        requests.push(TreeRequest::nothing(own.clone(), *controller));
        requests.len() - 1
    });
    if let Some(request) = requests.get_mut(tree) {
        for derivation in &derivations {
            derivation.require(own.version, request);
        }
    }
    Source::Copy { tree, keys: file.targets.iter().copied().zip(derivations).collect(), evidence: Evidence::default() }
}

/// Returns whether some v2 tree is mounted so that its `*.events` count the cgroup alone: a copy includes the cgroups
/// below.
pub(super) fn has_local_events(mounts: &str) -> bool {
    let options = mounts.lines().filter_map(|mount| {
        let mut fields = mount.split(' ').skip(2);
        (fields.next() == Some("cgroup2")).then(|| fields.next()).flatten()
    });
    options.flat_map(|options| options.split(',')).any(|option| option.ends_with("_localevents"))
}

/// Maximum number of parents to iterate over.
const MAX_PARENTS: usize = 16;

/// Returns whether a cgroup is below another.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the parents of cgroups, none of them below another. If there are too many, returns their common ancestors.
pub(super) fn parents<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parents: Vec<String> = paths.filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    loop {
        // Reading the root's own files does not make the kernel sum up the cgroups below.
        parents.retain(|parent| !parent.is_empty());
        parents.sort_unstable();
        parents.dedup_by(|later, earlier| later == earlier || is_below(later, earlier));
        if parents.len() <= MAX_PARENTS {
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
