//! What a compressed body weighs, of made-up containers: bytes per sample, which depend on no machine. The table of docs/FORMATS.md has
//! these figures; `cargo xtask bench render` prints them with the time that they take.

mod population;

use docker_stats_exporter::render::{BufferPool, render};
use docker_stats_exporter::scrape::Format;
use population::Population;

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf { native: false }];

/// Containers, whether eBPF programs count beside files, and the most bytes per sample of each format. At 1,000 containers 56 were
/// promised for text of files alone, and 42 with eBPF programs.
const LIMITS: [(usize, bool, [usize; 3]); 6] = [
    (100, false, [20, 20, 31]),
    (300, false, [49, 49, 65]),
    (1000, false, [48, 48, 64]),
    (100, true, [21, 21, 26]),
    (300, true, [38, 38, 48]),
    (1000, true, [38, 38, 47]),
];

#[test]
fn a_compressed_sample_weighs_no_more_than_the_documentation_says() {
    let mut heavy = Vec::new();
    for (containers, ebpf, limits) in LIMITS {
        let population = Population::new(containers, ebpf).unwrap();
        let exposed = population.exposed();
        let view = population.view(&exposed);
        let pool = BufferPool::default();
        let body = |format, gzip| render(&view, &[], format, gzip, &pool);
        let text = body(Format::Text, false);
        let samples = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count();
        assert!(samples > 50 * containers, "only {samples} samples of {containers} containers");
        for (format, limit) in FORMATS.into_iter().zip(limits) {
            let bytes = body(format, true).len();
            if bytes > limit * samples {
                heavy.push(format!(
                    "{containers} containers, eBPF {ebpf}, {format:?}: {bytes} bytes, {samples} samples"
                ));
            }
        }
    }
    assert!(heavy.is_empty(), "{heavy:#?}");
}
