//! The parsers over random texts, made of what the kernel writes and of what it never would. Every value is a number of the text, and
//! nothing hides a good line.

use super::number;
use crate::fuzz::tests::Random;
use crate::read::fuzz::{cgroup_files, values};

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
        let digits: String = (0..random.below(24)).map(|_| char::from(b"0123456789 +-x"[random.below(14)])).collect();
        let expected = digits.parse().ok().filter(|_: &u64| !digits.starts_with('+'));
        assert_eq!(number(digits.as_bytes()), expected, "{digits:?}");
    }
}
