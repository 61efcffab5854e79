//! The histogram of latencies beside what fio says of the same reads. In a guest it is left out, and said to be: processors
//! are emulated there, so that waking fio up takes longer than the disk does, and the two rightly differ.
//!
//! What is compared holds on every machine, however busy. fio's clock runs from before a read until fio is awake again, and
//! the device's part lies within: of the reads that fio calls fast, the device was no slower with any. How much slower fio
//! is depends on who else wants a processor: only the fastest tenth is held against it. One round of many has to agree: a
//! histogram that is wrong is so in each.

use std::fs;

use anyhow::{Context, Result};
use exporter_tests::Exporter;
use exporter_tests::bare::BareContainers;
use exporter_tests::exposition::Format;
use serde_json::Value;

use super::ROUNDS;
use super::histogram::Latencies;

const READS: u32 = 2000;
/// How many of them may be unknown to one side. Some completions are not seen (see [`ROUNDS`]), and some reads are not fio's:
/// of its own program, where that has left the page cache again.
const UNKNOWN: f64 = 100.0;

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
        let reported: Value = serde_json::from_str(json).with_context(|| said.clone())?;
        let bins = reported.pointer("/jobs/0/read/clat_ns/bins").and_then(Value::as_object);
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

/// What of ours cannot be the latencies that fio has seen, if anything.
fn unlikeness(seen: &Seen, ours: &Latencies) -> Option<String> {
    if (seen.count() - ours.count).abs() > 3.0 * UNKNOWN {
        return Some(format!("{} reads by fio, {} by us", seen.count(), ours.count));
    }
    let slower = ours.buckets.iter().find(|(bound, count)| count + UNKNOWN < seen.at_most(*bound));
    if let Some((bound, count)) = slower {
        let fast = seen.at_most(*bound);
        return Some(format!("{count} took at most {bound} s, which {fast} did with the way to fio: {ours:?}"));
    }
    let tenths = [ours.part(0.1), seen.part(0.1).and_then(|latency| ours.bucket(latency))].map(Option::unwrap);
    (tenths[0].abs_diff(tenths[1]) > 1).then(|| format!("the fastest tenth is in the buckets {tenths:?}: {ours:?}"))
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
    let reported = || {
        let exposition = exporter.scrape_unjudged("/metrics", Format::Text).unwrap();
        Latencies::of(&exposition, ("id", &path), "read").unwrap()
    };
    // Most of what fio itself is loaded from is read here, on a machine that has not run it yet: thousands of reads.
    Seen::by_fio(&bare, id, &file, 1).unwrap();
    let unlike: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            let before = reported();
            let seen = Seen::by_fio(&bare, id, &file, READS).unwrap();
            let ours = reported().since(&before).unwrap();
            unlikeness(&seen, &ours)
        })
        .collect();
    assert!(unlike.len() < ROUNDS, "{unlike:#?}");
    exporter.stop().unwrap();
}

#[test]
fn a_histogram_that_is_wrong_is_unlike_fio_s() {
    // 2,000 reads of 200 µs, in the bucket up to 244 µs.
    let seen = Seen(vec![(200e-6, 2000.0)]);
    let reported = |reads: f64, bucket: usize| {
        let mut reported = Latencies::none();
        reported.count = reads;
        reported.buckets.iter_mut().skip(bucket).for_each(|(_, count)| *count = reads);
        unlikeness(&seen, &reported)
    };
    assert_eq!(reported(2000.0, 2), None);
    assert_eq!((reported(1950.0, 2), reported(2050.0, 1)), (None, None));
    for (reads, bucket) in [(2000.0, 3), (2000.0, 4), (2000.0, 0), (1000.0, 2), (4000.0, 2)] {
        assert!(reported(reads, bucket).is_some(), "{reads} reads in bucket {bucket}");
    }
}
