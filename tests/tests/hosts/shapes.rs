//! The shapes of hosts that were not captured.

use super::host::{Host, ID, PID};

/// Every host that is written here.
pub(super) const ALL: &[fn() -> Host] = &[
    debian11,
    nas,
    memory_on_v2,
    one_v1_hierarchy,
    lxc_guest,
    lxc_guest_before_its_first_container,
    container_without_the_mount,
    without_pressure,
    memory_controller_off,
    no_controllers_delegated,
    quadlet,
];

/// Processes of a container, as `cgroup.procs` lists them.
fn procs() -> String {
    format!("{PID}\n")
}

/// The files of a v2 cgroup that every kernel since 5.2 has.
fn v2_container(host: &Host, path: &str) {
    let procs = procs();
    host.cgroup(
        path.trim_start_matches('/'),
        &[
            ("cgroup.controllers", "cpu io memory pids\n"),
            ("cgroup.procs", &procs),
            ("cgroup.type", "domain\n"),
            ("cpu.stat", "usage_usec 7000000\nuser_usec 5000000\nsystem_usec 2000000\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1024\nfile 2048\ninactive_file 512\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
        ],
    );
    host.process(path);
}

fn v2_root(host: &Host) {
    host.cgroup(
        "",
        &[
            ("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n"),
            ("cgroup.subtree_control", "cpu io memory pids\n"),
            ("cgroup.procs", "2\n"),
        ],
    );
}

/// A container's cgroup in a v1 tree, and the tree's root.
fn v1_tree(host: &Host, tree: &str, files: &[(&str, &str)]) {
    host.cgroup(tree, &[("tasks", "1\n"), ("cgroup.procs", "1\n"), ("release_agent", "\n")]);
    let procs = procs();
    let path = format!("{tree}/docker/{ID}");
    host.cgroup(&path, &[("cgroup.procs", &*procs), ("tasks", &*procs)]);
    host.cgroup(&path, files);
}

const CPU: [(&str, &str); 5] = [
    ("cpu.shares", "1024\n"),
    ("cpu.cfs_quota_us", "-1\n"),
    ("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
    ("cpuacct.usage", "7000000000\n"),
    ("cpuacct.stat", "user 500\nsystem 200\n"),
];
const MEMORY: [(&str, &str); 4] = [
    ("memory.usage_in_bytes", "4096\n"),
    ("memory.max_usage_in_bytes", "8192\n"),
    ("memory.limit_in_bytes", "9223372036854771712\n"),
    ("memory.stat", "cache 2048\nrss 1024\ntotal_cache 2048\ntotal_rss 1024\ntotal_inactive_file 512\n"),
];
const BLKIO: [(&str, &str); 2] = [
    ("blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n"),
    ("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
];
const PIDS: [(&str, &str); 2] = [("pids.current", "3\n"), ("pids.max", "max\n")];

/// Debian 11: Linux 5.10, cgroup v2, systemd driver. No `memory.peak` (5.19), no key `kernel` in `memory.stat` (5.18).
fn debian11() -> Host {
    let host = Host::new("debian11-v2-systemd");
    v2_root(&host);
    let path = format!("/system.slice/docker-{ID}.scope");
    v2_container(&host, &path);
    host.cgroup(
        path.trim_start_matches('/'),
        &[("memory.stat", "anon 1024\nfile 2048\nkernel_stack 100\npercpu 200\nsock 0\ninactive_file 512\nslab 300\n")],
    );
    host
}

/// A NAS with Linux 4.4: cgroup v1 alone, no `pids` controller, no pressure; CFQ counts I/O beside the throttle
/// policy.
fn nas() -> Host {
    let host = Host::new("nas-4.4-v1");
    std::fs::remove_dir_all(host.path().join("proc/pressure")).unwrap();
    let cgroups = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
        cpuset\t2\t9\t1\ncpu\t3\t9\t1\ncpuacct\t4\t9\t1\nblkio\t5\t9\t1\nmemory\t6\t9\t1\ndevices\t7\t9\t1\nfreezer\t8\t9\t1\n";
    host.file("proc/cgroups", cgroups);
    v1_tree(&host, "cpu", &CPU[..3]);
    v1_tree(&host, "cpuacct", &CPU[3..]);
    v1_tree(&host, "memory", &MEMORY);
    v1_tree(
        &host,
        "blkio",
        &[
            ("blkio.io_service_bytes", "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n"),
            ("blkio.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n"),
            ("blkio.io_serviced", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
            ("blkio.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
            ("blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
        ],
    );
    for tree in ["cpuset", "devices", "freezer"] {
        v1_tree(&host, tree, &[]);
    }
    host.process(&format!("/docker/{ID}"));
    host
}

/// A hybrid host that was booted with `cgroup_no_v1=memory`: the engine's v1 interface makes no cgroup in the v2 tree.
fn memory_on_v2() -> Host {
    let host = Host::new("hybrid-cgroup_no_v1-memory");
    host.cgroup("unified", &[("cgroup.controllers", "memory\n"), ("cgroup.procs", "1\n")]);
    host.cgroup("unified/system.slice", &[("cgroup.controllers", "memory\n"), ("cgroup.procs", "")]);
    // The mount point of v1's is there, and empty.
    std::fs::create_dir(host.path().join("cgroup/memory")).unwrap();
    v1_tree(&host, "cpu,cpuacct", &CPU);
    v1_tree(&host, "blkio", &BLKIO);
    v1_tree(&host, "pids", &PIDS);
    for tree in ["cpuset", "devices", "freezer", "systemd"] {
        v1_tree(&host, tree, &[]);
    }
    for link in ["cpu", "cpuacct"] {
        std::os::unix::fs::symlink("cpu,cpuacct", host.path().join("cgroup").join(link)).unwrap();
    }
    host.process(&format!("/docker/{ID}"));
    host
}

/// All v1 controllers in one hierarchy, under a name that is no controller's.
fn one_v1_hierarchy() -> Host {
    let host = Host::new("v1-one-hierarchy");
    let files: Vec<_> = [&CPU[..], &MEMORY, &BLKIO, &PIDS].concat();
    v1_tree(&host, "all", &files);
    host.process(&format!("/docker/{ID}"));
    host
}

/// An LXC or Incus guest: the root is that of the guest's cgroup namespace.
fn lxc_guest_before_its_first_container() -> Host {
    let host = Host::new("lxc-guest-without-containers");
    v2_root(&host);
    host.cgroup("", &[("cgroup.type", "domain\n")]);
    for unit in ["init.scope", "system.slice/docker.service", "system.slice/cron.service"] {
        host.cgroup(unit, &[("cgroup.procs", "1\n"), ("cgroup.type", "domain\n")]);
    }
    host
}

fn lxc_guest() -> Host {
    let host = Host { name: "lxc-guest", ..lxc_guest_before_its_first_container() };
    v2_container(&host, &format!("/system.slice/docker-{ID}.scope"));
    host
}

/// The exporter in a container that was not given the host's tree.
fn container_without_the_mount() -> Host {
    let host = Host::new("container-without-the-mount");
    v2_root(&host);
    host.cgroup("", &[("cgroup.type", "domain\n")]);
    host
}

/// A kernel without pressure stall information, or with `psi=0`.
fn without_pressure() -> Host {
    let host = Host::new("v2-without-psi");
    std::fs::remove_dir_all(host.path().join("proc/pressure")).unwrap();
    v2_root(&host);
    v2_container(&host, &format!("/docker/{ID}"));
    host
}

/// A Raspberry Pi as it comes: `cgroup_disable=memory` in the firmware's command line.
fn memory_controller_off() -> Host {
    let host = Host::new("v2-memory-off");
    v2_root(&host);
    host.cgroup("", &[("cgroup.controllers", "cpuset cpu io pids\n"), ("cgroup.subtree_control", "cpu io pids\n")]);
    host.file("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t60\t0\n");
    let path = format!("docker/{ID}");
    v2_container(&host, &format!("/{path}"));
    host.cgroup(&path, &[("cgroup.controllers", "cpu io pids\n")]);
    for file in ["memory.current", "memory.max", "memory.stat"] {
        std::fs::remove_file(host.path().join("cgroup").join(&path).join(file)).unwrap();
    }
    host
}

/// Rootless Podman without delegation: the user's slice hands down memory and pids alone.
fn no_controllers_delegated() -> Host {
    let host = Host::new("podman-rootless");
    v2_root(&host);
    let path = format!("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
    v2_container(&host, &format!("/{path}"));
    host.cgroup(&path, &[("cgroup.controllers", "memory pids\n"), ("cpu.stat", "usage_usec 7000000\n")]);
    std::fs::remove_file(host.path().join("cgroup").join(&path).join("io.stat")).unwrap();
    host
}

/// Podman with Quadlet: the container's cgroup is below the unit's, beside that of its helper.
fn quadlet() -> Host {
    let host = Host::new("podman-quadlet");
    v2_root(&host);
    let unit = "system.slice/web.service";
    v2_container(&host, &format!("/{unit}/libpod-payload-{ID}"));
    host.cgroup(&format!("{unit}/runtime"), &[("cgroup.procs", "4710\n"), ("cgroup.type", "domain\n")]);
    host
}
