//! Applies the user's settings to a container: bounded names, metric labels, and whether the container is exposed.
//!
//! [`crate::docker`] applies them to every report of an engine, so that nothing unbounded is stored.

use std::collections::BTreeMap;

use globset::{Candidate, GlobSet};

use super::filter::glob_set;
use super::{ContainerFilter, FixedMatch, GlobError, MAX_IMAGE, MAX_NAME};

/// The user's settings for containers' names and labels.
#[derive(Clone, Debug, Default)]
pub struct NamingPolicy {
    /// Which labels become metric labels.
    pub labels: LabelPolicy,
    /// Which containers are exposed.
    pub filter: ContainerFilter,
}

/// A container's names and labels, after the settings were applied.
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
    /// Counts of the texts that were cut or left out.
    pub dropped: Dropped,
}

impl NamingPolicy {
    /// Applies the settings to an engine's report. The filter sees names and labels before they are cut.
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

/// Container labels that become metric labels by default (`--containers.labels`).
pub const DEFAULT_LABELS: [&str; 8] = [
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.swarm.node.id",
    "com.docker.swarm.service.id",
    "com.docker.swarm.service.name",
    "com.docker.swarm.task.name",
    "com.docker.stack.namespace",
    "org.label-schema.group",
];

/// Maximum number of container labels that one container gets.
pub const MAX_LABELS: usize = 64;
/// Maximum length of a label's name in bytes, `container_label_` included.
pub const MAX_LABEL_NAME: usize = 128;
/// Maximum length of a label's value in bytes.
pub const MAX_LABEL_VALUE: usize = 1024;

/// Counts of the texts of one container that were cut or left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Labels left out because the container has more than [`MAX_LABELS`].
    pub label_limit: u64,
    /// Labels left out because another one has the same name once sanitised.
    pub label_collision: u64,
    /// Label names cut at [`MAX_LABEL_NAME`].
    pub label_name_length: u64,
    /// Label values cut at [`MAX_LABEL_VALUE`].
    pub label_value_length: u64,
    /// Names cut at [`MAX_NAME`].
    pub name_length: u64,
    /// Image names cut at [`MAX_IMAGE`].
    pub image_length: u64,
}

impl Dropped {
    /// Returns the counts that are not 0, as `(reason, count)`.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("label_limit", self.label_limit),
            ("label_collision", self.label_collision),
            ("label_name_length", self.label_name_length),
            ("label_value_length", self.label_value_length),
            ("name_length", self.name_length),
            ("image_length", self.image_length),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

/// The container labels that become metric labels (`--containers.labels`), sanitised and bounded.
#[derive(Clone, Debug)]
pub struct LabelPolicy {
    allowed: GlobSet,
}

impl LabelPolicy {
    /// Compiles the allow-list; without a glob no label passes.
    ///
    /// # Errors
    /// One per invalid glob.
    pub fn new(globs: &[&str]) -> Result<Self, Vec<GlobError>> {
        Ok(Self { allowed: glob_set(globs)? })
    }

