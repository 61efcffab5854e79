//! Which families of the table must be in a host's golden files, and which cannot be, with the reason.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use docker_stats_exporter::metrics::{DOCKER_STATS_FAMILIES, FAMILIES, Family, Source};
use exporter_tests::Exposition;
use exporter_tests::exposition::Format;
use exporter_tests::fixture::Fixture;

/// Families, or beginnings of names, that no captured host shows.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("container_hugetlb_", "no captured host has the hugetlb controller"),
    ("container_cpu_cfs_burst_", "no captured container has bursted"),
    ("docker_stats_blkio_bfq_io_", "no captured device has the BFQ scheduler, under which these files name operations"),
    ("container_fs_discards_", "no captured container has discarded blocks"),
    ("container_fs_usage_bytes", "asked from the engine at most every five minutes (collector disk)"),
    ("container_fs_limit_bytes", "a fact of the machine that the tests run on (collector disk)"),
    ("container_fs_inodes_", "a fact of the machine that the tests run on (collector disk)"),
    ("container_file_descriptors", "/proc/PID/fd is not captured: it names files of the container"),
    ("container_sockets", "/proc/PID/fd is not captured: it names files of the container"),
    ("container_ulimits_soft", "collector process; its directory walk cannot be captured"),
];

/// The names that are excused.
pub(crate) fn exceptions() -> impl Iterator<Item = &'static str> {
    EXCEPTIONS.iter().map(|(name, _)| *name)
}

/// Families with a source on this host that are in none of its golden files.
pub(crate) fn missing(fixture: &Fixture, variants: &[&str]) -> Result<Vec<&'static str>> {
    let mut covered = BTreeSet::new();
    for variant in variants {
        covered.extend(families(fixture, variant)?);
    }
    let v2 = fixture.cgroup().join("cgroup.controllers").is_file();
    let tables = FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().flatten();
    let wanted = tables.filter(|family| has_source(family, v2)).map(|family| family.name);
    let excused = |name: &str| exceptions().any(|exception| name.starts_with(exception));
    Ok(wanted.filter(|name| !covered.contains(*name) && !excused(name)).collect())
}

/// Families that have samples in one golden file, by their name in text 0.0.4.
pub(crate) fn families(fixture: &Fixture, variant: &str) -> Result<BTreeSet<String>> {
    if variant == ".openmetrics" {
        return Ok(BTreeSet::new()); // The same as the default, under other family names.
    }
    let path = fixture.golden(variant);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: cargo xtask bless", path.display()))?;
    let exposition = Exposition::parse(&text, Format::Text)?;
    let shown = exposition.families.into_iter().filter(|family| !family.samples.is_empty());
    Ok(shown.map(|family| family.name).collect())
}

/// Whether a capture can have it: what a program in the kernel has counted is in no file.
fn has_source(family: &Family, v2: bool) -> bool {
    let sources = family.series.iter().map(|series| if v2 { series.v2 } else { series.v1 });
    sources.into_iter().any(|source| !matches!(source, Source::Absent | Source::Probe(_)))
}
