//! Container ids, how the name of a cgroup directory contains one, and the cgroups that a request selects with
//! `?id[]=`.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// The 256-bit id of a container, as every OCI engine prints it: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId([u8; 32]);

/// Hashes one word instead of 32 bytes. That is enough for random ids, and a scrape looks each id up several times.
impl Hash for ContainerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let words = self.0.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
        state.write_u64(words.fold(0, |all, word| all ^ word));
    }
}

impl ContainerId {
    /// Parses exactly 64 lower-case hex digits; returns none for any other text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 64] = text.try_into().ok()?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = hex_digit(high)? << 4 | hex_digit(low)?;
        }
        Some(Self(id))
    }

    /// Returns the id of the container that a cgroup of this name belongs to. Like cAdvisor, accepts any name with 64
    /// hex digits except those of units without processes and of helper processes.
    ///
    /// Examples: `<id>` (cgroupfs driver), `docker-<id>.scope`, `libpod-<id>.scope`, `nerdctl-<id>.scope` (systemd
    /// driver), `libpod-payload-<id>` (Podman with `--cgroups=split`), `x.slice:cri-containerd:<id>` (a systemd path
    /// that a cgroupfs driver took literally), `lxc.payload.<id>`, `machine-<id>.scope`. The last of two ids counts:
    /// the first is that of the pod.
    #[must_use]
    pub fn from_cgroup_name(name: &[u8]) -> Option<Self> {
        let (start, id) = last_id(name)?;
        let (before, after) = (name.get(..start)?, name.get(start + 64..)?);
        (!is_helper(before, after)).then_some(id)
    }

    /// Returns the id of the container that a cgroup of this path belongs to. Like [`ContainerId::from_cgroup_name`],
    /// but rejects helpers by their parent, too: `kata_overhead` or `buildkit`.
    #[must_use]
    pub fn from_cgroup_path(path: &Path) -> Option<Self> {
        let id = Self::from_cgroup_name(path.file_name()?.as_bytes())?;
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default().as_bytes();
        (!HELPER_PARENTS.contains(&parent)).then_some(id)
    }
}

/// Names of parents whose children have ids in their names but are no containers.
const HELPER_PARENTS: [&[u8]; 2] = [b"kata_overhead", b"buildkit"];

/// Returns the last word of exactly 64 hex digits as an id, and the index of its first byte. Words are separated by
/// anything but letters and digits, and by `\x2d`, the escaped hyphen of systemd.
fn last_id(name: &[u8]) -> Option<(usize, ContainerId)> {
    let mut end = name.len();
    while let Some(last) = name.get(..end)?.iter().rposition(u8::is_ascii_alphanumeric) {
        let word = name.get(..=last)?.iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
        let start = if name.get(..word)?.ends_with(b"\\") { (word + 3).min(last + 1) } else { word };
        if let Some(id) = ContainerId::parse(name.get(start..=last)?) {
            return Some((start, id));
        }
        end = word;
    }
    None
}

