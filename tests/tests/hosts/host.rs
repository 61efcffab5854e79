//! A host of plain files.

use std::fs;
use std::path::Path;

use exporter_tests::Exporter;
use exporter_tests::exporter::Builder;

/// The id of every container here.
pub(super) const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";
/// Its process.
pub(super) const PID: u32 = 4711;

/// A host of plain files.
pub(super) struct Host {
    /// The name of its golden file.
    pub(super) name: &'static str,
    pub(super) root: tempfile::TempDir,
}

impl Host {
    /// A kernel with pressure stall information, and nothing else.
    pub(super) fn new(name: &'static str) -> Self {
        let host = Self { name, root: tempfile::tempdir().unwrap() };
        host.file("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        host.file("proc/sys/fs/inotify/max_user_instances", "128\n");
        host.file("proc/sys/fs/inotify/max_user_watches", "65536\n");
        host.file("proc/diskstats", "   8       0 sda 1 0 8 0 1 0 8 0 0 0 0\n");
        host
    }

    pub(super) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Files of one cgroup; `directory` is below `/sys/fs/cgroup`.
    pub(super) fn cgroup(&self, directory: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.file(&format!("cgroup/{directory}/{name}"), text);
        }
    }

    /// The container's process, in a network namespace of its own.
    pub(super) fn process(&self, cgroup: &str) {
        self.file(&format!("proc/{PID}/cgroup"), &format!("0::{cgroup}\n"));
        let interface = "  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n";
        self.file(&format!("proc/{PID}/net/dev"), &format!("Inter-|\n face |\n{interface}"));
        let links = self.path().join(format!("proc/{PID}/ns"));
        fs::create_dir_all(&links).unwrap();
        std::os::unix::fs::symlink("net:[2]", links.join("net")).unwrap();
    }

    pub(super) fn builder(&self) -> Builder {
        Exporter::builder()
            .flag(format!("--path.cgroup={}", self.path().join("cgroup").display()))
            .flag(format!("--path.procfs={}", self.path().join("proc").display()))
    }
}
