//! Trees at paths where no distribution mounts them, on the kernel's own file systems.

use std::path::Path;
use std::process::Command;

use exporter_tests::exporter::binary;

#[test]
fn trees_are_found_wherever_the_kernel_says_that_they_are_mounted() {
    let root = tempfile::tempdir().unwrap();
    let has_v1 = Path::new("/sys/fs/cgroup/memory").is_dir();
    let v1 = if has_v1 { "mount -t cgroup -o memory none odd &&" } else { "" };
    let script =
        format!("cd \"$1\" && shift && mkdir -p odd deep/er && {v1} mount -t cgroup2 none deep/er && exec \"$@\"");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script, "sh"])
        .arg(root.path())
        .arg(binary().unwrap())
        .args([
            "doctor",
            "--web.listen-address=127.0.0.1:0",
            "--docker.url=unix:///nonexistent/docker.sock",
            "--ebpf=off",
        ])
        .arg(format!("--path.cgroup={}", root.path().display()))
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let kind = if has_v1 { "cgroup v1 with a v2 tree beside it (hybrid) at" } else { "cgroup v2 at" };
    assert!(report.contains(&format!("ok    cgroup tree: {kind}")), "{output:?}");
    assert!(!report.contains("controller memory: the kernel has it"), "{report}");
}
