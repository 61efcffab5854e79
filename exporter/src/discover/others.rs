//! Cgroups that are not containers and that `--cgroups.include` selects: slices, services, parents of containers.
//!
//! [`super::Discovery`] reports only cgroups that are not below a container, so that a container cannot add rows.

use std::collections::{HashMap, HashSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Maximum number of cgroups with rows of their own: a host has about a hundred systemd units, each with 30 series.
pub const MAX_OTHERS: usize = 256;
/// Maximum number of refused cgroups that are remembered, so that each is counted once.
const MAX_REFUSED: usize = 4096;

/// Globs on paths of cgroups; none by default. `*` matches within one level, `**` across levels.
#[derive(Clone, Debug, Default)]
pub struct CgroupFilter(GlobSet);

impl CgroupFilter {
    /// Compiles globs.
    ///
    /// # Errors
    /// Every invalid glob, with the reason.
    pub fn new(globs: &[&str]) -> Result<Self, Vec<(String, globset::Error)>> {
        let (mut builder, mut errors) = (GlobSetBuilder::new(), Vec::new());
        for glob in globs {
            match GlobBuilder::new(glob).literal_separator(true).build() {
                Ok(compiled) => _ = builder.add(compiled),
                Err(error) => errors.push(((*glob).to_owned(), error)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        builder.build().map(Self).map_err(|error| vec![(globs.join(","), error)])
    }

    fn selects(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// What changed since the last call of [`Discovery::take_other_changes`](super::Discovery::take_other_changes).
#[derive(Debug, Default)]
pub struct OtherChanges {
    /// Paths of new cgroups.
    pub added: Vec<String>,
    /// Paths of cgroups that are gone.
    pub removed: Vec<String>,
    /// Number of cgroups that were refused because there are [`MAX_OTHERS`] already.
    pub dropped: u64,
}

/// The cgroups that the filter selects.
#[derive(Debug, Default)]
pub(super) struct Others {
    filter: CgroupFilter,
    /// The number of the last walk that observed each cgroup, by path.
    known: HashMap<String, u64>,
    refused: HashSet<String>,
    changes: OtherChanges,
}

impl Others {
    pub(super) fn set_filter(&mut self, filter: CgroupFilter) {
        self.filter = filter;
    }

    /// Returns whether the filter selects this path.
    pub(super) fn selects(&self, path: &str) -> bool {
        self.filter.selects(path)
    }

    /// Records an existing cgroup that the filter selects. A cgroup beyond [`MAX_OTHERS`] is refused.
    pub(super) fn observe(&mut self, path: &str, walk: u64) {
        if let Some(seen) = self.known.get_mut(path) {
            *seen = walk;
        } else if self.known.len() < MAX_OTHERS {
            self.known.insert(path.to_owned(), walk);
            self.refused.remove(path);
            self.changes.added.push(path.to_owned());
        } else if self.refused.len() < MAX_REFUSED && self.refused.insert(path.to_owned()) {
            self.changes.dropped += 1;
        }
    }

    /// Returns whether the cgroup is known and has rows.
    pub(super) fn has(&self, path: &str) -> bool {
        self.known.contains_key(path)
    }

    /// Removes a cgroup that is gone.
    pub(super) fn remove(&mut self, path: &str) {
        if self.known.remove(path).is_some() {
            let added = self.changes.added.len();
            self.changes.added.retain(|added| added != path);
            if self.changes.added.len() == added {
                self.changes.removed.push(path.to_owned());
            }
        }
    }

    /// Returns the paths of the cgroups that this walk has not observed.
    pub(super) fn unseen(&self, walk: u64) -> Vec<String> {
        self.known.iter().filter(|(_, seen)| **seen != walk).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn take_changes(&mut self) -> OtherChanges {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::{CgroupFilter, MAX_OTHERS, Others};

    #[test]
    fn a_star_stays_within_a_level() {
        let selects = |glob: &str, path: &str| CgroupFilter::new(&[glob]).unwrap().selects(path);
        assert!(selects("/system.slice/*", "/system.slice/docker.service"));
        assert!(
            !selects("/system.slice/*", "/system.slice")
                && !selects("/system.slice/*", "/system.slice/a.slice/b.service")
        );
        assert!(selects("/**/*.service", "/user.slice/user-1.slice/a.service"));
        assert!(!CgroupFilter::default().selects("/system.slice"));
        assert_eq!(CgroupFilter::new(&["[", "/a", "{b"]).unwrap_err().len(), 2);
    }

    #[test]
    fn the_number_is_bounded_and_each_beyond_it_is_counted_once() {
        let mut others = Others::default();
        others.set_filter(CgroupFilter::new(&["/*"]).unwrap());
        for walk in 1..=3 {
            (0..MAX_OTHERS + 10).for_each(|number| others.observe(&format!("/{number}"), walk));
        }
        let changes = others.take_changes();
        assert_eq!((changes.added.len(), changes.dropped), (MAX_OTHERS, 10));
        others.remove("/0");
        others.observe(&format!("/{MAX_OTHERS}"), 4);
        let changes = others.take_changes();
        assert_eq!(
            (changes.added, changes.removed, changes.dropped),
            (vec![format!("/{MAX_OTHERS}")], vec!["/0".to_owned()], 0)
        );
        assert_eq!(others.unseen(4).len(), MAX_OTHERS - 1);
    }
}
