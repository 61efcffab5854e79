//! Which containers and which metrics are exposed: `--containers.include`, `--containers.exclude`, `--metrics.include` and
//! `--metrics.exclude`.
//!
//! [`crate::config`] makes the filters; [`crate::name::NamingPolicy`] applies that of containers to every container of an engine.

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// An invalid glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{glob:?} is not a glob: {reason}")]
pub struct GlobError {
    /// The glob as given.
    pub glob: String,
    /// Why it is invalid.
    pub reason: String,
}

impl GlobError {
    /// Returns the error of a glob that cannot be compiled.
    #[must_use]
    pub fn new(glob: &str, error: &globset::Error) -> Self {
        Self { glob: glob.to_owned(), reason: error.kind().to_string() }
    }

    /// Returns the error of a glob on paths that no path can match.
    #[must_use]
    pub fn of_relative(glob: &str) -> Self {
        Self { glob: glob.to_owned(), reason: "a path begins with /".to_owned() }
    }
}

/// Compiles a glob in which `*` also matches `/`, as in image names, and case matters.
fn compile(glob: &str) -> Result<Glob, GlobError> {
    GlobBuilder::new(glob).build().map_err(|error| GlobError::new(glob, &error))
}

/// The containers that are exposed: `--containers.include` and `--containers.exclude`.
#[derive(Clone, Debug, Default)]
pub struct ContainerFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Pattern {
    NameOrImage(GlobMatcher),
    HasLabel(String),
    Label { key: String, value: GlobMatcher },
}

impl ContainerFilter {
    /// Compiles both lists. `GLOB` is matched against name and image, `label:KEY=GLOB` against a label's value;
    /// `label:KEY` matches any container with the label.
    ///
    /// # Errors
    /// One per invalid pattern.
    pub fn new(include: &[&str], exclude: &[&str]) -> Result<Self, Vec<GlobError>> {
        let mut errors = Vec::new();
        let mut parse = |patterns: &[&str]| -> Vec<Pattern> {
            let parsed = patterns.iter().map(|text| Pattern::parse(text));
            parsed.filter_map(|pattern| pattern.map_err(|error| errors.push(error)).ok()).collect()
        };
        let filter = Self { include: parse(include), exclude: parse(exclude) };
        if errors.is_empty() { Ok(filter) } else { Err(errors) }
    }

    /// Matches image and labels, which never change while a container exists. `labels` are all labels of the container, sorted
    /// by name.
    #[must_use]
    pub fn match_fixed(&self, image: &str, labels: &[(&str, &str)]) -> FixedMatch {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches_fixed(image, labels));
        FixedMatch { included: self.include.is_empty() || any(&self.include), excluded: any(&self.exclude) }
    }

    /// Returns whether a container of this name is exposed.
    #[must_use]
    pub fn selects(&self, name: &str, fixed: FixedMatch) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches_name(name));
        (fixed.included || any(&self.include)) && !(fixed.excluded || any(&self.exclude))
    }

    /// Returns whether a container is exposed whose id is all that is known.
    #[must_use]
    pub fn selects_unknown(&self) -> bool {
        self.selects("", self.match_fixed("", &[]))
    }
}

/// The result of matching a container's image and labels. With it a new name is matched without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedMatch {
    included: bool,
    excluded: bool,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, GlobError> {
        let Some(label) = text.strip_prefix("label:") else {
            return Ok(Self::NameOrImage(compile(text)?.compile_matcher()));
        };
        match label.split_once('=') {
            Some(("", _)) | None if label.is_empty() || label.starts_with('=') => {
                Err(GlobError { glob: text.to_owned(), reason: "expected label:KEY or label:KEY=GLOB".to_owned() })
            }
            Some((key, value)) => {
                let glob = compile(value).map_err(|error| GlobError { glob: text.to_owned(), ..error })?;
                Ok(Self::Label { key: key.to_owned(), value: glob.compile_matcher() })
            }
            None => Ok(Self::HasLabel(label.to_owned())),
        }
    }

    fn matches_name(&self, name: &str) -> bool {
        matches!(self, Self::NameOrImage(glob) if glob.is_match(name))
    }

    fn matches_fixed(&self, image: &str, labels: &[(&str, &str)]) -> bool {
        let find = |key: &str| {
            let index = labels.binary_search_by(|(name, _)| (*name).cmp(key)).ok()?;
            labels.get(index).map(|(_, value)| *value)
        };
        match self {
            Self::NameOrImage(glob) => glob.is_match(image),
            Self::HasLabel(key) => find(key).is_some(),
            Self::Label { key, value } => find(key).is_some_and(|found| value.is_match(found)),
        }
    }
}

