//! The histogram of latencies beside what fio says of the same reads. In a guest it is left out, and said to be: processors
//! are emulated there, so that waking fio up takes longer than the disk does, and the two rightly differ.
//!
//! What is compared holds on every machine, however busy. fio's clock runs from before a read until fio is awake again, and
//! the device's part lies within: of the reads that fio calls fast, the device was no slower with any. How much slower fio
//! is depends on who else wants a processor: only the fastest tenth is held against it, and in one round of many.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use exporter_tests::Exporter;
use exporter_tests::bare::BareContainers;
use exporter_tests::exposition::Format;
use serde_json::Value;

use super::ROUNDS;
use super::histogram::Latencies;

const READS: u32 = 2000;
/// How many of them may be unknown to one side: see [`ROUNDS`].
const UNKNOWN: f64 = 20.0;

/// The latencies of a run, as fio has seen them from user space: in seconds, with how many there were, in order.
struct Seen(Vec<(f64, f64)>);

impl Seen {
    /// Reads a file in a container, one after the other at random, and past the page cache.
    fn by_fio(bare: &BareContainers, id: &str, file: &str, reads: u32) -> Result<Self> {
        let (name, reads) = (format!("--filename={file}"), format!("--number_ios={reads}"));
        let command = ["fio", "--name=reads", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=psync"];
        // The clock that the kernel's program reads, and not the processor's own.
        let words = ["--clocksource=clock_gettime", "--output-format=json+", &name, &reads];
        let said = bare.run(id, &[&command[..], &words].concat()).context("fio is needed (Debian package fio)")?;
        let json = said.find('{').and_then(|start| said.get(start..)).context("no JSON")?;
        let told: Value = serde_json::from_str(json).with_context(|| said.clone())?;
        let bins = told.pointer("/jobs/0/read/clat_ns/bins").and_then(Value::as_object);
        let mut seen = bins
            .with_context(|| format!("no bins: {said}"))?
            .iter()
            .map(|(nanoseconds, count)| {
                let count = count.as_f64().with_context(|| nanoseconds.clone())?;
                Ok((nanoseconds.parse::<f64>()? / 1e9, count))
            })
            .collect::<Result<Vec<_>>>()?;
        seen.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(Self(seen))
    }

    fn count(&self) -> f64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// How many took at most so long, for certain: a bin is as wide as a 64th of its latency, and known by its middle.
    fn at_most(&self, seconds: f64) -> f64 {
        self.0.iter().filter(|(latency, _)| latency * (1.0 + 1.0 / 64.0) <= seconds).map(|(_, count)| count).sum()
    }

    /// The latency that such a part of them did not exceed.
    fn part(&self, part: f64) -> Option<f64> {
        let (wanted, mut so_far) = (self.count() * part, 0.0);
        let reached = self.0.iter().find(|(_, count)| {
            so_far += count;
            so_far >= wanted
        });
        reached.map(|(latency, _)| *latency)
    }
}

#[test]
#[cfg_attr(feature = "guest", ignore = "emulated processors: waking fio takes longer than the disk does")]
fn the_histogram_looks_as_fio_reports_it() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = directory.path().join("data");
    fs::write(&file, vec![7; 16 << 20]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    let file = file.display().to_string();
    let exporter = Exporter::builder().start().unwrap();
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids[0].as_str();
    let path = bare.path(id);
    let told = || {
        let exposition = exporter.scrape_unjudged("/metrics", Format::Text).unwrap();
        Latencies::of(&exposition, ("id", &path), "read").unwrap()
    };
    // The files that fio itself is loaded from are read here, on a machine that has not run it yet: thousands of reads.
    Seen::by_fio(&bare, id, &file, 1).unwrap();
    let unlike: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            let before = told();
            let began = Instant::now();
            let seen = Seen::by_fio(&bare, id, &file, READS).unwrap();
            let elapsed = began.elapsed().as_secs_f64();
            let ours = told().since(&before).unwrap();
            let unknown = seen.count() - ours.count;
            if !(0.0..=UNKNOWN).contains(&unknown) {
                return Some(format!("{} reads by fio, {} by us", seen.count(), ours.count));
            }
            // One after the other.
            assert!(ours.seconds <= elapsed, "{} s of reading in {elapsed} s", ours.seconds);
            for (bound, count) in &ours.buckets {
                let fast = seen.at_most(*bound);
                assert!(
                    count + UNKNOWN >= fast,
                    "{count} of {} took at most {bound} s, which {fast} did with the way to fio: {ours:?}",
                    ours.count
                );
            }
            let tenths = [ours.part(0.1), seen.part(0.1).and_then(|latency| ours.bucket(latency))].map(Option::unwrap);
            (tenths[0].abs_diff(tenths[1]) > 1)
                .then(|| format!("the fastest tenth is in the buckets {tenths:?}: {ours:?}"))
        })
        .collect();
    assert!(unlike.len() < ROUNDS, "{unlike:#?}");
    exporter.stop().unwrap();
}
