//! What is served on each kind of host.

use exporter_tests::Exposition;

use super::host::{Host, ID};
use super::shapes;

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_usage_bytes";
const READ: &str = "container_fs_reads_bytes_total";
const THREADS: &str = "container_threads";
const RECEIVED: &str = "container_network_receive_bytes_total";

fn scrape(host: &Host) -> Exposition {
    let exporter = host.builder().start().unwrap();
    let exposition = exporter.scrape().unwrap();
    exporter.stop().unwrap();
    exposition
}

/// The one value of a family of the container, as it was written; None where there is none.
fn value(exposition: &Exposition, family: &str) -> Option<String> {
    let mut of_container =
        exposition.samples().filter(|sample| sample.name == family && sample.label("id").contains(ID));
    let found = of_container.next().map(|sample| sample.text.clone());
    assert!(of_container.next().is_none(), "{family} is there twice");
    found
}

#[test]
fn each_host_has_what_its_trees_have_and_nothing_else() {
    for shape in shapes::ALL {
        let host = shape();
        let exposition = scrape(&host);
        let found: Vec<Option<String>> =
            [CPU, MEMORY, READ, THREADS, RECEIVED].iter().map(|family| value(&exposition, family)).collect();
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        let all = [Some("7"), Some("4096"), Some("4096"), Some("3"), Some("1000")];
        let expected = match host.name {
            "hybrid-cgroup_no_v1-memory" | "v2-memory-off" => [all[0], None, all[2], all[3], all[4]],
            // Threads are counted by the pids controller.
            "nas-4.4-v1" => [all[0], all[1], all[2], None, all[4]],
            "podman-rootless" => [all[0], all[1], None, all[3], all[4]],
            "lxc-guest-without-containers" | "container-without-the-mount" => [None; 5],
            _ => all,
        };
        assert_eq!(found, expected, "{}", host.name);
    }
}