    /// Returns the metric labels for these container labels, sorted by name.
    ///
    /// If two sanitised names are equal, the one whose original name sorts first wins.
    #[must_use]
    pub fn apply(&self, raw: &[(&str, &str)], dropped: &mut Dropped) -> Vec<(String, String)> {
        let mut allowed: Vec<_> =
            raw.iter().filter(|(name, _)| self.allowed.is_match_candidate(&Candidate::new(name))).collect();
        allowed.sort_unstable();
        let mut labels = BTreeMap::new();
        for (name, value) in allowed {
            let name = sanitise(name, dropped);
            if labels.contains_key(&name) {
                dropped.label_collision += 1;
            } else if labels.len() == MAX_LABELS {
                dropped.label_limit += 1;
            } else {
                labels.insert(name, cut(value, MAX_LABEL_VALUE, &mut dropped.label_value_length));
            }
        }
        labels.into_iter().collect()
    }
}

impl Default for LabelPolicy {
    /// Returns the policy of [`DEFAULT_LABELS`].
    fn default() -> Self {
        Self::new(&DEFAULT_LABELS).unwrap_or_else(|_| Self { allowed: GlobSet::empty() })
    }
}

/// Returns `container_label_` and the name, with every character that a metric label must not have replaced by `_`.
fn sanitise(name: &str, dropped: &mut Dropped) -> String {
    let mut label = String::from("container_label_");
    for character in name.chars() {
        if label.len() == MAX_LABEL_NAME {
            dropped.label_name_length += 1;
            break;
        }
        label.push(if character.is_ascii_alphanumeric() { character } else { '_' });
    }
    label
}

/// Returns the longest prefix of at most `limit` bytes that does not split a character.
fn cut(text: &str, limit: usize, dropped: &mut u64) -> String {
    if text.len() > limit {
        *dropped += 1;
    }
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{
        ContainerFilter, Dropped, LabelPolicy, MAX_IMAGE, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, MAX_NAME,
        NamingPolicy,
    };

    fn apply(globs: &[&str], raw: &[(&str, &str)]) -> (Vec<(String, String)>, Dropped) {
        let mut dropped = Dropped::default();
        let labels = LabelPolicy::new(globs).unwrap().apply(raw, &mut dropped);
        (labels, dropped)
    }

    #[test]
    fn only_allowed_labels_pass_and_they_are_sanitised() {
        let (labels, dropped) = apply(&["com.*", "é"], &[("com.docker/x-y", "1"), ("é", "2"), ("org.secret", "3")]);
        let expected = [("container_label__", "2"), ("container_label_com_docker_x_y", "1")];
        assert_eq!(labels, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(dropped, Dropped::default());
    }

    #[test]
    fn the_default_is_compose_and_swarm() {
        let mut dropped = Dropped::default();
        let raw = [
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.config-hash", "ab"),
            ("com.docker.swarm.node.id", "n1"),
            ("com.docker.swarm.service.id", "s1"),
            ("org.label-schema.group", "monitoring"),
            ("org.label-schema.name", "x"),
        ];
        let labels = LabelPolicy::default().apply(&raw, &mut dropped);
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("container_label_com_docker_compose_project", "shop"),
            ("container_label_com_docker_swarm_node_id", "n1"),
            ("container_label_com_docker_swarm_service_id", "s1"),
            ("container_label_org_label_schema_group", "monitoring"),
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn the_first_of_two_colliding_names_wins_in_any_order() {
        for raw in [[("a-b", "dash"), ("a.b", "dot")], [("a.b", "dot"), ("a-b", "dash")]] {
            let (labels, dropped) = apply(&["*"], &raw);
            assert_eq!(labels, [("container_label_a_b".to_owned(), "dash".to_owned())]);
            assert_eq!(dropped.label_collision, 1);
        }
    }

    #[test]
    fn thousands_of_labels_and_huge_values_are_bounded_and_counted() {
        let names: Vec<_> = (0..5000).map(|number| format!("l{number:04}{}", "x".repeat(200))).collect();
        let value = format!("{}é", "v".repeat(MAX_LABEL_VALUE - 1));
        let raw: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let (labels, dropped) = apply(&["*"], &raw);
        assert_eq!(labels.len(), MAX_LABELS);
        assert!(labels.iter().all(|(name, value)| name.len() == MAX_LABEL_NAME && value.len() == MAX_LABEL_VALUE - 1));
        assert_eq!(dropped.label_limit, 5000 - MAX_LABELS as u64);
        assert_eq!((dropped.label_name_length, dropped.label_value_length), (5000, MAX_LABELS as u64));
        assert_eq!(dropped.reasons().count(), 3);
    }

    #[test]
    fn quotes_and_newlines_in_a_value_are_kept_for_the_renderer_to_escape() {
        let (labels, _) = apply(&["*"], &[("a", "\"\n\\")]);
        assert_eq!(labels[0].1, "\"\n\\");
    }

    #[test]
    fn every_bad_glob_is_named() {
        let errors = LabelPolicy::new(&["ok.*", "a[", "{b"]).unwrap_err();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("\"a[\"") && texts[1].contains("\"{b\""), "{texts:?}");
    }

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
