//! Files that cannot be read or understood, in copies of a captured host: the value is left out and counted, and every
//! other series stays exactly as it was. (Modes do not stop root, so an unreadable file is a directory in its place.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, Exposition};

const ERRORS: &str = "docker_stats_exporter_read_errors_total";

fn start(fixture: &Fixture) -> Exporter {
    Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .start()
        .unwrap()
}

fn scrape(fixture: &Fixture) -> Exposition {
    let exporter = start(fixture);
    let exposition = exporter.scrape().unwrap();
    exporter.stop().unwrap();
    exposition
}

/// The captured host as it is, read once for all tests.
fn sound() -> &'static BTreeSet<String> {
    static SOUND: OnceLock<BTreeSet<String>> = OnceLock::new();
    SOUND.get_or_init(|| series(&scrape(&Fixture::open("debian12-v1-hybrid").unwrap())))
}

/// Series of containers with their values. When something was last seen is not part of it.
fn series(exposition: &Exposition) -> BTreeSet<String> {
    let containers = exposition.samples().filter(|sample| sample.name.starts_with("container_"));
    containers
        .filter(|sample| !matches!(sample.name.as_str(), "container_last_seen" | "container_scrape_error"))
        .map(|sample| format!("{}{:?} {}", sample.name, sample.labels, sample.text))
        .collect()
}

/// What one spoilt file did.
struct Spoilt {
    lost: Vec<String>,
    come: Vec<String>,
    errors: f64,
    exposition: Exposition,
}

/// A copy of the host in which one file of one container is spoilt, seen by an exporter that starts after that.
fn spoil(file: &str, how: impl FnOnce(&Path)) -> Spoilt {
    let (fixture, _directory) = Fixture::open("debian12-v1-hybrid").unwrap().copy().unwrap();
    how(&of_a_container(&fixture, file));
    Spoilt::new(file, scrape(&fixture))
}

fn of_a_container(fixture: &Fixture, file: &str) -> PathBuf {
    fixture.cgroup_files(file).unwrap().into_iter().find(|path| is_container(path)).unwrap()
}

fn is_container(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name.len() == 64)
}

fn write(content: &'static [u8]) -> impl FnOnce(&Path) {
    move |path| fs::write(path, content).unwrap()
}

fn replace_by_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

impl Spoilt {
    fn new(file: &str, exposition: Exposition) -> Self {
        let after = series(&exposition);
        let errors = exposition.select(ERRORS, &[("file", file)]).iter().map(|sample| sample.value).sum();
        let lost = sound().difference(&after).cloned().collect();
        let come = after.difference(sound()).cloned().collect();
        Self { lost, come, errors, exposition }
    }

    /// Only families that begin so were lost, nothing came, and it was counted.
    fn lost_only(self, families: &[&str]) -> Self {
        let stray: Vec<&String> =
            self.lost.iter().filter(|line| !families.iter().any(|family| line.starts_with(family))).collect();
        assert!(stray.is_empty() && self.come.is_empty(), "also lost: {stray:#?}, changed: {:#?}", self.come);
        assert!(!self.lost.is_empty(), "nothing was lost");
        assert!(self.errors >= 1.0, "not counted: {:?}", self.exposition.select(ERRORS, &[]));
        self
    }
}

#[test]
fn malformed_numbers_are_left_out_and_counted() {
    const FILE: &str = "memory.usage_in_bytes";
    let (fixture, _directory) = Fixture::open("debian12-v1-hybrid").unwrap().copy().unwrap();
    let path = of_a_container(&fixture, FILE);
    let content = fs::read(&path).unwrap();
    // The file is spoilt under a running exporter, which keeps it open.
    let exporter = start(&fixture);
    let mut counted = 0.0;
    for content in [
        &b"lots\n"[..],
        b"-5\n",
        b"1.5\n",
        b"0x10\n",
        b"\n",
        b"",
        b"12 34\n",
        b"\xff\xfe\n",
        b"99999999999999999999999999\n",
        b"18446744073709551616\n",
    ] {
        fs::write(&path, content).unwrap();
        let spoilt = Spoilt::new(FILE, exporter.scrape().unwrap());
        let spoilt = spoilt.lost_only(&["container_memory_usage_bytes", "container_memory_working_set_bytes"]);
        assert_eq!(spoilt.lost.len(), 2, "{content:?}: {:#?}", spoilt.lost);
        let errors = spoilt.exposition.value(ERRORS, &[("file", FILE), ("reason", "malformed")]).unwrap();
        assert!(errors > counted, "{content:?} was not counted");
        counted = errors;
    }
    fs::write(&path, content).unwrap();
    let healed = Spoilt::new(FILE, exporter.scrape().unwrap());
    assert_eq!((&healed.lost, &healed.come), (&Vec::new(), &Vec::new()));
    exporter.stop().unwrap();
}

#[test]
fn the_greatest_number_is_exact() {
    let spoilt = spoil("memory.usage_in_bytes", write(b"18446744073709551615\n"));
    assert!(spoilt.errors < 1.0);
    let usage = spoilt.come.iter().find(|line| line.starts_with("container_memory_usage_bytes")).unwrap();
    assert!(usage.ends_with(" 18446744073709551615"), "{usage}");
}

