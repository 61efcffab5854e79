//! The reader over small trees of plain files: exact values, absent values and counted errors.

mod blkio;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::discover::{Discovery, Hierarchy, IdFilter, NoEngine};
use crate::metrics::{Collector, CollectorSet, Dimension, FAMILIES, FamilySet, Limit, SelfMetrics};
use crate::name::Names;
use crate::read::plan::Value;
use crate::read::{Pass, Reader, Row, Sample, for_cgroups};

const A: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";
const B: &str = "2f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

/// A made-up v2 host.
struct Host {
    root: tempfile::TempDir,
    self_metrics: SelfMetrics,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), self_metrics: SelfMetrics::new().unwrap() };
        host.write("cgroup/cgroup.controllers", "cpu io memory pids\n");
        host.write("proc/diskstats", "   8       0 sda 1 0 0 0 0 0 0 0 0 0 0\n");
        host.process(1, "/init.scope", 1, "eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0");
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn file(&self, id: &str, name: &str, text: &str) {
        self.write(&format!("cgroup/system.slice/docker-{id}.scope/{name}"), text);
    }

    fn process(&self, pid: u32, cgroup: &str, namespace: u32, interface: &str) {
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        self.write(&format!("proc/{pid}/net/dev"), &format!("header\nheader\n{interface}\n"));
        let links = self.root.path().join(format!("proc/{pid}/ns"));
        fs::create_dir_all(&links).unwrap();
        symlink(format!("net:[{namespace}]"), links.join("net")).unwrap();
    }

    fn container(&self, id: &str, pid: u32, namespace: u32) {
        self.file(id, "cgroup.procs", &format!("{pid}\n"));
        let bytes = pid * 100;
        self.process(
            pid,
            &format!("/system.slice/docker-{id}.scope"),
            namespace,
            &format!("  lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\neth0: {bytes} 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0"),
        );
    }

    fn reader(&self) -> (Reader, Discovery, Vec<Row>) {
        self.reader_of(false)
    }

    /// Returns a reader. A `live` one treats the files as the kernel's: it keeps them open, and reads limits rarely.
    fn reader_of(&self, live: bool) -> (Reader, Discovery, Vec<Row>) {
        let hierarchy = Hierarchy::detect(&self.root.path().join("cgroup")).unwrap();
        let trees = hierarchy.searched().to_vec();
        let (plan, rows) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, CollectorSet::defaults()));
        let reader =
            Reader::new(plan, hierarchy, &self.root.path().join("proc"), live, self.self_metrics.clone(), None);
        (reader, Discovery::new(&trees, &self.root.path().join("proc"), live, true), rows)
    }

    fn errors(&self, file: &str, reason: &str) -> u64 {
        self.self_metrics.read_errors.with_label_values(&[file, reason]).get()
    }
}

fn pass(reader: &mut Reader, discovery: &mut Discovery, collectors: CollectorSet) {
    pass_at(reader, discovery, collectors, Instant::now());
}

fn pass_at(reader: &mut Reader, discovery: &mut Discovery, collectors: CollectorSet, now: Instant) {
    reader.apply(discovery.refresh(now, &NoEngine));
    let names = Names::default();
    reader.read(Pass::of_all(collectors, &names), now);
}

fn sample_of<'r>(reader: &'r Reader, id: &str) -> &'r Sample {
    &reader.containers().iter().find(|container| container.path.contains(id)).unwrap().sample
}

fn value(rows: &[Row], sample: &Sample, name: &str) -> Option<u64> {
    let row = rows.iter().find(|row| row.family.name == name).unwrap();
    match row.value {
        Value::Slot(slot) => sample.get(slot),
        Value::Column(dimension, column) => sample.table(dimension).column(column).next().map(|(_, value)| value),
        _ => panic!("{name} is neither slot nor column"),
    }
}

