//! What confines the exporter, and what a machine announces that it does not have.

use std::fs;

use anyhow::{Result, ensure};
use exporter_tests::Exporter;

/// What `doctor` says of eBPF where `wrapper` starts it.
fn doctor(wrapper: &[&str]) -> Result<String> {
    let output =
        Exporter::builder().started_by(wrapper).flag("doctor").flag("--docker.url=unix:///none.sock").output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("eBPF:") || line.contains("snapshots:")).collect();
    ensure!(lines.len() >= 2, "it said {text:?}");
    Ok(lines.join("\n"))
}

#[test]
fn a_user_namespace_is_named_and_no_advice_on_memory_given() {
    let said = doctor(&["unshare", "--user", "--map-root-user"]).unwrap();
    assert!(said.lines().all(|line| line.contains("user namespace")), "{said}");
    assert!(!said.to_lowercase().contains("memlock") && !said.contains("more memory"), "{said}");
}

/// A service's filter is as good as a container's.
#[test]
fn a_seccomp_filter_is_named_and_no_advice_on_memory_given() {
    let filter = r#"
use POSIX qw(uname);
my ($bpf, $prctl) = (uname)[4] eq "x86_64" ? (321, 157) : (280, 167);
my @code = ([0x20, 0, 0, 0], [0x15, 0, 1, $bpf], [0x06, 0, 0, 0x00050001], [0x06, 0, 0, 0x7fff0000]);
my $code = join "", map { pack "SCCL", @$_ } @code;
my $program = pack "S x6 P", scalar @code, $code;
syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall($prctl, 22, 2, $program, 0, 0) == 0 or die "seccomp: $!";
exec @ARGV or die "exec: $!";
"#;
    let said = doctor(&["perl", "-e", filter]).unwrap();
    assert!(said.lines().all(|line| line.contains("seccomp")), "{said}");
    assert!(!said.to_lowercase().contains("memlock") && !said.contains("more memory"), "{said}");
}

/// As on hosts that mount it only for Cilium or for systemd.
#[test]
fn a_v2_hierarchy_is_found_wherever_it_is_mounted() {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
        // The host has no other, so that there is nothing to look for.
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().to_str().unwrap();
    let moved = "mount -t cgroup2 none \"$1\" && umount /sys/fs/cgroup/unified && shift && exec \"$@\"";
    let exporter =
        Exporter::builder().started_by(&["unshare", "--mount", "sh", "-c", moved, "sh", path]).start().unwrap();
    let said = exporter.stderr();
    let running = said.lines().find(|line| line.contains("eBPF programs")).unwrap_or_default();
    assert!(running.contains("network_receive") && !running.contains("cgroup v2"), "{said}");
}

/// Virtual machines announce CPUs that could be plugged in.
#[test]
fn memory_goes_by_the_cpus_that_are_online() {
    let possible = tempfile::NamedTempFile::new().unwrap();
    fs::write(possible.path(), "0-127\n").unwrap();
    let path = possible.path().to_str().unwrap();
    let announce = "mount --bind \"$1\" /sys/devices/system/cpu/possible && shift && exec \"$@\"";
    let resident = |exporter: Exporter| {
        exporter.scrape().unwrap();
        exporter.scrape().unwrap().integer("process_resident_memory_bytes", &[]).unwrap()
    };
    let usual = resident(Exporter::builder().start().unwrap());
    let announced = resident(
        Exporter::builder().started_by(&["unshare", "--mount", "sh", "-c", announce, "sh", path]).start().unwrap(),
    );
    assert!(announced < usual + (4 << 20), "{usual} bytes, with 128 CPUs announced {announced}");
}