#[test]
fn a_file_that_cannot_be_read_takes_only_its_own_values_away() {
    spoil("cpuacct.usage", replace_by_directory).lost_only(&["container_cpu_usage_seconds_total"]);
    spoil("pids.current", replace_by_directory).lost_only(&["container_threads"]);
    let spoilt = spoil("memory.stat", replace_by_directory).lost_only(&["container_memory_"]);
    let usage = |line: &&String| line.starts_with("container_memory_usage_bytes");
    assert_eq!(spoilt.lost.iter().find(usage), None);
    let collector = [("collector", "memory")];
    let success = "docker_stats_exporter_scrape_collector_success";
    assert!(spoilt.exposition.value(success, &collector).unwrap() < 1.0);
}

#[test]
fn one_bad_line_does_not_hide_the_others() {
    let bad_key = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| if line.starts_with("total_rss ") { "total_rss many" } else { line });
        fs::write(path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    };
    let spoilt = spoil("memory.stat", bad_key).lost_only(&["container_memory_rss"]);
    assert_eq!(spoilt.lost.len(), 1);
}

#[test]
fn garbage_before_and_after_good_lines_is_passed_over() {
    let garbage = |path: &Path| {
        let mut text = b"\xff\xfe\xfd\n\0\0\0 7\ntotal_rss\n\n ".to_vec();
        text.extend(fs::read(path).unwrap());
        text.extend(b"total_unheard_of 5\ntail without end");
        fs::write(path, text).unwrap();
    };
    let spoilt = spoil("memory.stat", garbage);
    assert_eq!((&spoilt.lost, &spoilt.come), (&Vec::new(), &Vec::new()));
}

#[test]
fn truncated_device_lines_lose_the_device_s_value_only() {
    let (fixture, _directory) = Fixture::open("debian12-v1-hybrid").unwrap().copy().unwrap();
    let writers: Vec<PathBuf> = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]
        .iter()
        .flat_map(|name| fixture.cgroup_files(name).unwrap())
        .filter(|path| fs::read_to_string(path).unwrap().contains("Write"))
        .collect();
    assert!(!writers.is_empty(), "the capture has a container with block I/O");
    for path in &writers {
        fs::write(path, "254:0 Read 4096\n254:0 Wri\n254 Sync 5\n8:0 Write x\n4294967296:0 Write 1\nTotal").unwrap();
    }
    let exposition = scrape(&fixture);
    let reads = "container_fs_reads_bytes_total";
    assert!(exposition.samples().any(|sample| sample.name == reads && sample.text == "4096"));
    let lost: Vec<String> = sound().difference(&series(&exposition)).cloned().collect();
    let expected = ["container_fs_writes_bytes_total", reads];
    assert!(lost.iter().all(|line| expected.iter().any(|family| line.starts_with(family))), "{lost:#?}");
    let errors: f64 = exposition.select(ERRORS, &[("reason", "malformed")]).iter().map(|sample| sample.value).sum();
    assert!(errors >= 1.0);
}

#[test]
fn a_pid_that_now_belongs_to_somebody_else_gives_no_network() {
    let (fixture, _directory) = Fixture::open("debian12-v1-hybrid").unwrap().copy().unwrap();
    let with_network = |exposition: &Exposition| -> BTreeSet<String> {
        let samples = exposition.select("container_network_receive_bytes_total", &[]);
        samples.iter().map(|sample| sample.label("id").to_owned()).filter(|id| id.len() > 60).collect()
    };
    let before = with_network(&scrape(&fixture));
    let victim = before.first().unwrap().clone();
    for entry in fs::read_dir(fixture.proc()).unwrap() {
        let cgroup = entry.unwrap().path().join("cgroup");
        if fs::read_to_string(&cgroup).is_ok_and(|text| text.contains(&victim)) {
            fs::write(&cgroup, "9:memory:/system.slice/sshd.service\n0::/system.slice/sshd.service\n").unwrap();
        }
    }
    let after = with_network(&scrape(&fixture));
    assert!(!after.contains(&victim), "values of a process that is not the container's");
    assert_eq!(after.len() + 1, before.len());
}

#[test]
fn a_broken_host_file_takes_only_the_host_s_values_away() {
    let (fixture, _directory) = Fixture::open("debian12-v1-hybrid").unwrap().copy().unwrap();
    for file in ["meminfo", "stat", "diskstats", "cpuinfo", "pressure/cpu", "1/net/dev"] {
        fs::write(fixture.proc().join(file), b"\xff\xff nonsense\n: : :\n").unwrap();
    }
    let exposition = scrape(&fixture);
    let lost: Vec<String> = sound().difference(&series(&exposition)).cloned().collect();
    // Without diskstats a device is known by its number.
    let expected = |line: &String| line.contains("\"id\": \"/\"") || line.starts_with("container_fs_");
    assert!(lost.iter().all(expected), "{lost:#?}");
    assert!(exposition.has("container_fs_writes_bytes_total", &[("device", "254:0")]));
}
