//! That this is the kind of host which the rest is about.

use exporter_tests::{Container, Engine};

use crate::run;

#[test]
fn this_is_a_host_with_systemd_and_nothing_but_cgroup_v2() {
    assert_eq!(std::fs::read_to_string("/proc/1/comm").unwrap().trim(), "systemd");
    assert_eq!(run("stat", &["--file-system", "--format=%T", "/sys/fs/cgroup"]).unwrap(), "cgroup2fs");
    let engine = Engine::shared().unwrap();
    let facts = engine.docker(&["info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}"]).unwrap();
    assert_eq!(facts, "systemd 2");
    let container = Container::sleeping(engine, "namespace", &[]).unwrap();
    // A cgroup namespace of its own is the default there: inside, its own cgroup is the root.
    assert_eq!(container.exec(&["cat", "/proc/self/cgroup"]).unwrap(), "0::/");
    let path = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid().unwrap())).unwrap();
    assert_eq!(path.trim(), format!("0::/system.slice/docker-{}.scope", container.id));
}
