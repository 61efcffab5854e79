//! Applies the user's settings to a container: bounded names, metric labels, and whether it is exposed.
//!
//! Applied by [`crate::docker`] to every report of an engine, so that nothing unbounded is stored.

use super::labels::{Dropped, LabelPolicy, cut};
use super::{ContainerFilter, FixedMatch, MAX_IMAGE, MAX_NAME};

/// The user's settings about names.
#[derive(Clone, Debug, Default)]
pub struct NamingPolicy {
    /// Which labels become metric labels.
    pub labels: LabelPolicy,
    /// Which containers are exposed.
    pub filter: ContainerFilter,
}

/// A container's names after the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name, without leading slash.
    pub name: String,
    /// Image as given.
    pub image: String,
    /// See [`super::ContainerInfo::labels`].
    pub labels: Vec<(String, String)>,
    /// See [`super::ContainerInfo::selected`].
    pub selected: bool,
    /// The result of matching image and labels, for `selected`.
    pub fixed: FixedMatch,
    /// Counts of truncated and omitted texts.
    pub dropped: Dropped,
}

impl NamingPolicy {
    /// Applies the rules to an engine's report. The filter sees the whole texts.
    #[must_use]
    pub fn identify(&self, name: &str, image: &str, mut labels: Vec<(&str, &str)>) -> Identity {
        let name = name.trim_start_matches('/');
        labels.sort_unstable();
        let mut dropped = Dropped::default();
        let fixed = self.filter.match_fixed(image, &labels);
        Identity {
            selected: self.filter.selects(name, fixed),
            fixed,
            labels: self.labels.apply(&labels, &mut dropped),
            name: cut(name, MAX_NAME, &mut dropped.name_length),
            image: cut(image, MAX_IMAGE, &mut dropped.image_length),
            dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NamingPolicy;
    use crate::name::{ContainerFilter, MAX_IMAGE, MAX_NAME};

    #[test]
    fn names_are_cut_after_the_filter_has_seen_them() {
        let filter = ContainerFilter::new(&["*-tail"], &[]).unwrap();
        let naming = NamingPolicy { filter, ..NamingPolicy::default() };
        let name = format!("/{}-tail", "n".repeat(1000));
        let identity = naming.identify(&name, &"i".repeat(1000), vec![]);
        assert!(identity.selected);
        assert_eq!((identity.name.len(), identity.image.len()), (MAX_NAME, MAX_IMAGE));
        assert_eq!((identity.dropped.name_length, identity.dropped.image_length), (1, 1));
    }

    #[test]
    fn the_filter_sees_labels_that_are_no_metric_labels() {
        let naming =
            NamingPolicy { filter: ContainerFilter::new(&[], &["label:z=1"]).unwrap(), ..NamingPolicy::default() };
        let identity = naming.identify("web", "nginx", vec![("z", "1"), ("a", "2")]);
        assert!(!identity.selected && identity.labels.is_empty());
    }
}
