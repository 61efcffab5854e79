//! What the compressor makes of an exposition inflates to that exposition: `tests/gzip.rs`, driven by a fuzzer.

#![no_main]

#[path = "../../tests/round_trip/mod.rs"]
mod round_trip;

use round_trip::{Choices, check};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(Choices(data));
});
