//! The cgroups that a request selects: `?id[]=` with a cgroup path or a container id.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ContainerId;

/// The selected cgroups; all if none is named.
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

    /// Returns the filter of these cgroup paths and container ids; of every cgroup if there are none.
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

    /// Returns whether every cgroup is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the cgroup at this path, or its container, is selected.
    #[must_use]
    pub fn has(&self, id: Option<ContainerId>, path: &str) -> bool {
        let Some(named) = &self.0 else { return true };
        id.is_some_and(|id| named.ids.contains(&id)) || named.paths.contains(path)
    }

    /// Returns whether the host as a whole is selected.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.has(None, "/")
    }

    /// Returns the maximum number of selected cgroups; none if all are selected.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        self.0.as_ref().map(|named| named.paths.len() + named.ids.len())
    }

    /// Returns the union of two filters.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (&self.0, &other.0) else { return Self(None) };
        if other.is_part_of(self) {
            return self.clone();
        }
        let paths = one.paths.union(&two.paths).cloned().collect();
        Self(Some(Arc::new(Named { paths, ids: one.ids.union(&two.ids).copied().collect() })))
    }

    /// Returns whether the other filter selects everything that this one does.
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

    #[test]
    fn a_cgroup_is_named_by_its_path_or_by_its_id() {
        let digits = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";
        let id = ContainerId::parse(digits.as_bytes());
        let by_id = IdFilter::new([digits]);
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
