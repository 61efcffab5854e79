//! The label sets of a container, which are rendered once and used until the engine reports something new.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::protobuf::{Encoded, Set};
use crate::discover::ContainerId;
use crate::metrics::push_label;
use crate::name::{ContainerInfo, NetworkMode};

/// The label sets of one container, each without braces.
#[derive(Clone, Debug, Default)]
pub struct LabelSets {
    /// `id`, `image`, `name` and the allow-listed `container_label_*`.
    pub(super) base: String,
    /// Further labels of `container_info`.
    pub(super) info: String,
    /// Further labels of `container_state`.
    pub(super) state: String,
    /// `container="NAME"`: the predecessor's only label.
    pub(super) docker_stats: String,
    /// The report that the labels are of.
    source_info: Option<Arc<ContainerInfo>>,
    /// Unique while the program runs; 0 for empty sets.
    number: u64,
    /// `base` and `docker_stats` in protobuf, from the first scrape that asks for it.
    encoded: [OnceLock<Encoded>; 2],
}

/// One of the label sets of one container, or a set that is no container's.
#[derive(Clone, Copy, Debug)]
pub struct LabelSet<'a> {
    pub(super) text: &'a str,
    /// A number that always stands for the same text, odd in the predecessor's schema; 0 where the set is no container's.
    pub(super) number: u64,
    /// All sets of its container; none where the set is no container's.
    pub(crate) of: Option<&'a LabelSets>,
}

impl LabelSets {
    /// Makes the sets of the container at this cgroup path.
    #[must_use]
    pub fn new(id: Option<ContainerId>, path: &str, info: Option<&Arc<ContainerInfo>>) -> Self {
        let mut sets = Self { source_info: info.cloned(), number: new_number(), ..Self::default() };
        let (name, image) = info.map_or(("", ""), |info| (info.name.as_str(), info.image.as_str()));
        push_label("id", path, &mut sets.base);
        push_label("image", image, &mut sets.base);
        push_label("name", name, &mut sets.base);
        for (label, value) in info.into_iter().flat_map(|info| &info.labels) {
            push_label(label, value, &mut sets.base);
        }
        let full_id = id.map(|id| id.to_string()).unwrap_or_default();
        // A name that has the form of an id may be the id of another container.
        let named = !name.is_empty() && ContainerId::parse(name.as_bytes()).is_none();
        push_label("container", if named { name } else { &full_id }, &mut sets.docker_stats);
        if let Some(info) = info {
            push_label("container_id", &full_id, &mut sets.info);
            push_label("image_id", &info.image_id, &mut sets.info);
            push_label("network_mode", &network_mode(&info.network_mode), &mut sets.info);
            push_label("restart_policy", &info.restart_policy, &mut sets.info);
            push_label("state", info.state.as_str(), &mut sets.state);
        }
        sets
    }

    /// Makes the sets of a cgroup that is no container and so has no series in the predecessor's schema.
    #[must_use]
    pub fn of_cgroup(path: &str) -> Self {
        let mut sets = Self::new(None, path, None);
        sets.give_up_name(None);
        sets
    }

    /// Labels the container with its id in the predecessor's schema, as another container has its name. Without an id it has no series
    /// there.
    pub fn give_up_name(&mut self, id: Option<ContainerId>) {
        self.docker_stats.clear();
        if let Some(id) = id {
            push_label("container", &id.to_string(), &mut self.docker_stats);
        }
        self.number = new_number();
        self.encoded = Default::default();
    }

    /// Returns the labels that are on every sample.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn text(&self) -> &str {
        &self.base
    }

    /// Returns the labels in the predecessor's schema; empty where the container has no series there.
    #[cfg(test)]
    pub(crate) fn docker_stats(&self) -> &str {
        &self.docker_stats
    }

    /// Returns the set of all samples but the predecessor's.
    #[must_use]
    pub fn base(&self) -> LabelSet<'_> {
        LabelSet { text: &self.base, number: self.number * 2, of: Some(self) }
    }

    /// Returns path and name.
    #[cfg(test)]
    pub(crate) fn id_and_name(&self) -> (String, String) {
        let value = |label: &str| {
            let rest = self.base.split(&format!("{label}=\"")).nth(1).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        (value("id"), value("name"))
    }

    /// Returns whether the sets are of this report.
    #[must_use]
    pub fn is_current(&self, info: Option<&Arc<ContainerInfo>>) -> bool {
        match (&self.source_info, info) {
            (None, None) => true,
            (Some(known), Some(info)) => Arc::ptr_eq(known, info),
            _ => false,
        }
    }
}

impl<'a> LabelSet<'a> {
    /// Returns a set that is no container's.
    pub(super) fn fixed(text: &'a str) -> Self {
        Self { text, number: 0, of: None }
    }

    /// Returns the set of the same container in the predecessor's schema.
    pub(super) fn in_docker_stats(self) -> Self {
        self.of.map_or(self, |sets| Self { text: &sets.docker_stats, number: sets.number * 2 + 1, ..self })
    }

    /// Returns the set in protobuf.
    #[inline]
    pub(super) fn encoded(&self) -> Set<'a> {
        let Some(sets) = self.of else { return Set::Other(self.text) };
        let [base, docker_stats] = &sets.encoded;
        let cell = if self.number % 2 == 1 { docker_stats } else { base };
        let started_ns = || sets.source_info.as_ref().and_then(|info| info.started_ns);
        Set::Container(cell.get_or_init(|| Encoded::new(self.text, started_ns())))
    }
}

fn new_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Named(name) => name.clone(),
        NetworkMode::Unknown => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::LabelSets;

    #[test]
    fn a_container_without_a_name_has_its_path_and_empty_names() {
        let sets = LabelSets::new(None, "/docker/abc", None);
        assert_eq!(sets.base, r#"id="/docker/abc",image="",name="""#);
        assert!(sets.is_current(None));
    }
}
