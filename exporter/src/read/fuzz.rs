//! Fuzz targets of the kernel's texts.

use std::collections::BTreeSet;

use super::files::format::{Single, flat, interfaces, list, nested, nodes, operations, psi, single};
use super::files::proc_text::{cpu_ticks, disks, meminfo, mounts, online_cpus, processors};
pub(crate) use super::network::netlink::message::fuzz as netlink;
use crate::discover::unescape;

/// Returns the numbers in a text: its runs of digits, without leading zeros.
pub(super) fn numbers(text: &[u8]) -> BTreeSet<String> {
    let runs = text.split(|byte| !byte.is_ascii_digit()).filter(|run| !run.is_empty());
    let plain = |run: &[u8]| String::from_utf8_lossy(run).trim_start_matches('0').to_owned();
    runs.map(plain).map(|run| if run.is_empty() { "0".to_owned() } else { run }).collect()
}

/// Values that each parser of cgroup files finds, by the index of the parser.
pub(super) fn values(text: &[u8]) -> [Vec<u64>; 7] {
    let mut values: [Vec<u64>; 7] = Default::default();
    let [of_flat, of_psi, of_nested, of_operations, of_nodes, of_list, of_interfaces] = &mut values;
    flat(text, &["user", "system"], |_, value| of_flat.push(value));
    psi(text, &["some", "full"], |_, value| of_psi.push(value));
    nested(text, &["rbytes", "wbytes"], |_, _, value| of_nested.push(value));
    operations(text, &["Read", "Write"], |_, _, value| of_operations.push(value));
    nodes(text, &["user", "system"], |_, _, value| of_nodes.push(value));
    list(text, |_, value| of_list.push(value));
    interfaces(text, |_| true, |_, counters| of_interfaces.extend(counters));
    values
}

/// Checks that every value of a cgroup file is a number of its text.
pub(crate) fn cgroup_files(text: &[u8]) {
    let numbers = numbers(text);
    for values in values(text) {
        assert!(values.iter().all(|value| numbers.contains(&value.to_string())), "{values:?}");
    }
    if let Single::Value(value) = single(text) {
        assert!(numbers.contains(&value.to_string()) && numbers.len() == 1, "{value}");
    }
}

/// Checks that files of `/proc` give no more entries than they have lines, and that an unescaped path never grows.
pub(crate) fn proc_files(text: &[u8]) {
    let lines = text.split(|byte| *byte == b'\n').count() as u64;
    let (mut entries, mut points) = (0, 0);
    let malformed = meminfo(text, |_, _| entries += 1);
    assert!(entries + malformed <= lines, "meminfo: {entries} entries, {malformed} malformed of {lines} lines");
    entries = 0;
    let malformed = disks(text, |_, _| entries += 1);
    assert!(entries + malformed <= lines, "diskstats: {entries} entries, {malformed} malformed of {lines} lines");
    let malformed = mounts(text, |mount| {
        points += 1;
        assert!(unescape(mount.point).len() <= mount.point.len());
    });
    assert!(points + malformed <= lines, "mountinfo: {points} mounts, {malformed} malformed of {lines} lines");
    let numbers = numbers(text);
    let (ticks, _) = cpu_ticks(text);
    assert!(ticks.iter().flatten().all(|ticks| numbers.contains(&ticks.to_string())), "{ticks:?}");
    assert!(online_cpus(text).count() as u64 <= lines);
    let (cpus, _) = processors(text);
    assert!(cpus.logical.unwrap_or_default() <= lines);
}
