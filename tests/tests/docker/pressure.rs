//! Time lost waiting, under a contention that the test makes.

use std::thread::available_parallelism;

use anyhow::{Context, Result};
use exporter_tests::kernel::Kernel;
use exporter_tests::{Container, Engine, Exporter};

use super::{bracketed, named};

/// Resource, the kernel's line, our name for it.
const LINES: &[(&str, &str, &str)] = &[
    ("cpu", "some", "container_pressure_cpu_waiting_seconds_total"),
    ("cpu", "full", "container_pressure_cpu_stalled_seconds_total"),
    ("memory", "some", "container_pressure_memory_waiting_seconds_total"),
    ("memory", "full", "container_pressure_memory_stalled_seconds_total"),
    ("io", "some", "container_pressure_io_waiting_seconds_total"),
    ("io", "full", "container_pressure_io_stalled_seconds_total"),
];

/// Every line's total in seconds; none where the kernel has no such line.
fn totals(kernel: &Kernel) -> Result<Vec<Option<f64>>> {
    LINES.iter().map(|(resource, line, _)| kernel.pressure_seconds(resource, line)).collect()
}

#[test]
fn waiting_for_a_processor_is_counted() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "pressure", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let kernel = container.kernel().unwrap();
    let idle = totals(&kernel).unwrap();
    // Twice as much work as there are processors for it.
    let burners = 2 * available_parallelism().unwrap().get();
    let burn = format!("for i in $(seq {burners}); do (ulimit -t 1; while :; do :; done) & done; wait; true");
    container.exec(&["sh", "-c", &burn]).unwrap();

    let before = totals(&kernel).unwrap();
    let exposition = exporter.scrape().unwrap();
    let after = totals(&kernel).unwrap();
    let mine = [("name", container.name.as_str())];
    for (((_, _, name), before), after) in LINES.iter().zip(&before).zip(&after) {
        match before.zip(*after) {
            Some((before, after)) => {
                let ours = exposition.value(name, &mine).unwrap();
                bracketed(before, ours, after).context(*name).unwrap();
            }
            None => assert!(!exposition.has(name, &mine), "{name} on a kernel that does not count it"),
        }
    }
    if let Some((idle, waited)) = idle[0].zip(before[0]) {
        assert!(waited - idle > 0.2, "{} s waited for a processor", waited - idle);
    }
    exporter.stop().unwrap();
}
