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

/// Drives the parsers with random texts, made of what the kernel writes and of what it does not.
#[cfg(test)]
mod tests {
    use super::{cgroup_files, values};
    use crate::fuzz::tests::Random;
    use crate::read::files::format::number;

    const TEXTS: u64 = 20_000;
    const PIECES: [&[u8]; 36] = [
        b"user 7\n",
        b"some avg10=0.00 total=7\n",
        b"8:0 rbytes=7",
        b"8:0 Read 7\n",
        b"user N0=7\n",
        b"N1=7",
        b"user",
        b"system",
        b"some",
        b"full",
        b"total=",
        b"rbytes=",
        b"wbytes=",
        b"N0=",
        b"N1=",
        b"8:0",
        b"8:16",
        b"Read",
        b"Write",
        b"Total",
        b"eth0:",
        b"lo:",
        b"max",
        b"0",
        b"7",
        b"007",
        b"18446744073709551615",
        b"18446744073709551616",
        b"-1",
        b"1.5",
        b"\xff",
        b"\0",
        b"=",
        b":",
        b"\t",
        b"\r",
    ];

    impl Random {
        fn text(&mut self) -> Vec<u8> {
            let mut text = Vec::new();
            for _ in 0..self.below(40) {
                text.extend(PIECES[self.below(PIECES.len())]);
                text.extend([&b" "[..], b"\n", b""][self.below(3)]);
            }
            text
        }
    }

    #[test]
    fn every_value_is_a_number_of_the_text() {
        let mut random = Random(1);
        let mut seen = [0; 7];
        for _ in 0..TEXTS {
            let text = random.text();
            cgroup_files(&text);
            values(&text).iter().zip(&mut seen).for_each(|(values, seen)| *seen += values.len());
        }
        // Sixteen numbers in a row are not made by chance.
        assert!(seen.iter().take(6).all(|seen| *seen > 100), "{seen:?}");
    }

    #[test]
    fn a_good_line_is_found_whatever_stands_around_it() {
        const GOOD: [&str; 7] = [
            "user 4711",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=4711",
            "8:0 rbytes=4711 wbytes=1",
            "8:0 Read 4711",
            "user N0=4711",
            "",
            "  eth1: 4711 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        ];
        let mut random = Random(2);
        for _ in 0..TEXTS / 10 {
            for (index, line) in GOOD.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
                // Two lines of `net/dev` are a head.
                let text = [b"head\nhead\n", &*random.text(), b"\n", line.as_bytes(), b"\n", &*random.text()].concat();
                let values = &values(&text)[index];
                assert!(values.contains(&4711), "{line}: {values:?} of {:?}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn a_number_is_what_the_standard_library_takes_for_one() {
        let mut random = Random(3);
        for _ in 0..TEXTS {
            let digits: String =
                (0..random.below(24)).map(|_| char::from(b"0123456789 +-x"[random.below(14)])).collect();
            let expected = digits.parse().ok().filter(|_: &u64| !digits.starts_with('+'));
            assert_eq!(number(digits.as_bytes()), expected, "{digits:?}");
        }
    }
}
