//! A device that is slow for a known reason: its own disk serves a container so many reads a second. dd says how long that
//! takes, and the kernel counts it for the device, apart from any cgroup. A busy machine makes it slower for all three.

use anyhow::{Context, Result};
use exporter_tests::exposition::Format;
use exporter_tests::{Engine, Exporter};

use super::disk::Loop;
use super::histogram::Latencies;
use super::talk::sleeping;
use super::{ROUNDS, named};

const READS: u32 = 20;
const OPERATIONS: &str = "container_blkio_operations_total";

/// The seconds in "81920 bytes (82 kB, 80 KiB) copied, 0.921357 s, 88.9 kB/s"; busybox's own dd tells none.
fn seconds(said: &str) -> Result<f64> {
    let (_, rest) = said.split_once("copied, ").with_context(|| said.to_owned())?;
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).with_context(|| said.to_owned())
}

#[test]
#[cfg_attr(
    feature = "guest",
    ignore = "on cgroup v2 what the loop device asks of the disk below is the container's, too"
)]
fn reads_of_a_slow_device_take_as_long_as_dd_and_the_kernel_say() {
    let disk = Loop::make(1 << 20).unwrap();
    let engine = Engine::shared().unwrap();
    // What reads the loop device reads its disk, in the container's name: there it has to wait its turn.
    let options =
        [format!("--device={}", disk.device), format!("--device-read-iops={}:{READS}", disk.below().unwrap())];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let container = sleeping(engine, "slow", &options).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let mine = ("name", container.name.as_str());
    let dd = |count: u32| {
        let line = format!("/usr/bin/dd if={} of=/dev/null bs=4k count={count} iflag=direct 2>&1", disk.device);
        seconds(&container.exec(&["/usr/bin/bash", "-c", &line]).unwrap()).unwrap()
    };
    // What dd itself is read from is in memory from now on.
    dd(1);
    let now = || {
        let exposition = exporter.scrape_unjudged("/metrics", Format::Text).unwrap();
        let done = exposition.integer(OPERATIONS, &[mine, ("operation", "read"), ("device", &disk.device)]);
        (Latencies::of(&exposition, mine, "read").unwrap(), done.unwrap_or(0), disk.reads().unwrap())
    };
    let unlike: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            let (earlier, begun, before) = now();
            let elapsed = dd(READS);
            let (reported, done, after) = now();
            let (reported, done) = (reported.since(&earlier).unwrap(), done - begun);
            let kernel = after.seconds - before.seconds;
            let said = format!("{done} reads of it, {kernel} s by the kernel, {elapsed} s by dd: {reported:?}");
            assert!(done <= i128::from(READS), "{said}");
            // Somebody else may look at a device that has just come, and a few reads may go unseen: the slow ones are every
            // other. What the disk below does for it, and for dd's own program, is fast: there, waiting comes before.
            let alone = (after.count - before.count - f64::from(READS)).abs() < 0.5;
            let unseen = 1.0 - f64::from(i32::try_from(done).unwrap()) / f64::from(READS);
            let said_by_dd = 0.8 * kernel <= elapsed;
            let range = 0.9 * kernel * (1.0 - 2.0 * unseen)..1.25 * kernel;
            let alike = alone && said_by_dd && kernel > 0.2 && unseen < 0.25 && range.contains(&reported.seconds);
            (!alike).then_some(said)
        })
        .collect();
    assert!(unlike.len() < ROUNDS, "{unlike:#?}");
    exporter.stop().unwrap();
}