/// The families that are exposed, by name: `--metrics.include` and `--metrics.exclude`.
#[derive(Clone, Debug, Default)]
pub struct MetricFilter {
    /// None where all are included.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl MetricFilter {
    /// Compiles both lists.
    ///
    /// # Errors
    /// One per invalid glob.
    pub fn new(include: &[&str], exclude: &[&str]) -> Result<Self, Vec<GlobError>> {
        let include = if include.is_empty() { None } else { Some(glob_set(include)?) };
        Ok(Self { include, exclude: glob_set(exclude)? })
    }

    /// Returns whether the family of this name is exposed.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name)) && !self.exclude.is_match(name)
    }
}

/// Compiles globs into a set that matches what one of them matches.
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
    use super::{ContainerFilter, MetricFilter};

    fn selects(include: &[&str], exclude: &[&str]) -> bool {
        let labels = [("env", "prod-eu"), ("tier", "")];
        let filter = ContainerFilter::new(include, exclude).unwrap();
        filter.selects("shop-web-1", filter.match_fixed("registry.test/shop/web:3", &labels))
    }

    #[test]
    fn no_pattern_selects_everything() {
        assert!(selects(&[], &[]));
        assert!(ContainerFilter::default().selects_unknown());
    }

    #[test]
    fn each_kind_of_pattern_includes_and_excludes() {
        for pattern in
            ["shop-*", "*/web:*", "registry.test/*", "label:env=prod-*", "label:env", "label:tier", "label:tier="]
        {
            assert!(selects(&[pattern], &[]), "{pattern}");
            assert!(!selects(&[], &[pattern]), "{pattern}");
        }
        for pattern in ["shop", "web:*", "SHOP-*", "label:env=prod", "label:en", "label:tier=?*", "label:no=*"] {
            assert!(!selects(&[pattern], &[]), "{pattern}");
            assert!(selects(&[], &[pattern]), "{pattern}");
        }
    }

    #[test]
    fn exclusion_wins() {
        assert!(!selects(&["shop-*", "other"], &["label:env=prod-*"]));
        assert!(selects(&["shop-*"], &["label:env=test-*"]));
    }

    #[test]
    fn every_bad_pattern_is_named() {
        let errors = ContainerFilter::new(&["a[", "fine"], &["label:", "label:=x", "label:k={"]).unwrap_err();
        let globs: Vec<_> = errors.iter().map(|error| error.glob.as_str()).collect();
        assert_eq!(globs, ["a[", "label:", "label:=x", "label:k={"]);
    }

    #[test]
    fn exclusion_of_metrics_wins_and_no_inclusion_means_all() {
        let selects =
            |include: &[&str], exclude: &[&str], name: &str| MetricFilter::new(include, exclude).unwrap().selects(name);
        assert!(selects(&[], &[], "container_memory_rss"));
        assert!(selects(&["container_{cpu,memory}_*"], &[], "container_memory_rss"));
        assert!(!selects(&["container_cpu_*"], &[], "container_memory_rss"));
        assert!(!selects(&["container_*"], &["*_rss"], "container_memory_rss"));
        assert!(!selects(&["container_memory"], &[], "container_memory_rss"), "the whole name is matched");
    }

    #[test]
    fn every_bad_glob_on_metrics_is_named() {
        assert_eq!(MetricFilter::new(&["a[", "b", "{c"], &[]).unwrap_err().len(), 2);
        assert_eq!(MetricFilter::new(&[], &["a["]).unwrap_err().len(), 1);
    }
}
