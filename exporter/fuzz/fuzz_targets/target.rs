//! Runs the target that the environment variable `FUZZ_TARGET` names under libFuzzer.

#![no_main]

#[path = "../../tests/round_trip/mod.rs"]
mod round_trip;

use std::env;
use std::sync::LazyLock;

use docker_stats_exporter::fuzz::TARGETS;
use round_trip::{Choices, check};

static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names no target");
    let listed = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check);
    // What the compressor makes of an exposition inflates to that exposition.
    let gzip: fn(&[u8]) = |data| drop(check(Choices(data)));
    listed.or((name == "gzip").then_some(gzip)).expect("FUZZ_TARGET names no target")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));
