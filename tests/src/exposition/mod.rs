//! An exposition, parsed strictly, and the questions that tests ask of it.
//!
//! The parser is in `parse`. It is stricter than Prometheus: a family that comes twice, a timestamp, a series that
//! comes twice or a sample outside its family is an error, because none of them may ever leave the exporter.

mod parse;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Families that a container has some scrapes after its others: the size of its layer is there once it was walked.
const LATE: &[&str] = &["container_fs_usage_bytes"];

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name as written, with `_total`, `_bucket` and the like.
    pub name: String,
    /// Labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// The value exactly as written.
    pub text: String,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty where it is absent, which is the same thing in Prometheus.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == *value)
    }
}

/// A family with its samples.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Name in the `# TYPE` line.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `unknown`, `untyped`, `info`, `stateset`, `summary`.
    pub kind: String,
    /// Help, unescaped.
    pub help: String,
    /// Unit, in OpenMetrics.
    pub unit: Option<String>,
    /// Samples in order.
    pub samples: Vec<Sample>,
}

/// A parsed exposition.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// As it came.
    pub text: String,
    /// In order.
    pub families: Vec<Family>,
}

impl Exposition {
    /// Parses a whole exposition.
    ///
    /// # Errors
    /// The first line that breaks a rule, with its number and the rule.
    pub fn parse(text: &str, format: Format) -> Result<Self> {
        Ok(Self { text: text.to_owned(), families: parse::families(text, format)? })
    }

    /// The family of this name.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// Every sample.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.iter().flat_map(|family| &family.samples)
    }

    /// Samples of this name with at least these labels.
    #[must_use]
    pub fn select(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        self.samples().filter(|sample| sample.name == name && sample.has(labels)).collect()
    }

    /// The one sample of this name with at least these labels.
    ///
    /// # Errors
    /// None, or more than one; the message lists what there is of that name.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Result<&Sample> {
        match self.select(name, labels).as_slice() {
            [sample] => Ok(sample),
            [] => bail!("no sample {name}{labels:?}; of that name there are: {}", self.listing(name)),
            more => bail!("{} samples {name}{labels:?} where one was expected: {more:?}", more.len()),
        }
    }

    /// The value of [`Exposition::one`].
    ///
    /// # Errors
    /// As [`Exposition::one`].
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.one(name, labels)?.value)
    }

    /// The value of [`Exposition::one`] as the integer that it must be.
    ///
    /// # Errors
    /// As [`Exposition::one`], and where the text is no plain integer.
    pub fn integer(&self, name: &str, labels: &[(&str, &str)]) -> Result<i128> {
        let sample = self.one(name, labels)?;
        sample.text.parse().with_context(|| format!("{name} is {:?}, not an integer", sample.text))
    }

    /// Whether any sample has this name and these labels.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples().any(|sample| sample.name == name && sample.has(labels))
    }

    /// Names of all samples with these labels.
    #[must_use]
    pub fn names_with(&self, labels: &[(&str, &str)]) -> BTreeSet<&str> {
        self.samples().filter(|sample| sample.has(labels)).map(|sample| sample.name.as_str()).collect()
    }

    /// The same without those that come some scrapes after the others: what two expositions can be compared by.
    #[must_use]
    pub fn prompt_names_with(&self, labels: &[(&str, &str)]) -> BTreeSet<&str> {
        let mut names = self.names_with(labels);
        names.retain(|name| !LATE.contains(name));
        names
    }

    /// Samples of one container whose id is this.
    pub fn container<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples().filter(move |sample| sample.label("id").contains(id))
    }

    fn listing(&self, name: &str) -> String {
        let mut lines: Vec<String> =
            self.select(name, &[]).iter().map(|sample| format!("{:?}", sample.labels)).collect();
        let more = lines.len().saturating_sub(20);
        lines.truncate(20);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        if lines.is_empty() { "none at all".to_owned() } else { lines.join("; ") }
    }
}
