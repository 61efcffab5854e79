//! Every file of a container's cgroup, missing, empty or malformed, on copies of all captured hosts: values go, and none comes or
//! becomes another one. What is not known is absent, never 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, Exposition};

/// Of several files the first that tells it: per CPU, else in all.
const OF_SEVERAL: [&str; 1] = ["container_cpu_usage_seconds_total"];

/// What a file holds in place of its content; none where it is not there.
const SPOILT: [Option<&[u8]>; 3] =
    [None, Some(b""), Some(b"-1\n\xff nonsense\nusage_usec -5\nsome total=\n8:0\nanon=0 N0=\n")];

/// Series of containers with their values.
fn series(exposition: &Exposition) -> BTreeMap<String, String> {
    let containers = exposition.samples().filter(|sample| sample.name.starts_with("container_"));
    containers
        .filter(|sample| !matches!(sample.name.as_str(), "container_last_seen" | "container_scrape_error"))
        .map(|sample| (format!("{}{:?}", sample.name, sample.labels), sample.text.clone()))
        .collect()
}

/// The files of one container's cgroup in all trees, those of a kind once.
fn files_of_a_container(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut directories) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if is_container(&directory) {
                files.insert(path.file_name().unwrap().to_owned(), path);
            }
        }
    }
    files.into_values().collect()
}

fn is_container(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.split(['-', '.']).any(|part| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn a_file_that_tells_nothing_makes_no_value() {
    let mut lost = BTreeSet::new();
    for fixture in Fixture::all().unwrap() {
        let (fixture, _directory) = fixture.copy().unwrap();
        let exporter = Exporter::builder()
            .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
            .flag(format!("--path.procfs={}", fixture.proc().display()));
        let collectors = ["memory_detail", "hugetlb", "numa", "percpu", "process", "tcp"];
        let exporter = collectors.iter().fold(exporter, |all, name| all.flag(format!("--collector.{name}")));
        let exporter = exporter.start().unwrap();
        let sound = series(&exporter.scrape().unwrap());
        for path in files_of_a_container(&fixture.cgroup()) {
            let content = fs::read(&path).unwrap();
            for spoilt in SPOILT {
                match spoilt {
                    Some(text) => fs::write(&path, text).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                let seen =
                    series(&exporter.scrape_unjudged("/metrics", exporter_tests::exposition::Format::Text).unwrap());
                for (series, value) in &seen {
                    let name = series.split('{').next().unwrap_or_default();
                    let is_known = sound.get(series) == Some(value) || OF_SEVERAL.contains(&name);
                    let spoilt = spoilt.map(String::from_utf8_lossy);
                    assert!(
                        is_known,
                        "{}: {} is {spoilt:?}: {series} {value}, before {:?}",
                        fixture.name,
                        path.display(),
                        sound.get(series)
                    );
                }
                let gone = sound.keys().filter(|series| !seen.contains_key(*series));
                lost.extend(gone.map(|series| series.split('{').next().unwrap_or_default().to_owned()));
            }
            fs::write(&path, content).unwrap();
        }
        let healed = series(&exporter.scrape().unwrap());
        assert_eq!(healed, sound, "{}", fixture.name);
        exporter.stop().unwrap();
    }
    assert!(lost.len() > 60, "only {} families were lost by any file: {lost:#?}", lost.len());
}
