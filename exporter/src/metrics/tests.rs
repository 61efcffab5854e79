//! Properties of every row, so that a new row arrives tested.

use std::collections::{HashMap, HashSet};

use super::{Column, DOCKER_STATS_FAMILIES, FAMILIES, Family, HostFact, Kind, Source, Unit, help};

fn all() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().flatten()
}

#[test]
fn names_are_valid_and_snake_case() {
    for family in all() {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(family.name.chars().all(valid), "{}", family.name);
    }
}

#[test]
fn a_row_is_declared_once() {
    let mut seen = HashSet::new();
    for family in all() {
        for series in family.series {
            let dimension = series.v1.dimension();
            assert!(
                seen.insert((family.name, family.collector.name(), series.labels, dimension)),
                "{} twice",
                family.name
            );
        }
    }
}

#[test]
fn counters_end_in_total_but_for_cadvisors_own_exceptions() {
    const EXCEPTIONS: [&str; 2] = ["container_memory_failcnt", "container_hugetlb_failcnt"];
    for family in all().filter(|family| family.kind == Kind::Counter && !EXCEPTIONS.contains(&family.name)) {
        assert!(family.name.ends_with("_total"), "{}", family.name);
    }
}

#[test]
fn a_name_with_a_unit_has_that_unit() {
    for family in FAMILIES.iter().copied().flatten() {
        let stem = family.name.strip_suffix("_total").unwrap_or(family.name);
        for unit in [Unit::Bytes, Unit::Seconds] {
            let suffix = unit.suffix().unwrap();
            if stem.ends_with(&format!("_{suffix}")) {
                assert_eq!(family.unit, unit, "{}", family.name);
            }
        }
    }
}

#[test]
fn helps_are_sentences() {
    for family in all() {
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}: {}", family.name, family.help);
    }
}

#[test]
fn families_of_one_name_are_described_alike() {
    let mut described = HashMap::new();
    for family in all() {
        let description = (family.help, family.kind, family.unit);
        assert_eq!(*described.entry(family.name).or_insert(description), description, "{}", family.name);
    }
}

#[test]
fn a_help_names_the_source_of_every_series_of_its_name() {
    let of = |name: &str| -> String {
        let families: Vec<_> = all().filter(|family| family.name == name).collect();
        let sources = families.iter().flat_map(|family| family.series).map(|series| {
            let is_of_host = series.v1 == Source::Absent;
            (series, (!is_of_host).then_some(Column::V1))
        });
        help(families.first().unwrap(), sources)
    };
    let ends = |name: &str, end: &str| assert!(of(name).ends_with(end), "{}", of(name));
    ends("container_fs_read_seconds_total", "Source: eBPF: block_rq_complete; of the host: /proc/diskstats.");
    ends(
        "container_cpu_usage_seconds_total",
        "Source: cpuacct.usage_percpu; cpuacct.usage; of the host: root cgroup, else /proc/stat.",
    );
    ends("container_memory_failcnt", "Source: memory.failcnt.");
    ends("container_fs_io_current", "Source: of the host: /proc/diskstats.");
    ends("container_spec_memory_limit_bytes", "; of the host: /proc/meminfo MemTotal.");
}

#[test]
fn every_row_has_a_source_somewhere() {
    for family in all() {
        for series in family.series {
            let absent = [series.v2, series.v1, series.api].iter().all(|source| *source == Source::Absent);
            assert!(
                !absent || series.host != HostFact::None || family.name.starts_with("docker_stats_blkio_throttle"),
                "{}",
                family.name
            );
        }
    }
}

#[test]
fn the_document_names_every_family() {
    let document = super::markdown();
    for family in all() {
        assert!(document.contains(&format!("| `{}` |", family.name)), "{}", family.name);
    }
}
