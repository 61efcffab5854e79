//! The parsers over the kernel's own texts, whole, cut and spoilt.

use super::{Device, Single, flat, interfaces, list, nested, nodes, number, operations, psi, single};

fn collect_flat(text: &str, keys: &[&str]) -> (Vec<(usize, u64)>, u64) {
    let mut found = Vec::new();
    let malformed = flat(text.as_bytes(), keys, |index, value| found.push((index, value)));
    (found, malformed)
}

#[test]
fn numbers_are_exact_to_the_last_digit_and_never_wrap() {
    assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
    for bad in ["", "18446744073709551616", "-1", "1 ", "0x1", "1e3"] {
        assert_eq!(number(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn a_single_value_is_a_number_max_or_malformed() {
    assert_eq!(single(b"42\n"), Single::Value(42));
    assert_eq!(single(b"max\n"), Single::Max);
    assert_eq!(single(b""), Single::Malformed);
    assert_eq!(single(b"12 34\n"), Single::Malformed);
}

#[test]
fn flat_keys_are_found_in_any_order_and_unknown_ones_ignored() {
    let (found, malformed) = collect_flat("anon 1\nnew_key 9\nfile 2\nkernel 3\n", &["file", "anon"]);
    assert_eq!((found, malformed), (vec![(1, 1), (0, 2)], 0));
}

#[test]
fn one_malformed_line_hides_no_other() {
    let (found, malformed) = collect_flat("anon 1\nfile x\n\nkernel 3\nlast", &["anon", "file", "kernel"]);
    assert_eq!((found, malformed), (vec![(0, 1), (2, 3)], 1));
}

#[test]
fn a_key_without_a_value_is_malformed() {
    for text in ["anon\nfile 2\n", "anon \nfile 2", "file 2\nanon"] {
        assert_eq!(collect_flat(text, &["anon", "file"]), (vec![(1, 2)], 1), "{text:?}");
    }
}

#[test]
fn pressure_totals_are_found_by_line() {
    let text =
        b"some avg10=0.90 avg60=0.65 avg300=0.69 total=15327625\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    let mut found = Vec::new();
    assert_eq!(psi(text, &["some", "full"], |index, value| found.push((index, value))), 0);
    assert_eq!(found, [(0, 15_327_625), (1, 7)]);
    assert_eq!(psi(b"some avg10=0.90\n", &["some"], |_, _| ()), 1);
}

#[test]
fn io_stat_lines_may_have_more_keys_or_none() {
    let text =
        b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0 cost.usage=5\n7:1 \n259:1048575 rbytes=9\nbad rbytes=1\n";
    let mut found = Vec::new();
    let malformed = nested(text, &["rbytes", "wios"], |device, index, value| found.push((device, index, value)));
    let sda = Device { major: 8, minor: 0 };
    let nvme = Device { major: 259, minor: 1_048_575 };
    assert_eq!(found, [(sda, 0, 1), (sda, 1, 4), (nvme, 0, 9)]);
    assert_eq!(malformed, 1);
}

#[test]
fn io_stat_values_belong_to_the_last_device_before_them() {
    let text =
        b"8:0 rbytes=1 wios=2\n7:7 7:6 7:5 7:4 rbytes=28672 wios=3\n7:3 7:2 \n7:1 7: rbytes=9\n7:0 rbytes=nan wios=5 \
        cost.wait=7 use_delay=0\n rbytes=4\n";
    let mut found = Vec::new();
    let malformed = nested(text, &["rbytes", "wios"], |device, index, value| found.push((device, index, value)));
    let device = |major, minor| Device { major, minor };
    let expected = [(device(8, 0), 0, 1), (device(8, 0), 1, 2), (device(7, 4), 0, 28_672), (device(7, 4), 1, 3)];
    assert_eq!(found, [&expected[..], &[(device(7, 0), 1, 5)]].concat());
    // A device cut off, a value that is no number, and a value without a device.
    assert_eq!(malformed, 3);
}

#[test]
fn blkio_totals_belong_to_no_device() {
    let text = b"254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\nTotal 60\n";
    let mut found = Vec::new();
    assert_eq!(operations(text, &["Read", "Write"], |_, index, value| found.push((index, value))), 0);
    assert_eq!(found, [(0, 10), (1, 20)]);
}

#[test]
fn numa_lines_of_both_versions_are_read() {
    let mut found = Vec::new();
    nodes(b"anon N0=4096 N1=8192\nfile N0=1\n", &["anon"], |node, index, value| found.push((node, index, value)));
    nodes(b"total=14 N0=14\nanon=3 N0=3\n", &["anon"], |node, index, value| found.push((node, index, value)));
    assert_eq!(found, [(0, 0, 4096), (1, 0, 8192), (0, 0, 3)]);
}

#[test]
fn a_list_keeps_places() {
    let mut found = Vec::new();
    assert_eq!(list(b"15652245 11368115 \n", |index, value| found.push((index, value))), 0);
    assert_eq!(found, [(0, 15_652_245), (1, 11_368_115)]);
}

const NET_DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0:1532      18    1    2    3     4          5         6        7       8    9    10    11     12       13          14
eth0:1: 1 2 3
";

#[test]
fn interfaces_have_all_their_counters() {
    let mut found = Vec::new();
    let malformed = interfaces(
        NET_DEV.as_bytes(),
        |_| true,
        |name, counters| {
            found.push((String::from_utf8(name.to_vec()).unwrap(), *counters));
        },
    );
    assert_eq!(found[1], ("eth0".to_owned(), [1532, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]));
    assert_eq!((found.len(), malformed), (2, 1));
    // What is not wanted is skipped, malformed or not.
    let mut found = Vec::new();
    let malformed = interfaces(NET_DEV.as_bytes(), |name| name == b"eth0", |name, _| found.push(name.to_vec()));
    assert_eq!((found, malformed), (vec![b"eth0".to_vec()], 0));
}

#[test]
fn no_parser_panics_on_any_prefix_of_real_text() {
    let texts = [NET_DEV, "8:0 rbytes=1 wbytes=2\n", "some avg10=0.90 total=1\n", "a 1\nb 2\n", "N0=1 N1=\n"];
    for text in texts {
        for end in 0..=text.len() {
            let text = &text.as_bytes()[..end];
            flat(text, &["a"], |_, _| ());
            psi(text, &["some"], |_, _| ());
            nested(text, &["rbytes"], |_, _, _| ());
            operations(text, &["Read"], |_, _, _| ());
            nodes(text, &["anon"], |_, _, _| ());
            interfaces(text, |_| true, |_, _| ());
            list(text, |_, _| ());
            assert!(matches!(single(text), Single::Malformed | Single::Value(_) | Single::Max));
        }
    }
}
