//! `docs/CADVISOR.md`: every family of cAdvisor, and its counterpart in this exporter.
//!
//! The families of cAdvisor and the reasons of differences are in `tests/cadvisor/families.tsv`; this exporter's families
//! and their collectors are in the table of metrics. A difference without a reason is an error.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use docker_stats_exporter::metrics::{Collector, FAMILIES, Family, Kind, Source};

/// The version of cAdvisor that the list describes.
const VERSION: &str = "0.60.5";

const HEADER: &str = "family\ttype\tlabels\tgroup\tdefault\tdiffers\twithout";

/// A family of cAdvisor.
struct Theirs<'a> {
    name: &'a str,
    kind: &'a str,
    /// Labels beside those of every container.
    labels: BTreeSet<&'a str>,
    /// The word of `--enable_metrics`; `-` for a family that is always exposed.
    group: &'a str,
    /// Whether cAdvisor exposes the family by default.
    default: &'a str,
    /// How the family of this exporter differs, if it does.
    differs: &'a str,
    /// Why this exporter lacks the family, if it does.
    without: &'a str,
}

impl<'a> Theirs<'a> {
    fn parse(line: &'a str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, kind, labels, group, default, differs, without] = fields.as_slice() else {
            anyhow::bail!("{line:?} has not the columns {HEADER:?}");
        };
        let labels = labels.split(',').filter(|label| !label.is_empty()).collect();
        Ok(Self { name, kind, labels, group, default, differs, without })
    }

    /// Our rows of the same name.
    fn ours(&self) -> Vec<&'static Family> {
        FAMILIES.iter().copied().flatten().filter(|family| family.name == self.name).collect()
    }
}

/// Returns the page for a list of cAdvisor's families.
pub(super) fn page(list: &str) -> anyhow::Result<String> {
    let (header, lines) = list.split_once('\n').context("an empty list")?;
    ensure!(header == HEADER, "the columns are {header:?}, not {HEADER:?}");
    let (mut rows, mut counts) = (String::new(), [0; 3]);
    for line in lines.lines() {
        let theirs = Theirs::parse(line)?;
        let ours = theirs.ours();
        let (here, count, why) = match (ours.as_slice(), theirs.differs) {
            ([], _) => ("absent", 2, theirs.without),
            (_, "") => ("same", 0, ""),
            (_, differs) => ("corrected", 1, differs),
        };
        ensure!(count != 2 || !why.is_empty(), "{}: we do not have it, and no reason is given for that", theirs.name);
        ensure!(
            count != 0 || is_same(&theirs, &ours),
            "{}: type or labels differ, and no reason is given",
            theirs.name
        );
        if let Some(number) = counts.get_mut(count) {
            *number += 1;
        }
        let by = ours.iter().map(|family| collector(family.collector)).collect::<BTreeSet<_>>();
        let by = by.into_iter().collect::<Vec<_>>().join(", ");
        let Theirs { name, group, default, .. } = theirs;
        let group = if group == "-" { default.to_owned() } else { format!("`{group}`, {default}") };
        _ = writeln!(rows, "| `{name}` | {group} | {here} | {by} | {why} |");
    }
    let [same, corrected, absent] = counts;
    Ok(format!(
        "\
# cAdvisor's families, one by one

Generated from `tests/cadvisor/families.tsv` and the table in `exporter/src/metrics/` by `cargo xtask docs`; do not edit by hand.

Every family of cAdvisor {VERSION}: {same} are the same here, {corrected} are corrected, {absent} are absent. The second column is the group of
cAdvisor's `--enable_metrics` and whether it is on by default; the fourth our collector, and its flag where it is off by default.
`tests/tests/docker/cadvisor.rs` compares a scrape of running containers with one of cAdvisor (`tests/cadvisor/default.prom.gz`), name by name
and label by label. What is true of every family (no timestamps, an allow-list of labels, absent and not 0) stands in [MIGRATION.md](MIGRATION.md).

| family | in cAdvisor | here | collector | why |
|---|---|---|---|---|
{rows}"
    ))
}

fn collector(collector: Collector) -> String {
    if collector.default_on() { format!("`{collector}`") } else { format!("`--collector.{collector}`") }
}

fn is_same(theirs: &Theirs<'_>, ours: &[&Family]) -> bool {
    ours.iter().all(|family| {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        };
        kind == theirs.kind && labels(family) == theirs.labels
    })
}

/// The labels that a family has beside those of every container.
fn labels(family: &Family) -> BTreeSet<&'static str> {
    let of_series = |series: &'static docker_stats_exporter::metrics::Series| {
        let fixed = series.labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        let sources = [series.v2, series.v1, series.api];
        let pages = sources.iter().any(|source| matches!(source, Source::HugePages(..))).then_some("pagesize");
        let dimension =
            sources.iter().find_map(Source::dimension).map(docker_stats_exporter::metrics::Dimension::label);
        fixed.chain(pages).chain(dimension).collect::<Vec<_>>()
    };
    family.series.iter().flat_map(of_series).collect()
}

#[cfg(test)]
mod tests {
    use super::{HEADER, page};

    fn with(line: &str) -> anyhow::Result<String> {
        page(&format!("{HEADER}\n{line}\n"))
    }

    #[test]
    fn a_family_is_the_same_corrected_or_absent_by_what_the_table_has() {
        let same = with("container_memory_cache\tgauge\t\tmemory\ton\t\t").unwrap();
        assert!(same.contains("| `container_memory_cache` | `memory`, on | same | `memory` |  |"), "{same}");
        let corrected = with("container_memory_cache\tgauge\t\t-\ton\tmore so\told").unwrap();
        assert!(corrected.contains("| on | corrected | `memory` | more so |"), "{corrected}");
        let absent = with("container_no_such\tgauge\t\tmemory\toff\t\tnobody counts it").unwrap();
        assert!(absent.contains("| absent |  | nobody counts it |"), "{absent}");
    }

    #[test]
    fn a_difference_needs_a_reason() {
        for line in [
            "container_no_such\tgauge\t\tmemory\ton\twhy\t",
            "container_memory_cache\tcounter\t\tmemory\ton\t\t",
            "container_memory_cache\tgauge\tdevice\tmemory\ton\t\t",
            "container_memory_cache\tgauge",
        ] {
            let error = with(line).unwrap_err().to_string();
            assert!(error.contains(line.split('\t').next().unwrap()), "{error}");
        }
    }
}
