//! The root of a real cgroup namespace, as an LXC guest has one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use exporter_tests::bare::BareContainers;
use exporter_tests::{Exporter, wait};

use super::host::ID;

const CPU: &str = "container_cpu_usage_seconds_total";

/// A cgroup of the host's v2 tree that is the guest's root.
struct Guest(PathBuf);

impl Guest {
    fn new() -> Self {
        let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let tree = trees.into_iter().find(|tree| tree.join("cgroup.controllers").is_file()).unwrap();
        let guest = Self(tree.join(format!("exporter-tests-guest-{}", std::process::id())));
        fs::create_dir(&guest.0).unwrap();
        for unit in ["init.scope", "system.slice"] {
            fs::create_dir(guest.0.join(unit)).unwrap();
        }
        guest
    }

    /// Starts a process in the cgroup of a container.
    fn start_container(&self) -> Child {
        let cgroup = self.0.join("docker").join(ID);
        fs::create_dir_all(&cgroup).unwrap();
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        process
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let cgroups = [&format!("docker/{ID}"), "docker", "init.scope", "system.slice", ""];
        for cgroup in cgroups.map(|cgroup| self.0.join(cgroup)) {
            // A process that was killed leaves its cgroup a little later.
            let gone = || if cgroup.is_dir() { Ok(fs::remove_dir(&cgroup)?) } else { Ok(()) };
            drop(wait::eventually(Duration::from_secs(5), "an empty cgroup", gone));
        }
    }
}

#[test]
fn containers_of_a_guest_are_read_from_the_first_one_on() {
    let guest = Guest::new();
    let script = format!(
        "echo $$ >{}/cgroup.procs && exec unshare --cgroup --mount --propagation=private sh -c '\
            mount -t tmpfs none /mnt && mkdir /mnt/cgroup && mount -t cgroup2 none /mnt/cgroup && \
            echo $$ >/mnt/cgroup/init.scope/cgroup.procs && exec \"$@\"' sh \"$@\"",
        guest.0.display()
    );
    let exporter =
        Exporter::builder().started_by(&["sh", "-c", &script, "sh"]).flag("--path.cgroup=/mnt/cgroup").start().unwrap();
    assert!(!exporter.stderr().contains("stats API"), "{}", exporter.stderr());
    let id = format!("/docker/{ID}");
    assert!(exporter.scrape().unwrap().select(CPU, &[("id", &id)]).is_empty());
    let mut process = guest.start_container();
    let scraped = exporter.scrape();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(scraped.unwrap().select(CPU, &[("id", &id)]).len(), 1);
    exporter.stop().unwrap();
}

#[test]
fn a_missing_pid_namespace_of_the_host_is_logged_once() {
    // So many that their network counters might come from the host's links.
    let _containers = BareContainers::make(10).unwrap();
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let exporter = Exporter::builder().started_by(&wrapper).start().unwrap();
    for _ in 0..2 {
        exporter.scrape().unwrap();
    }
    let log = exporter.stderr();
    assert_eq!(log.lines().filter(|line| line.contains("--pid=host")).count(), 1, "{log}");
}
