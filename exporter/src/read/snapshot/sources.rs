//! The source of each planned file's values: the file, or a snapshot once there is evidence that it agrees with the file.

use super::derivations::{Derivation, derivation};
use crate::discover::Tree;
use crate::ebpf::TreeRequest;
use crate::metrics::Controller;
use crate::read::plan::PlannedFile;

/// Number of comparisons that must agree before a snapshot replaces a file.
const MIN_AGREEMENTS: u8 = 3;
/// Number of consecutive mismatches after which a file is always read.
const MAX_MISMATCHES: u8 = 10;

/// The source of a planned file's values.
#[derive(Debug)]
pub(super) enum Source {
    /// The file.
    File,
    /// The snapshot of the cgroup in this tree, once there is enough evidence, and the file until then.
    Snapshot { tree: usize, keys: Vec<(u16, Derivation)>, evidence: Evidence },
}

impl Source {
    /// Returns whether a snapshot replaces the file.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self, Self::Snapshot { evidence, .. } if evidence.is_enough())
    }
}

/// Maximum number of keys of a file: [`super::Snapshots`] has a bit for each.
const MAX_KEYS: usize = 64;

/// Chooses the source of a planned file. Adds the counters to copy to `requests`, and the keys of unnamed counters to `stat_keys`.
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
    Source::Snapshot {
        tree,
        keys: file.targets.iter().copied().zip(derivations).collect(),
        evidence: Evidence::default(),
    }
}

/// Evidence for and against the snapshot of one file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    agreements: u8,
    mismatches: u8,
}

/// Outcome of comparing one value of a snapshot, or all that replace a file, with two readings of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The value lies between the readings.
    Agrees,
    /// Inconclusive: the value changed too much, or there was nothing to compare.
    Unclear,
    /// The value differs from the file.
    Differs(Mismatch),
}

/// A value that differs from its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mismatch {
    pub(super) key: &'static str,
    pub(super) before: Option<u64>,
    pub(super) snapshot: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Evidence {
    /// Returns whether the snapshot replaces the file.
    pub(super) fn is_enough(self) -> bool {
        self.agreements >= MIN_AGREEMENTS
    }

    /// Records a comparison. Returns whether to stop using the snapshot.
    pub(super) fn record(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Agrees => (self.agreements, self.mismatches) = (self.agreements.saturating_add(1), 0),
            Outcome::Unclear => {}
            Outcome::Differs(_) => (self.agreements, self.mismatches) = (0, self.mismatches.saturating_add(1)),
        }
        self.mismatches >= MAX_MISMATCHES
    }
}

impl Outcome {
    /// Combines the outcomes of two values of one file.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (differs @ Self::Differs(_), _) | (_, differs @ Self::Differs(_)) => differs,
            (Self::Agrees, _) | (_, Self::Agrees) => Self::Agrees,
            (Self::Unclear, Self::Unclear) => Self::Unclear,
        }
    }
}

impl Mismatch {
    /// Compares a value with the readings before and after it. `is_present` says whether files of such cgroups have the key.
    pub(super) fn compare(self, derivation: Derivation, is_present: bool) -> Outcome {
        let (before, snapshot, after) = match (self.before, self.snapshot, self.after) {
            (Some(before), Some(snapshot), Some(after)) => (before, snapshot, after),
            // The snapshot would expose a value that the file does not have.
            (None, Some(_), None) if is_present => return Outcome::Differs(self),
            // A key that files of such cgroups lack is not exposed, and a key that the snapshot lacks is read from the file.
            _ => return Outcome::Unclear,
        };
        match (before.min(after)..=before.max(after)).contains(&snapshot) {
            true => Outcome::Agrees,
            // A gauge may have had any value between two different readings.
            false if derivation.is_gauge() && before != after => Outcome::Unclear,
            false => Outcome::Differs(self),
        }
    }
}

/// Returns whether a v2 tree is mounted so that its `*.events` files count the cgroup alone, while a snapshot includes the cgroups
/// below it.
pub(super) fn has_local_events(mounts: &str) -> bool {
    let options = mounts.lines().filter_map(|mount| {
        let mut fields = mount.split(' ').skip(2);
        (fields.next() == Some("cgroup2")).then(|| fields.next()).flatten()
    });
    options.flat_map(|options| options.split(',')).any(|option| option.ends_with("_localevents"))
}

/// Maximum number of parents. The kernel iterates over the cgroups below each.
const MAX_PARENTS: usize = 16;

/// Returns whether a cgroup is below another.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the parents of cgroups, without those that are below another. If there are too many, returns common ancestors.
pub(super) fn parents<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parents: Vec<String> = paths.filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    loop {
        // The root is not a suitable parent: reading its files does not make the kernel sum up the cgroups below it.
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
    use super::{Derivation, Evidence, MAX_MISMATCHES, Mismatch, Outcome, has_local_events, is_below, parents};
    use crate::ebpf::Number;

    const COUNTER: Derivation = Derivation::Count(Number::Periods);

    fn values(
        before: impl Into<Option<u64>>,
        snapshot: impl Into<Option<u64>>,
        after: impl Into<Option<u64>>,
    ) -> Mismatch {
        Mismatch { key: "nr_periods", before: before.into(), snapshot: snapshot.into(), after: after.into() }
    }

    #[test]
    fn a_counter_lies_between_two_readings() {
        for agrees in [values(5, 5, 5), values(5, 6, 7), values(5, 7, 7)] {
            assert_eq!(agrees.compare(COUNTER, true), Outcome::Agrees);
        }
        for differs in [values(5, 4, 5), values(5, 8, 7), values(5, 0, 7)] {
            assert_eq!(differs.compare(COUNTER, true), Outcome::Differs(differs));
        }
    }

    #[test]
    fn a_gauge_is_wrong_only_where_it_stood_still() {
        let gauge = Derivation::Pages(Number::MemoryUsage);
        assert_eq!(values(5, 9, 5).compare(gauge, true), Outcome::Differs(values(5, 9, 5)));
        assert_eq!(values(5, 9, 6).compare(gauge, true), Outcome::Unclear);
        assert_eq!(values(6, 5, 5).compare(gauge, true), Outcome::Agrees);
    }

    #[test]
    fn what_either_side_lacks_is_not_compared() {
        assert_eq!(values(None, 1, None).compare(COUNTER, false), Outcome::Unclear);
        assert_eq!(values(None, 1, 1).compare(COUNTER, true), Outcome::Unclear);
        assert_eq!(values(1, None, 1).compare(COUNTER, true), Outcome::Unclear);
    }

    #[test]
    fn what_the_file_does_not_have_must_not_be_exposed() {
        assert_eq!(values(None, 1, None).compare(COUNTER, true), Outcome::Differs(values(None, 1, None)));
    }

    #[test]
    fn a_copy_serves_after_three_agreements_and_not_after_a_mismatch() {
        let mut evidence = Evidence::default();
        let served = [(); 3].map(|()| {
            evidence.record(Outcome::Agrees);
            evidence.is_enough()
        });
        assert_eq!(served, [false, false, true]);
        evidence.record(Outcome::Unclear);
        assert!(evidence.is_enough());
        let differs = Outcome::Differs(values(1, 2, 1));
        assert!(!evidence.record(differs) && !evidence.is_enough());
        evidence.record(Outcome::Agrees);
        let given_up: Vec<bool> = (0..MAX_MISMATCHES).map(|_| evidence.record(differs)).collect();
        assert_eq!(given_up.iter().position(|given_up| *given_up), Some(usize::from(MAX_MISMATCHES) - 1));
    }

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
