//! Which metrics are exposed: `--metrics.include` and `--metrics.exclude`.

use globset::{GlobSet, GlobSetBuilder};

use super::filter::{GlobError, compile};

/// `--metrics.include` and `--metrics.exclude`: globs on the names of families.
#[derive(Clone, Debug, Default)]
pub struct MetricFilter {
    /// None if all are included.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl MetricFilter {
    /// Compiles both lists.
    ///
    /// # Errors
    /// One per invalid glob.
    pub fn new(include: &[&str], exclude: &[&str]) -> Result<Self, Vec<GlobError>> {
        let included = if include.is_empty() { None } else { Some(glob_set(include)?) };
        Ok(Self { include: included, exclude: glob_set(exclude)? })
    }

    /// Returns whether the family of this name is exposed.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name)) && !self.exclude.is_match(name)
    }
}

/// Compiles globs of which any may match.
///
/// # Errors
/// One per invalid glob.
pub(super) fn glob_set(globs: &[&str]) -> Result<GlobSet, Vec<GlobError>> {
    let mut builder = GlobSetBuilder::new();
    let mut errors = Vec::new();
    for glob in globs {
        match compile(glob) {
            Ok(glob) => drop(builder.add(glob)),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    builder.build().map_err(|error| vec![GlobError::new(&globs.join(","), &error)])
}

#[cfg(test)]
mod tests {
    use super::MetricFilter;

    #[test]
    fn exclusion_wins_and_no_inclusion_means_all() {
        let selects =
            |include: &[&str], exclude: &[&str], name: &str| MetricFilter::new(include, exclude).unwrap().selects(name);
        assert!(selects(&[], &[], "container_memory_rss"));
        assert!(selects(&["container_{cpu,memory}_*"], &[], "container_memory_rss"));
        assert!(!selects(&["container_cpu_*"], &[], "container_memory_rss"));
        assert!(!selects(&["container_*"], &["*_rss"], "container_memory_rss"));
        assert!(!selects(&["container_memory"], &[], "container_memory_rss"), "the whole name is matched");
    }

    #[test]
    fn every_bad_glob_is_named() {
        assert_eq!(MetricFilter::new(&["a[", "b", "{c"], &[]).unwrap_err().len(), 2);
        assert_eq!(MetricFilter::new(&[], &["a["]).unwrap_err().len(), 1);
    }
}
