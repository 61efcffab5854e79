//! Single symbols and odd pieces; whole expositions are in `tests/gzip.rs`.

use std::io::Read as _;

use super::repeated_span::{common_prefix, common_suffix};
use super::{Gzip, HISTORY, LabelSpan};

fn inflated(zipped: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(zipped).read_to_end(&mut text).unwrap();
    text
}

/// Compresses a text in pieces of this size, with these label sets.
fn zipped(gzip: &mut Gzip, text: &[u8], chunk: usize, label_spans: &[LabelSpan]) -> Vec<u8> {
    gzip.begin(Vec::new());
    let mut from = 0;
    while from < text.len() {
        let inside =
            |label_span: &&LabelSpan| label_span.at + label_span.length > from + chunk && label_span.at < from + chunk;
        let to = label_spans
            .iter()
            .find(inside)
            .map_or(from + chunk, |label_span| label_span.at + label_span.length)
            .min(text.len());
        let start = from.saturating_sub(HISTORY);
        let new = label_spans.iter().filter(|label_span| label_span.at >= from && label_span.at < to);
        let new: Vec<LabelSpan> =
            new.map(|label_span| LabelSpan { at: label_span.at - start, ..*label_span }).collect();
        gzip.write(&text[start..to], from - start, &new);
        from = to;
    }
    gzip.finish()
}

#[test]
fn every_byte_has_a_code() {
    let text: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    for is_protobuf in [false, true] {
        assert_eq!(inflated(&zipped(&mut Gzip::new(is_protobuf), &text, 100, &[])), text);
    }
    assert_eq!(inflated(&zipped(&mut Gzip::new(false), b"", 1, &[])), b"");
}

#[test]
fn every_length_of_a_copy_is_written() {
    let mut gzip = Gzip::new(false);
    for length in 0..1100 {
        let text = [&b"begin"[..], &vec![b'x'; length], b"end"].concat();
        assert_eq!(inflated(&zipped(&mut gzip, &text, 600, &[])), text, "{length}");
    }
}

#[test]
fn every_distance_of_a_copy_is_written() {
    let mut gzip = Gzip::new(false);
    for between in (0..300).chain((9..17).flat_map(|log| (1 << log) - 20..(1 << log) + 20)) {
        let noise = (0..between).map(|number: u32| (number.wrapping_mul(0x9E37_79B1) >> 24) as u8);
        let text: Vec<u8> = b"abcdefgh".iter().copied().chain(noise).chain(*b"abcdefgh").collect();
        assert_eq!(inflated(&zipped(&mut gzip, &text, 5000, &[])), text, "{between}");
    }
}

/// Lines as an exposition has them, each with a label set of two pairs.
fn lines(count: usize, seed: usize) -> (Vec<u8>, Vec<LabelSpan>) {
    let (mut text, mut label_spans) = (Vec::new(), Vec::new());
    for line in 0..count {
        let index = (line * seed) % 90;
        text.extend_from_slice(format!("family_{}{{", line / 90).as_bytes());
        let labels = format!(r#"id="/docker/{:032x}",name="{}""#, index * 0x1234_5678_9abc, "web-".repeat(index % 40));
        label_spans.push(LabelSpan {
            at: text.len(),
            length: labels.len(),
            set: index as u64 + 1,
            index,
            row: line % 3,
        });
        text.extend_from_slice(labels.as_bytes());
        text.extend_from_slice(format!("}} {}\n", line * line % 1000).as_bytes());
    }
    (text, label_spans)
}

#[test]
fn label_sets_are_known_again_in_any_order_and_piece() {
    let mut gzip = Gzip::new(false);
    for (count, seed, chunk) in [(600, 1, 1 << 20), (600, 1, 1000), (600, 7, 333), (90, 89, 50), (600, 1, 70_000)] {
        let (text, label_spans) = lines(count, seed);
        let zipped = zipped(&mut gzip, &text, chunk, &label_spans);
        assert_eq!(inflated(&zipped), text, "{count} {seed} {chunk}");
        assert!(zipped.len() * 6 < text.len() || count == 90, "{} of {}", zipped.len(), text.len());
    }
}

#[test]
fn a_set_longer_than_the_window_is_written_too() {
    let long = "0123456789abcdefXYZ".repeat(5000);
    let (mut text, mut label_spans) = (Vec::new(), Vec::new());
    for number in 0..6 {
        label_spans.push(LabelSpan { at: text.len(), length: long.len(), set: 1 + number % 2, index: 0, row: 0 });
        text.extend_from_slice(long.as_bytes());
        text.extend_from_slice(b"} 1\n");
    }
    assert_eq!(inflated(&zipped(&mut Gzip::new(false), &text, 1000, &label_spans)), text);
}

#[test]
fn likeness_is_counted_to_the_byte() {
    for length in 0..40 {
        let one: Vec<u8> = (0..40).collect();
        let (mut other, mut longer) = (one.clone(), vec![99; 3]);
        if let Some(byte) = other.get_mut(length) {
            *byte = 200;
        }
        assert_eq!(common_prefix(&one, &other), length);
        assert_eq!(common_prefix(&one, &other[..length]), length);
        assert_eq!(common_suffix(&one, &other), 39 - length);
        longer.extend(&other);
        assert_eq!(common_suffix(&one, &longer), 39 - length);
    }
}