#[test]
fn values_are_exact_and_what_is_not_there_is_absent() {
    let host = Host::new();
    host.file(A, "cpu.stat", "usage_usec 12345678901234567\nuser_usec 5\nnr_periods 7\n");
    host.file(A, "memory.current", "4096\n");
    host.file(A, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n9:9 rbytes=5\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let sample = sample_of(&reader, A);
    assert_eq!(value(&rows, sample, "container_cpu_usage_seconds_total"), Some(12_345_678_901_234_567));
    assert_eq!(value(&rows, sample, "container_cpu_system_seconds_total"), None);
    assert_eq!(value(&rows, sample, "container_memory_max_usage_bytes"), None);
    assert_eq!(value(&rows, sample, "container_fs_writes_bytes_total"), Some(2));
    let devices: Vec<&str> = sample
        .table(Dimension::Device)
        .column(0)
        .map(|(key, _)| reader.labels().of(Dimension::Device).text(key))
        .collect();
    assert_eq!(devices, ["device=\"/dev/sda\"", "device=\"9:9\""]);
}

#[test]
fn a_container_gets_what_the_trees_have_that_it_is_in() {
    let host = Host { root: tempfile::tempdir().unwrap(), self_metrics: SelfMetrics::new().unwrap() };
    host.write("cgroup/unified/cgroup.controllers", "memory\n");
    host.write("cgroup/unified/system.slice/memory.current", "1\n");
    host.write(&format!("cgroup/cpu,cpuacct/docker/{A}/cpuacct.usage"), "7000000000\n");
    host.write(&format!("cgroup/cpu,cpuacct/docker/{A}/cgroup.procs"), "5\n6\n");
    host.write(&format!("cgroup/pids/docker/{A}/pids.current"), "3\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let sample = sample_of(&reader, A);
    assert_eq!(value(&rows, sample, "container_cpu_usage_seconds_total"), Some(7_000_000_000));
    assert_eq!(value(&rows, sample, "container_threads"), Some(3));
    assert_eq!(value(&rows, sample, "container_processes"), Some(2));
    assert_eq!(value(&rows, sample, "container_memory_usage_bytes"), None);
}

#[test]
fn a_container_that_is_seen_while_its_cgroups_are_made_has_all_values_in_the_next_pass() {
    let host = Host { root: tempfile::tempdir().unwrap(), self_metrics: SelfMetrics::new().unwrap() };
    fs::create_dir_all(host.root.path().join("cgroup/cpuacct")).unwrap();
    host.write("cgroup/cpuacct/tasks", "");
    host.write(&format!("cgroup/memory/docker/{A}/memory.usage_in_bytes"), "4096\n");
    let (mut reader, mut discovery, rows) = host.reader_of(true);
    let now = Instant::now();
    pass_at(&mut reader, &mut discovery, CollectorSet::defaults(), now);
    assert_eq!(value(&rows, sample_of(&reader, A), "container_memory_usage_bytes"), Some(4096));
    host.write(&format!("cgroup/cpuacct/docker/{A}/cpuacct.usage"), "7000000000\n");
    pass_at(&mut reader, &mut discovery, CollectorSet::defaults(), now + Duration::from_secs(1));
    assert_eq!(value(&rows, sample_of(&reader, A), "container_cpu_usage_seconds_total"), Some(7_000_000_000));
}

#[test]
fn a_malformed_value_is_left_out_and_counted_and_hides_no_other() {
    let host = Host::new();
    host.file(A, "cpu.stat", "usage_usec banana\nuser_usec 5\n");
    host.file(A, "memory.current", "12 34\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let sample = sample_of(&reader, A);
    assert_eq!(value(&rows, sample, "container_cpu_usage_seconds_total"), None);
    assert_eq!(value(&rows, sample, "container_cpu_user_seconds_total"), Some(5));
    assert_eq!((host.errors("cpu.stat", "malformed"), host.errors("memory.current", "malformed")), (1, 1));
}

#[test]
fn a_file_that_vanishes_takes_only_its_own_values_along() {
    let host = Host::new();
    host.file(A, "cpu.stat", "usage_usec 1\n");
    host.file(A, "memory.current", "4096\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    fs::remove_file(host.root.path().join(format!("cgroup/system.slice/docker-{A}.scope/cpu.stat"))).unwrap();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let sample = sample_of(&reader, A);
    assert_eq!(value(&rows, sample, "container_cpu_usage_seconds_total"), None);
    assert_eq!(value(&rows, sample, "container_memory_usage_bytes"), Some(4096));
    assert_eq!(host.errors("cpu.stat", "vanished"), 1);
}

#[test]
fn a_controller_that_is_taken_away_takes_only_its_own_values_along() {
    let host = Host::new();
    host.file(A, "cpu.stat", "usage_usec 1\n");
    // A kernel file that can disappear while it is open.
    let mut process = std::process::Command::new("sleep").arg("1d").spawn().unwrap();
    let memory = host.root.path().join(format!("cgroup/system.slice/docker-{A}.scope/memory.current"));
    symlink(format!("/proc/{}/oom_score_adj", process.id()), &memory).unwrap();
    let (mut reader, mut discovery, rows) = host.reader_of(true);
    let mut values = || {
        pass(&mut reader, &mut discovery, CollectorSet::defaults());
        reader.drop_ended();
        let sample = sample_of(&reader, A);
        let value = |name| value(&rows, sample, name);
        (value("container_cpu_usage_seconds_total"), value("container_memory_usage_bytes"))
    };
    assert!(values().1.is_some());
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(values(), (Some(1), None));
    fs::remove_file(&memory).unwrap();
    host.file(A, "memory.current", "7\n");
    assert_eq!(values(), (Some(1), Some(7)));
    assert_eq!(host.errors("memory.current", "vanished"), 1);
}

#[test]
fn only_the_collectors_that_were_asked_for_are_read() {
    let host = Host::new();
    host.file(A, "cpu.stat", "usage_usec 1\n");
    host.file(A, "memory.current", "4096\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::EMPTY.with(Collector::Memory));
    let sample = sample_of(&reader, A);
    assert_eq!(value(&rows, sample, "container_cpu_usage_seconds_total"), None);
    assert_eq!(value(&rows, sample, "container_memory_usage_bytes"), Some(4096));
}

#[test]
fn a_deadline_that_has_passed_leaves_nothing_of_an_earlier_scrape() {
    let host = Host::new();
    host.file(A, "memory.current", "4096\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let names = Names::default();
    let collectors = CollectorSet::defaults();
    let timing =
        reader.read(Pass { deadline: Some(Instant::now()), ..Pass::of_all(collectors, &names) }, Instant::now());
    assert_eq!(value(&rows, sample_of(&reader, A), "container_memory_usage_bytes"), None);
    assert!(!timing.success(Collector::Memory));
}

#[test]
fn a_shared_network_namespace_is_reported_once_under_its_owner() {
    let host = Host::new();
    host.container(A, 30, 7); // joined later: its process is the younger one
    host.container(B, 20, 7);
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let name = "container_network_receive_bytes_total";
    assert_eq!(value(&rows, sample_of(&reader, A), name), None);
    assert_eq!(value(&rows, sample_of(&reader, B), name), Some(2000));
}

#[test]
fn a_process_that_enters_another_container_s_network_namespace_does_not_take_its_interfaces() {
    let host = Host::new();
    host.container(A, 20, 7);
    host.container(B, 30, 8);
    let (mut reader, mut discovery, rows) = host.reader();
    let name = "container_network_receive_bytes_total";
    let mut both = || {
        pass(&mut reader, &mut discovery, CollectorSet::defaults());
        [A, B].map(|id| value(&rows, sample_of(&reader, id), name))
    };
    assert_eq!(both(), [Some(2000), Some(3000)]);
    let enter = |pid: u32, namespace: u32| {
        let link = host.root.path().join(format!("proc/{pid}/ns/net"));
        fs::remove_file(&link).unwrap();
        symlink(format!("net:[{namespace}]"), link).unwrap();
    };
    // The older process, which is also the first of the pass, enters the namespace of the other.
    enter(20, 8);
    assert_eq!((both(), both()), ([None, Some(3000)], [None, Some(3000)]));
    enter(20, 1);
    assert_eq!(both(), [None, Some(3000)]);
    enter(20, 7);
    assert_eq!(both(), [Some(2000), Some(3000)]);
}

#[test]
fn a_container_within_a_container_reports_its_own_network() {
    let host = Host::new();
    host.file(A, "cgroup.procs", "");
    host.file(A, &format!("docker/{B}/cgroup.procs"), "40\n");
    let line = "eth0: 4000 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0";
    host.process(40, &format!("/system.slice/docker-{A}.scope/docker/{B}"), 7, line);
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let name = "container_network_receive_bytes_total";
    let received: Vec<Option<u64>> =
        reader.containers().iter().map(|container| value(&rows, &container.sample, name)).collect();
    assert_eq!(received.first(), Some(&None));
    // This test does not check whether the inner one is found.
    assert!(received.iter().skip(1).all(|value| *value == Some(4000)), "{received:?}");
}

#[test]
fn a_host_network_container_gets_no_interfaces_and_the_host_does() {
    let host = Host::new();
    host.container(A, 30, 1);
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    let name = "container_network_receive_bytes_total";
    assert_eq!(value(&rows, sample_of(&reader, A), name), None);
    assert_eq!(value(&rows, &reader.host().sample, name), Some(1));
}

#[test]
fn the_host_s_interfaces_are_read_though_thousands_of_others_come_after_them() {
    let host = Host::new();
    host.container(A, 41, 3);
    let line = |name: &str, bytes: u64| format!("{name}: {bytes} 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
    let veths: String = (0..2000).map(|number| line(&format!("veth{number:05}"), 7)).collect();
    let net_dev =
        |first: &str, last: &str| host.write("proc/1/net/dev", &format!("header\nheader\n{first}{veths}{last}"));
    let (mut reader, mut discovery, _) = host.reader_of(true);
    let mut interfaces = |now: Instant| {
        pass_at(&mut reader, &mut discovery, CollectorSet::defaults(), now);
        let (column, host) = (reader.plan.interfaces[0].1, reader.host());
        let rows = host.sample.table(Dimension::Interface).column(column);
        let name = |id| reader.labels().of(Dimension::Interface).text(id).replace("interface=", "");
        rows.map(|(id, value)| format!("{} {value}", name(id))).collect::<Vec<_>>()
    };
    let start = Instant::now();
    net_dev(&(line("eth0", 10) + &line("eth1", 20)), "");
    assert_eq!(interfaces(start), ["\"eth0\" 10", "\"eth1\" 20"]);
    net_dev(&(line("eth0", 11) + &line("eth1", 21)), "");
    assert_eq!(interfaces(start), ["\"eth0\" 11", "\"eth1\" 21"]);
    // An interface that is gone is noticed at once. A new one after all others is noticed within a minute, and stays.
    net_dev(&line("eth0", 12), "");
    assert_eq!(interfaces(start), ["\"eth0\" 12"]);
    net_dev(&line("eth0", 13), &line("usb0", 1));
    assert_eq!(interfaces(start), ["\"eth0\" 13"]);
    let later = start + Duration::from_secs(61);
    assert_eq!(interfaces(later), ["\"eth0\" 13", "\"usb0\" 1"]);
    net_dev(&line("eth0", 14), &line("usb0", 2));
    assert_eq!(interfaces(later), ["\"eth0\" 14", "\"usb0\" 2"]);
}

#[test]
fn a_process_number_that_went_to_another_container_gives_nothing_away() {
    let host = Host::new();
    host.container(A, 30, 7);
    host.write("proc/30/cgroup", &format!("0::/system.slice/docker-{B}.scope\n"));
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    assert_eq!(value(&rows, sample_of(&reader, A), "container_network_receive_bytes_total"), None);
}

#[test]
fn processes_of_cgroups_below_the_container_s_own_count_too() {
    let host = Host::new();
    host.container(A, 30, 7);
    host.file(A, "cgroup.procs", "");
    host.file(A, "init.scope/cgroup.procs", "30\n31\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    assert_eq!(value(&rows, sample_of(&reader, A), "container_processes"), Some(2));
    assert_eq!(value(&rows, sample_of(&reader, A), "container_network_receive_bytes_total"), Some(3000));
}

#[test]
fn a_container_s_directory_in_a_file_s_place_is_counted_as_a_failure() {
    let host = Host::new();
    host.file(A, "memory.current/x", "");
    host.file(A, "cpu.stat", "usage_usec 1\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    assert_eq!(host.errors("memory.current", "io"), 1);
    assert_eq!(value(&rows, sample_of(&reader, A), "container_cpu_usage_seconds_total"), Some(1));
}

#[test]
fn limits_and_late_files_of_a_starting_container_are_looked_at_again_soon_and_then_rarely() {
    let host = Host::new();
    host.file(A, "memory.max", "max\n");
    let (mut reader, mut discovery, rows) = host.reader_of(true);
    let start = Instant::now();
    let mut memory_at = |seconds: u64| {
        pass_at(&mut reader, &mut discovery, CollectorSet::defaults(), start + Duration::from_secs(seconds));
        let container = reader.containers().first().unwrap();
        (container.limits.get(Limit::Memory), value(&rows, &container.sample, "container_memory_usage_bytes"))
    };
    assert_eq!(memory_at(0), (Some(0), None));
    host.file(A, "memory.max", "1000\n");
    host.file(A, "memory.current", "7\n");
    assert_eq!(memory_at(1), (Some(0), None));
    assert_eq!(memory_at(31), (Some(1000), Some(7)));
    host.file(A, "memory.max", "2000\n");
    assert_eq!(memory_at(31 + 120), (Some(1000), Some(7)));
    assert_eq!(memory_at(31 + 301), (Some(2000), Some(7)));
}

#[test]
fn a_capture_that_is_edited_shows_its_new_limits_and_files_at_once() {
    let host = Host::new();
    host.file(A, "memory.max", "max\n");
    let (mut reader, mut discovery, rows) = host.reader();
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    host.file(A, "memory.max", "1000\n");
    host.file(A, "memory.current", "7\n");
    pass(&mut reader, &mut discovery, CollectorSet::defaults());
    assert_eq!(reader.containers().first().unwrap().limits.get(Limit::Memory), Some(1000));
    assert_eq!(value(&rows, sample_of(&reader, A), "container_memory_usage_bytes"), Some(7));
}

#[test]
fn a_process_that_leaves_the_host_s_network_namespace_is_noticed_after_a_few_passes() {
    let host = Host::new();
    host.container(A, 30, 7);
    let [of_host, of_container] = [1, 30].map(|pid| host.root.path().join(format!("proc/{pid}/net/dev")));
    let self_metrics = fs::read(&of_container).unwrap();
    fs::remove_file(&of_container).unwrap();
    // The namespace of a live process is the inode of its file.
    fs::hard_link(&of_host, &of_container).unwrap();
    let (mut reader, mut discovery, rows) = host.reader_of(true);
    let mut received = || {
        pass(&mut reader, &mut discovery, CollectorSet::defaults());
        value(&rows, sample_of(&reader, A), "container_network_receive_bytes_total")
    };
    assert_eq!([(); 20].map(|()| received()), [None; 20]);

    fs::remove_file(&of_container).unwrap();
    fs::write(&of_container, self_metrics).unwrap();
    let after = [(); 16].map(|()| received());
    let unnoticed = after.iter().take_while(|value| value.is_none()).count();
    assert!(unnoticed > 0, "the file is opened in each pass");
    assert_eq!(after.last(), Some(&Some(3000)), "{after:?}");
}

#[test]
fn what_nobody_asks_for_is_not_read() {
    let host = Host::new();
    for id in [A, B] {
        host.file(id, "cpu.stat", "usage_usec nonsense\n");
        host.file(id, "memory.current", "4096\n");
        host.file(id, "memory.stat", "anon nonsense\n");
    }
    let (mut reader, mut discovery, rows) = host.reader();
    reader.apply(discovery.refresh(Instant::now(), &NoEngine));
    let names = Names::default();
    let all = Pass::of_all(CollectorSet::defaults(), &names);
    let families = FamilySet::matching(|family| family.name == "container_memory_usage_bytes");
    let ids = IdFilter::new([A]);
    reader.read(Pass { collectors: families.collectors(), families, ids: &ids, ..all }, Instant::now());
    assert_eq!(value(&rows, sample_of(&reader, A), "container_memory_usage_bytes"), Some(4096));
    assert_eq!(value(&rows, sample_of(&reader, B), "container_memory_usage_bytes"), None, "not asked for");
    assert_eq!([host.errors("cpu.stat", "malformed"), host.errors("memory.stat", "malformed")], [0, 0]);
    reader.read(all, Instant::now());
    assert_eq!(value(&rows, sample_of(&reader, B), "container_memory_usage_bytes"), Some(4096));
    assert_eq!([host.errors("cpu.stat", "malformed"), host.errors("memory.stat", "malformed")], [2, 2]);
}
