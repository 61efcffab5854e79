//! Block I/O of cgroup v1 over small trees of plain files: which of several files has the values of a device.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::discover::{Discovery, Hierarchy, NoEngine};
use crate::metrics::{Collector, CollectorSet, Dimension, FAMILIES, FamilySet, SelfMetrics};
use crate::name::Names;
use crate::read::plan::Value;
use crate::read::{Pass, Reader, Row, for_cgroups};

const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

struct Host {
    root: tempfile::TempDir,
    reader: Reader,
    discovery: Discovery,
    rows: Vec<Row>,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for tree in ["memory", "blkio"] {
            write(&format!("cgroup/{tree}/tasks"), "1\n");
            write(&format!("cgroup/{tree}/release_agent"), "\n");
            write(&format!("cgroup/{tree}/docker/{ID}/cgroup.procs"), "4711\n");
        }
        write("proc/diskstats", " 8 0 sda 1\n 259 0 nvme0n1 1\n");
        let hierarchy = Hierarchy::detect(&root.path().join("cgroup")).unwrap();
        let collectors = CollectorSet::EMPTY.with(Collector::Blkio);
        let (plan, rows) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, collectors));
        let discovery = Discovery::new(hierarchy.searched(), &root.path().join("proc"), false, true);
        let reader = Reader::new(plan, hierarchy, &root.path().join("proc"), false, SelfMetrics::new().unwrap(), None);
        Self { root, reader, discovery, rows }
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.directory().join(name), text).unwrap();
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("cgroup/blkio/docker").join(ID)
    }

    /// Makes a pass. Returns the values of a family by device.
    fn read(&mut self, family: &str) -> Vec<(String, u64)> {
        let now = Instant::now();
        self.reader.apply(self.discovery.refresh(now, &NoEngine));
        self.reader.limits_changed(self.reader.containers()[0].id.unwrap());
        let (collectors, names) = (CollectorSet::EMPTY.with(Collector::Blkio), Names::default());
        self.reader.read(Pass::of_all(collectors, &names), now);
        let row = self.rows.iter().find(|row| row.family.name == family).unwrap();
        let Value::Column(dimension, column) = row.value else { panic!("{family} is no column") };
        let table = self.reader.containers()[0].sample.table(dimension);
        let label = |key| self.reader.labels().of(Dimension::Device).text(key).replace("device=", "");
        table.column(column).map(|(key, value)| (label(key), value)).collect()
    }
}

fn on(device: &str, value: u64) -> (String, u64) {
    (format!("\"/dev/{device}\""), value)
}

const BYTES: &str = "container_fs_reads_bytes_total";

#[test]
fn the_files_of_any_io_scheduler_serve() {
    for (bytes, operations) in [
        ("blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"),
        ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
        ("blkio.io_service_bytes", "blkio.io_serviced"),
        ("blkio.io_service_bytes_recursive", "blkio.io_serviced_recursive"),
        ("blkio.bfq.io_service_bytes", "blkio.bfq.io_serviced"),
        ("blkio.bfq.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive"),
    ] {
        let mut host = Host::new();
        host.file("blkio.throttle.io_service_bytes", "Total 0\n");
        host.file(bytes, "8:0 Read 1000\n8:0 Write 2000\n8:0 Sync 3000\n8:0 Async 0\n8:0 Total 3000\nTotal 3000\n");
        host.file(operations, "8:0 Read 10\n8:0 Write 20\nTotal 30\n");
        assert_eq!(host.read(BYTES), [on("sda", 1000)], "{bytes}");
        assert_eq!(host.read("container_fs_writes_total"), [on("sda", 20)], "{operations}");
    }
}

#[test]
fn each_device_has_the_file_that_counts_most() {
    let mut host = Host::new();
    host.file("blkio.throttle.io_service_bytes", "259:0 Read 500\nTotal 500\n");
    host.file("blkio.io_service_bytes_recursive", "8:0 Read 70\n259:0 Read 0\nTotal 70\n");
    assert_eq!(host.read(BYTES), [on("nvme0n1", 500), on("sda", 70)]);
    // A limit is set, so that the throttle policy begins to count from 0.
    host.file("blkio.throttle.io_service_bytes", "259:0 Read 510\n8:0 Read 5\nTotal 515\n");
    assert_eq!(host.read(BYTES), [on("nvme0n1", 510), on("sda", 70)]);
}

#[test]
fn files_that_count_nothing_for_the_root_are_not_read_of_containers() {
    const BFQ: &str = "blkio.bfq.io_service_bytes_recursive";
    let mut host = Host::new();
    let root = host.root.path().join("cgroup/blkio");
    host.file(BFQ, "8:0 Read 1000\nTotal 1000\n");
    fs::write(root.join(BFQ), "Total 0\n").unwrap();
    assert_eq!(host.read(BYTES), [on("sda", 1000)], "not known before the root is read");
    assert_eq!(host.read(BYTES), []);
    fs::write(root.join(BFQ), "8:0 Read 2000\n8:0 Write 0\nTotal 2000\n").unwrap();
    host.read(BYTES);
    assert_eq!(host.read(BYTES), [on("sda", 1000)]);
    // The file that is not recursive has no counts of the containers.
    fs::remove_file(root.join(BFQ)).unwrap();
    fs::write(root.join("blkio.bfq.io_service_bytes"), "Total 0\n").unwrap();
    host.read(BYTES);
    assert_eq!(host.read(BYTES), [on("sda", 1000)]);
}
