//! The histogram of latencies beside what fio says of the same reads. In a guest it is left out, and said to be: processors
//! are emulated there, so that waking fio up takes longer than the disk does, and the two rightly differ.

use std::fs;

use anyhow::{Context, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::{Exporter, Exposition};
use serde_json::Value;

use super::ROUNDS;

const LATENCY: &str = "container_blkio_latency_seconds";
const READS: u32 = 2000;

/// Reads of one container.
struct Told {
    count: f64,
    seconds: f64,
    /// The bound of a bucket and how many were not slower.
    buckets: Vec<(f64, f64)>,
}

impl Told {
    fn of(exposition: &Exposition, path: &str) -> Result<Self> {
        let labels = [("id", path), ("operation", "read")];
        let buckets = exposition.select(&format!("{LATENCY}_bucket"), &labels).into_iter();
        let buckets = buckets.map(|bucket| Ok((bucket.label("le").replace("+Inf", "inf").parse()?, bucket.value)));
        Ok(Self {
            count: exposition.value(&format!("{LATENCY}_count"), &labels)?,
            seconds: exposition.value(&format!("{LATENCY}_sum"), &labels)?,
            buckets: buckets.collect::<Result<_>>()?,
        })
    }

    /// The bucket that such a part of them are in or below.
    fn part(&self, part: f64) -> Option<usize> {
        self.buckets.iter().position(|(_, count)| *count >= self.count * part)
    }

    /// The bucket that a latency belongs to.
    fn bucket(&self, seconds: f64) -> Option<usize> {
        self.buckets.iter().position(|(bound, _)| seconds <= *bound)
    }
}

/// Mean, median and fastest tenth of the completion latency, in seconds, as fio has seen them from user space.
fn fio(bare: &BareContainers, id: &str, file: &str) -> Result<[f64; 3]> {
    let (name, reads) = (format!("--filename={file}"), format!("--number_ios={READS}"));
    let said = bare
        .run(
            id,
            &[
                "fio",
                "--name=reads",
                &name,
                &reads,
                "--rw=randread",
                "--bs=4k",
                "--direct=1",
                "--ioengine=psync",
                "--output-format=json",
            ],
        )
        .context("fio is needed (Debian package fio)")?;
    let json = said.find('{').and_then(|start| said.get(start..)).context("no JSON")?;
    let told: Value = serde_json::from_str(json).with_context(|| said.clone())?;
    let number = |path: &str| told.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path}: {said}"));
    let done = number("/jobs/0/read/total_ios")?;
    ensure!((f64::from(READS)..f64::from(READS) * 1.1).contains(&done), "fio has read {done} times");
    let nanoseconds = |what: &str| number(&format!("/jobs/0/read/clat_ns/{what}"));
    let told = [nanoseconds("mean")?, nanoseconds("percentile/50.000000")?, nanoseconds("percentile/10.000000")?];
    Ok(told.map(|nanoseconds| nanoseconds / 1e9))
}

#[test]
#[cfg_attr(feature = "guest", ignore = "emulated processors: waking fio takes longer than the disk does")]
fn the_histogram_looks_as_fio_reports_it() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = directory.path().join("data");
    fs::write(&file, vec![7; 16 << 20]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    let exporter = Exporter::builder().start().unwrap();
    let seen: Vec<String> = (0..ROUNDS)
        .map_while(|_| {
            // A container of its own each time, so that its histogram is of this run alone.
            let bare = BareContainers::make(1).unwrap();
            let id = bare.ids[0].as_str();
            let [mean, median, fast] = fio(&bare, id, &file.display().to_string()).unwrap();
            let told = Told::of(&exporter.scrape().unwrap(), &bare.path(id)).unwrap();
            let ours = told.seconds / told.count;
            let buckets = [told.part(0.5), told.part(0.1)].map(Option::unwrap);
            let of_fio = [told.bucket(median), told.bucket(fast)].map(Option::unwrap);
            let said = format!("mean {ours} s, buckets {buckets:?}; fio: {mean} s, {of_fio:?}; {} reads", told.count);
            // A disk's part of the time is never more than all of it, whatever the machine does besides. The file that
            // fio was loaded from may have been read, too.
            assert!(told.seconds <= mean * f64::from(READS) * 1.1 + 1.0, "{said}");
            assert!(told.count < f64::from(READS) * 1.5, "{said}");
            // What fio has waited for beside the disk is a processor. A tenth of the reads gets one at once on every
            // machine, most of them where others leave one free.
            let alike = buckets[1].abs_diff(of_fio[1]) <= 1 && buckets[0] <= of_fio[0] + 1 && ours <= mean * 1.02;
            let most = told.count >= f64::from(READS) * 0.5;
            (!alike || !most).then_some(said)
        })
        .collect();
    assert!(seen.len() < ROUNDS, "{seen:#?}");
    exporter.stop().unwrap();
}
