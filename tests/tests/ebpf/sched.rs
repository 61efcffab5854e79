//! How long tasks wait for a CPU, against what the kernel itself sums up for the only task of a container.

use std::time::Instant;

use anyhow::{Context, Result};
use exporter_tests::Exporter;
use exporter_tests::bare::BareContainers;

use super::ROUNDS;

const LATENCY: &str = "container_runqueue_latency_seconds";

/// Burns CPU time on one CPU without starting a process, and tells what the kernel has counted: nanoseconds waited and
/// times run, at the beginning and at the end.
const BURN: &str = "read a before runs </proc/$$/schedstat; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; \
                    read a after ended </proc/$$/schedstat; echo $before $runs $after $ended";

/// Runs it in a container while another one wants the same CPU.
fn burn(bare: &BareContainers, id: &str) -> Result<[f64; 4]> {
    let said = bare.run(id, &["taskset", "-c", "0", "busybox", "sh", "-c", BURN])?;
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().ok().with_context(|| said.clone())
}

#[test]
fn a_task_s_waiting_is_what_the_kernel_says_of_it() {
    let exporter = Exporter::builder().flag("--collector.ebpf_sched").start().unwrap();
    let seen: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            let bare = BareContainers::make(2).unwrap();
            let [one, other] = &bare.ids[..] else { panic!("two were made") };
            let began = Instant::now();
            let [before, runs, after, ended] = std::thread::scope(|scope| {
                let rival = scope.spawn(|| burn(&bare, other));
                let numbers = burn(&bare, one).unwrap();
                rival.join().unwrap().unwrap();
                numbers
            });
            let exposition = exporter.scrape().unwrap();
            let elapsed = began.elapsed().as_secs_f64();
            let label = [("id", &*bare.path(one))];
            let sum = exposition.value(&format!("{LATENCY}_sum"), &label).unwrap() * 1e9;
            let count = exposition.value(&format!("{LATENCY}_count"), &label).unwrap();
            let reported = exposition.integer(&format!("{LATENCY}_bucket"), &[label[0], ("le", "+Inf")]).unwrap();
            assert_eq!(reported.to_string(), count.to_string());
            // The container's idle process waits, too, and the task itself before and after what it tells: together they
            // are two, and how much that is depends on who else is here. In a round of many it is little.
            assert!(sum <= 2e9 * elapsed, "{sum} ns in {count} runs, within {elapsed} s");
            let least = sum >= (after - before) * 0.95 && count >= (ended - runs) * 0.95;
            let exact = least && sum <= after * 1.05 + 1e9 && count <= ended * 1.05 + 50.0;
            (!exact).then(|| format!("{sum} ns in {count} runs; the kernel says {before}-{after} in {runs}-{ended}"))
        })
        .collect();
    assert!(seen.len() < ROUNDS, "{seen:#?}");
    let names = super::program_names(exporter.pid()).unwrap();
    assert!(names.iter().any(|name| name == "sched_latency"), "{names:?}");
    exporter.stop().unwrap();
}
