//! Nothing of the host's own gets into a fixture.

use serde_json::json;

use super::{INSPECT, cpuinfo, interfaces, pick, release};

#[test]
fn what_is_not_named_is_left_out() {
    let inspect = json!({
        "Id": "1", "Path": "sh", "Args": ["--password=x"], "State": {"Pid": 7, "Error": "x"},
        "Config": {"Env": ["A=B"], "Hostname": "h", "Labels": {"com.docker.compose.project": "p", "secret": "s"}},
    });
    assert_eq!(
        pick(&inspect, INSPECT),
        json!({"Id": "1", "State": {"Pid": 7}, "Config": {"Labels": {"com.docker.compose.project": "p"}}})
    );
}

#[test]
fn no_name_of_the_host_s_choosing_is_copied() {
    let text =
        "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth7ad3e6b: 4\nbr-305b61b3035a: 5\nwg-acme: 6\n";
    assert_eq!(
        interfaces(text),
        "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth0000000: 4\nbr-000000000000: 5\ndummy0: 6\n"
    );
}

#[test]
fn of_the_kernel_only_the_version_is_copied() {
    assert_eq!(release("6.18.44-acme-7\n"), "6.18.44\n");
}

#[test]
fn of_the_processor_only_numbers_are_copied() {
    let text = "processor\t: 0\nmodel name\t: Secret 9000\nphysical id\t: 0\n\nprocessor\t: 1\n";
    assert_eq!(cpuinfo(text), "processor\t: 0\nphysical id\t: 0\n\nprocessor\t: 1\n");
}
