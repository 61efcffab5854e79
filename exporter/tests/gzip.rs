//! Compressed expositions against three inflaters that are not ours: flate2's for thousands of them, and for one the `gzip`
//! program and Python's `zlib`, where this machine has them.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests may fail a test")]

mod round_trip;

use std::io::Write as _;
use std::process::{Command, Stdio};

use round_trip::{Choices, check};

/// Repeatable chance: splitmix64.
fn chance(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let word = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
    };
    std::iter::repeat_with(word).flat_map(u64::to_le_bytes).take(bytes).collect()
}

#[test]
fn every_exposition_inflates_to_itself() {
    let (mut most, mut least) = (0, usize::MAX);
    for seed in 0..36 {
        // Short inputs end in nothing but zeros: many containers that are all the same.
        let (plain, _) = check(Choices(&chance(seed, 1 << (seed % 18))));
        most = most.max(plain.len());
        least = least.min(plain.len());
    }
    assert!(least < 2_000 && most > 1_000_000, "the sizes tried were only from {least} to {most}");
}

#[test]
fn other_inflaters_read_it() {
    let (plain, zipped) = check(Choices(&chance(7, 1 << 17)));
    assert!(plain.len() > 100_000, "only {} bytes", plain.len());
    let python = "import gzip,sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    let mut tried = 0;
    for words in [&["gzip", "-dc"][..], &["python3", "-c", python]] {
        tried += usize::from(inflated_by(words, &zipped).is_some_and(|text| {
            assert!(text == plain, "{} makes {} bytes of {}", words[0], text.len(), plain.len());
            true
        }));
    }
    assert!(tried > 0, "neither gzip nor python3 is installed; install one of them to run this test");
}

/// What a program makes of it; none where it is not installed.
fn inflated_by(words: &[&str], zipped: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(words[0]);
    let mut process = command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut input = process.stdin.take().expect("a pipe");
    let zipped = zipped.to_vec();
    // It writes before it has read everything.
    let writer = std::thread::spawn(move || input.write_all(&zipped));
    let output = process.wait_with_output().expect("an end");
    writer.join().expect("no panic").expect("it reads everything");
    assert!(output.status.success(), "{} ended with {}", words[0], output.status);
    Some(output.stdout)
}
