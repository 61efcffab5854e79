//! Which families of the table must be in a host's golden files, and which cannot be, with the reason.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use docker_stats_exporter::metrics::{DOCKER_STATS_FAMILIES, FAMILIES, Family, Source};
use exporter_tests::Exposition;
use exporter_tests::exposition::Format;
use exporter_tests::fixture::Fixture;

/// Which hosts an exception is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    V1,
    V2,
    Both,
}

/// Families, or beginnings of names, that no captured host of this kind shows.
const EXCEPTIONS: &[(&str, On, &str)] = &[
    ("container_hugetlb_", On::V1, "no captured v1 host has the hugetlb controller"),
    ("container_cpu_cfs_burst_", On::V1, "no captured container has bursted"),
    ("container_fs_usage_bytes", On::Both, "what layers hold is not captured (collector disk)"),
    ("container_fs_limit_bytes", On::Both, "a fact of the machine that the tests run on (collector disk)"),
    ("container_fs_inodes_", On::Both, "a fact of the machine that the tests run on (collector disk)"),
    ("container_file_descriptors", On::Both, "/proc/PID/fd is not captured: it names files of the container"),
    ("container_sockets", On::Both, "/proc/PID/fd is not captured: it names files of the container"),
    ("container_ulimits_soft", On::Both, "collector process; its directory walk cannot be captured"),
];

/// What hosts of this cgroup version are excused from showing.
fn excused(name: &str, v2: bool) -> bool {
    let here = if v2 { On::V2 } else { On::V1 };
    EXCEPTIONS.iter().any(|(beginning, on, _)| (*on == here || *on == On::Both) && name.starts_with(beginning))
}

/// Families that hosts of this cgroup version are excused from showing, and that one of them shows.
pub(crate) fn stale(shown: &BTreeSet<String>, v2: bool) -> Vec<&str> {
    shown.iter().map(String::as_str).filter(|name| excused(name, v2)).collect()
}

/// Whether a captured host has cgroup v2 alone.
pub(crate) fn is_v2(fixture: &Fixture) -> bool {
    fixture.cgroup().join("cgroup.controllers").is_file()
}

/// Families that the table gives a source on hosts of this cgroup version, and that none of them shows.
pub(crate) fn missing(shown: &BTreeSet<String>, v2: bool) -> Vec<&'static str> {
    let tables = FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().flatten();
    let wanted = tables.filter(|family| has_source(family, v2)).map(|family| family.name);
    wanted.filter(|name| !shown.contains(*name) && !excused(name, v2)).collect()
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
