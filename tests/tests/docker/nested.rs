//! A Docker in a container makes its cgroups below that container's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use exporter_tests::kernel::Kernel;
use exporter_tests::{Container, Engine, Exporter};

use super::{bracketed, named};

const CPU: &str = "container_cpu_usage_seconds_total";

/// Trees that an engine makes a container's cgroup in. On v2 all of them are one.
const TREES: &[&str] = &["blkio", "cpu", "cpuacct", "memory", "pids", "unified"];

/// The cgroups of an inner container. They go with the value.
struct Inner {
    id: String,
    directories: Vec<PathBuf>,
}

impl Inner {
    fn below(outer: &Kernel) -> Self {
        let id = format!("{:064x}", std::process::id());
        let trees: BTreeSet<PathBuf> = TREES.iter().filter_map(|tree| outer.directory(tree).ok()).collect();
        let directories: Vec<PathBuf> = trees.iter().map(|tree| tree.join("docker").join(&id)).collect();
        for directory in &directories {
            fs::create_dir_all(directory).unwrap();
        }
        Self { id, directories }
    }

    /// Starts a line of shell in it.
    fn start(&self, line: &str) -> Child {
        let enter = "for cgroup in \"$@\"; do echo $$ >$cgroup/cgroup.procs || exit 1; done; ";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{enter}{line}"), "sh"]).args(&self.directories).stdin(Stdio::null());
        command.spawn().unwrap()
    }

    fn cpu_seconds(&self, outer: &Kernel) -> f64 {
        let directory = outer.directory("cpuacct").unwrap().join("docker").join(&self.id);
        outer.at(&directory).cpu_seconds().unwrap()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for directory in &self.directories {
            fs::remove_dir(directory).unwrap_or_default();
            directory.parent().map(fs::remove_dir);
        }
    }
}

#[test]
fn a_container_in_a_container_has_its_own_series() {
    let engine = Engine::shared().unwrap();
    let outer = Container::sleeping(engine, "outer", &[]).unwrap();
    let kernel = outer.kernel().unwrap();
    let inner = Inner::below(&kernel);
    // A limit's signal ends the first one. Without a process it would be no container.
    inner.start("ulimit -t 1; while :; do :; done").wait().unwrap();
    let mut sleeper = inner.start("exec sleep 1000");
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &outer).unwrap();

    let before = inner.cpu_seconds(&kernel);
    let exposition = exporter.scrape().unwrap();
    let after = inner.cpu_seconds(&kernel);
    let of_outer = exposition.one(CPU, &[("name", &outer.name)]).unwrap();
    let path = format!("{}/docker/{}", of_outer.label("id"), inner.id);
    let of_inner = exposition.one(CPU, &[("id", &path)]).unwrap();
    assert!(of_inner.label("name").is_empty(), "this engine does not know it: {of_inner:?}");
    bracketed(before, of_inner.value, after).unwrap();
    assert!(of_inner.value > 0.5, "{} s where a second was burnt", of_inner.value);
    assert!(of_outer.value >= of_inner.value, "what the inner one uses, the outer one uses, too");
    exporter.stop().unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}