/// Returns whether a name with these parts around its id belongs to no container: to a unit without processes, or to a
/// helper process, such as a monitor, a health check, or the unit that Podman generates to start a container.
fn is_helper(before: &[u8], after: &[u8]) -> bool {
    const UNITS: [&[u8]; 6] = [b".mount", b".automount", b".slice", b".swap", b".socket", b".timer"];
    const WORDS: [&[u8]; 4] = [b"conmon", b"buildkit", b"kata_overhead", b"lxc.monitor"];
    let contains = |word: &[u8]| before.windows(word.len()).any(|window| window == word);
    let is_generated = || after.ends_with(b".service") && matches!(before, b"" | b"container-" | b"pod-");
    UNITS.iter().any(|unit| after.ends_with(unit)) || WORDS.into_iter().any(contains) || is_generated()
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The cgroups that a request selects by paths and container ids; all cgroups if it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdFilter(Option<Arc<Named>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    paths: BTreeSet<String>,
    ids: BTreeSet<ContainerId>,
}

impl IdFilter {
    /// Returns the filter that selects every cgroup.
    #[must_use]
    pub fn all() -> &'static Self {
        static ALL: IdFilter = IdFilter(None);
        &ALL
    }

    /// Returns the filter that selects these cgroup paths and container ids; every cgroup if there are none.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut named = Named::default();
        for value in values {
            match ContainerId::parse(value.as_bytes()) {
                Some(id) => drop(named.ids.insert(id)),
                None => drop(named.paths.insert(value.to_owned())),
            }
        }
        let is_empty = named.paths.is_empty() && named.ids.is_empty();
        Self((!is_empty).then(|| Arc::new(named)))
    }

    /// Returns whether the filter selects every cgroup.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the filter selects the cgroup at this path, or its container.
    #[must_use]
    pub fn has(&self, id: Option<ContainerId>, path: &str) -> bool {
        let Some(named) = &self.0 else { return true };
        id.is_some_and(|id| named.ids.contains(&id)) || named.paths.contains(path)
    }

    /// Returns whether the filter selects the host as a whole, whose path is `/`.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.has(None, "/")
    }

    /// Returns the maximum number of cgroups that the filter can select; none if it selects all.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        self.0.as_ref().map(|named| named.paths.len() + named.ids.len())
    }

    /// Returns the filter that selects what either of the two filters selects.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (&self.0, &other.0) else { return Self(None) };
        if other.is_part_of(self) {
            return self.clone();
        }
        let paths = one.paths.union(&two.paths).cloned().collect();
        Self(Some(Arc::new(Named { paths, ids: one.ids.union(&two.ids).copied().collect() })))
    }

    /// Returns whether the other filter selects everything that this filter selects.
    #[must_use]
    pub fn is_part_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(two)) => one.paths.is_subset(&two.paths) && one.ids.is_subset(&two.ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ContainerId, IdFilter};

    const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

    #[test]
    fn an_id_survives_the_round_trip() {
        assert_eq!(ContainerId::parse(ID.as_bytes()).unwrap().to_string(), ID);
    }

    #[test]
    fn every_engine_s_directory_name_is_known() {
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("libpod-{ID}.scope"),
            format!("libpod-{ID}"),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
            format!("crio-{ID}"),
            format!("nerdctl-{ID}.scope"),
            format!("libpod-payload-{ID}"),
            format!("cri-containerd-{ID}"),
            format!("kubepods-burstable-pod36b6d6be.slice:cri-containerd:{ID}"),
            format!("system.slice:docker:{ID}"),
            format!("machine-libpod_pod_{}.slice:libpod:{ID}", "b".repeat(64)),
            format!("lxc.payload.{ID}"),
            format!("machine-{ID}.scope"),
            format!("machine-{ID}.service"),
            format!(r"machine-lxc\x2d{ID}.scope"),
        ] {
            let id = ContainerId::from_cgroup_name(name.as_bytes());
            assert_eq!(id.map(|id| id.to_string()).as_deref(), Some(ID), "{name}");
        }
    }

    #[test]
    fn helpers_of_a_runtime_are_told_by_their_parent() {
        for parent in ["kata_overhead", "docker/buildkit"] {
            assert_eq!(ContainerId::from_cgroup_path(format!("/{parent}/{ID}").as_ref()), None, "{parent}");
        }
        assert!(ContainerId::from_cgroup_path(format!("/docker/{ID}").as_ref()).is_some());
        assert!(ContainerId::from_cgroup_path(format!("/{ID}").as_ref()).is_some());
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for name in [
            format!("crio-conmon-{ID}.scope"),
            format!("libpod-conmon-{ID}.scope"),
            format!("docker-buildkit-{ID}.scope"),
            format!("system.slice:kata_overhead:{ID}"),
            format!("lxc.monitor.{ID}"),
            format!(r"var-lib-docker-containers-{ID}-mounts-shm.mount"),
            format!(r"run-docker-runtime\x2drunc-moby-{ID}-runc.mount"),
            format!("machine-libpod_pod_{ID}.slice"),
            format!("{ID}.service"),
            format!("{ID}-4be5c3f5a1.service"),
            format!("container-{ID}.service"),
            format!("x{ID}"),
            format!("{ID}0"),
            ID[1..].to_owned(),
            ID.to_uppercase(),
            "docker-.scope".to_owned(),
            "system.slice".to_owned(),
        ] {
            assert_eq!(ContainerId::from_cgroup_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_cgroup_is_named_by_its_path_or_by_its_id() {
        let id = ContainerId::parse(ID.as_bytes());
        let by_id = IdFilter::new([ID]);
        assert!(by_id.has(id, "/docker/x") && !by_id.has(None, "/docker/x") && !by_id.has_host());
        let by_path = IdFilter::new(["/docker/x", "/"]);
        assert!(by_path.has(id, "/docker/x") && by_path.has_host() && !by_path.has(id, "/docker/y"));
        assert_eq!((by_path.count(), IdFilter::all().count()), (Some(2), None));
        assert!(IdFilter::new([]).is_all() && IdFilter::all().has(None, "/a") && IdFilter::all().has_host());
    }

    #[test]
    fn what_two_ask_for_serves_both() {
        let (one, two) = (IdFilter::new(["/a"]), IdFilter::new(["/b"]));
        let both = one.union(&two);
        assert!(one.is_part_of(&both) && two.is_part_of(&both) && !both.is_part_of(&one));
        assert!(both.is_part_of(IdFilter::all()) && !IdFilter::all().is_part_of(&both));
        assert!(one.union(IdFilter::all()).is_all());
    }
}
