//! Block I/O past the page cache: known bytes, known operations, on a disk and on a device of the test's own.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::kernel::Kernel;
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::disk::{Loop, alone_with_devices};
use super::histogram::Latencies;
use super::{ROUNDS, named};

const MIB: i128 = 1024 * 1024;
const BYTES: &str = "container_blkio_bytes_total";
const OPERATIONS: &str = "container_blkio_operations_total";
const LATENCY: &str = "container_blkio_latency_seconds";
const LOADED: &str = "docker_stats_exporter_ebpf_program_loaded";
const ENTRIES: &str = "docker_stats_exporter_ebpf_map_entries";

/// What an exposition says of one container's operation of one kind, on all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reported {
    bytes: i128,
    operations: i128,
    seconds: f64,
}

impl Reported {
    fn of(exposition: &Exposition, label: (&str, &str), operation: &str) -> Result<Self> {
        let labels = [label, ("operation", operation)];
        let sum = |name: &str| -> Result<i128> {
            let samples = exposition.select(name, &labels).into_iter();
            samples.map(|sample| sample.text.parse::<i128>().with_context(|| sample.text.clone())).sum()
        };
        let reported = Self {
            bytes: sum(BYTES)?,
            operations: sum(OPERATIONS)?,
            seconds: exposition.value(&format!("{LATENCY}_sum"), &labels).unwrap_or(0.0),
        };
        if reported.operations > 0 {
            let count = exposition.integer(&format!("{LATENCY}_count"), &labels)?;
            ensure!(count == reported.operations, "{count} latencies of {} operations", reported.operations);
            Latencies::of(exposition, label, operation)?;
        }
        Ok(reported)
    }

    fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            operations: self.operations - before.operations,
            seconds: self.seconds - before.seconds,
        }
    }
}

fn read(from: &str, blocks: usize) -> Vec<String> {
    let words = format!("busybox dd if={from} of=/dev/null bs=4k count={blocks} iflag=direct");
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn known_bytes_and_operations_are_counted_for_their_container_and_no_other() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "blkio", &[]).unwrap();
    let other = Container::sleeping(engine, "idle", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    assert_eq!(exporter.scrape().unwrap().integer(LOADED, &[("program", "block_complete")]).unwrap(), 1);
    // Its blocks are found beforehand, so that nothing but the data is written later.
    let write = "dd if=/dev/zero of=/data bs=256k count=64 oflag=direct conv=notrunc";
    container.exec(&["sh", "-c", &format!("{write} && sync")]).unwrap();
    let reported = |operation: &str| {
        let exposition = exporter.scrape().unwrap();
        let of = |one: &Container<'_>| Reported::of(&exposition, ("name", &one.name), operation).unwrap();
        (of(&container), of(&other))
    };
    let (mut exact_writes, mut exact_reads) = (false, false);
    for _ in 0..ROUNDS {
        let (before, idle) = reported("write");
        container.exec(&["sh", "-c", write]).unwrap();
        let (after, still) = reported("write");
        let written = after.since(before);
        assert_eq!(idle, still, "an idle container has written");
        exact_writes |= written.bytes == 16 * MIB && (64..=128).contains(&written.operations);

        let (before, idle) = reported("read");
        let began = Instant::now();
        container.exec(&["dd", "if=/data", "of=/dev/null", "bs=4k", "count=2000", "iflag=direct"]).unwrap();
        let elapsed = began.elapsed().as_secs_f64();
        let (after, still) = reported("read");
        let done = after.since(before);
        assert_eq!(idle, still, "an idle container has read");
        // One after the other: together they cannot have taken longer than the command.
        assert!(done.seconds > 0.0 && done.seconds <= elapsed, "{done:?} in {elapsed} s");
        exact_reads |= done.bytes == 2000 * 4096 && done.operations == 2000;
        if exact_writes && exact_reads {
            break;
        }
    }
    assert!(exact_writes && exact_reads, "16 MiB written: {exact_writes}; 2,000 blocks read: {exact_reads}");
    exporter.stop().unwrap();
}

#[test]
fn details_agree_with_what_the_other_families_say() {
    let disk = Loop::make(1 << 20).unwrap();
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids[0].as_str();
    let path = bare.path(id);
    let flags = ["--collector.blkio_detail", "--no-collector.ebpf_blkio"];
    let details = Exporter::builder().flag(flags[0]).flag(flags[1]).start().unwrap();
    let both = Exporter::builder().flag(flags[0]).start().unwrap();
    let usual = Exporter::builder().start().unwrap();
    let words = read(&disk.device, 100);
    bare.run(id, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let labels = [("id", path.as_str()), ("device", disk.device.as_str())];
    let sectors = "container_fs_sector_reads_total";
    let weighted = "container_fs_io_time_weighted_seconds_total";

    let exposition = both.scrape().unwrap();
    let bytes = exposition.integer(BYTES, &[labels[0], labels[1], ("operation", "read")]).unwrap();
    assert!(bytes > 0 && exposition.integer(sectors, &labels).unwrap() * 512 == bytes, "{bytes} bytes");
    let seconds = exposition.value("container_fs_read_seconds_total", &labels).unwrap();
    // Nothing but reads.
    assert!(seconds > 0.0 && (exposition.value(weighted, &labels).unwrap() - seconds).abs() < 1e-9, "{seconds} s");

    let exposition = details.scrape().unwrap();
    assert!(exposition.integer(sectors, &labels).unwrap() > 0 && exposition.family(BYTES).is_none());
    assert!(!usual.scrape().unwrap().has(sectors, &labels), "opt-in");
    for exporter in [details, both, usual] {
        exporter.stop().unwrap();
    }
}

#[test]
fn the_families_of_files_are_filled_where_the_files_are_silent() {
    let disk = Loop::make(1 << 20).unwrap();
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids[0].as_str();
    let exporter = Exporter::builder().start().unwrap();
    let label = ("id", &*bare.path(id));
    let fs = |name: &str, exposition: &Exposition| {
        exposition.integer(&format!("container_fs_{name}_total"), &[label, ("device", &disk.device)])
    };
    assert!(fs("reads", &exporter.scrape().unwrap()).is_err(), "no I/O, no series");
    let words = read(&disk.device, 100);
    bare.run(id, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let exposition = exporter.scrape().unwrap();
    let kernel = Kernel::of(std::process::id()).unwrap().at(Path::new(&bare.path(id)));
    let by_file = kernel.devices().unwrap_or_default().contains_key(&disk.number().unwrap());
    let (reads, bytes) = (fs("reads", &exposition).unwrap(), fs("reads_bytes", &exposition).unwrap());
    assert!((1..=100).contains(&reads) && bytes == reads * 4096, "{reads} reads of {bytes} bytes, by file: {by_file}");
    assert_eq!(fs("writes", &exposition).unwrap(), 0);
    assert_eq!(fs("writes_bytes", &exposition).unwrap(), 0);
    // Never back, whatever comes later.
    bare.run(id, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert!(fs("reads", &exporter.scrape().unwrap()).unwrap() >= reads);
    exporter.stop().unwrap();
}

#[test]
fn a_disk_without_statistics_has_operations_and_no_times() {
    let mut disk = Loop::make(1 << 20).unwrap();
    disk.set("iostats", "0").unwrap();
    // A scheduler has the kernel take times of requests all the same. A kernel may be built without this one.
    _ = disk.set("scheduler", "mq-deadline");
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids[0].as_str();
    let exporter = Exporter::builder().start().unwrap();
    let path = bare.path(id);
    let device = disk.device.clone();
    let words = read(&device, 100);
    let run = || bare.run(id, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let labels = [("id", path.as_str()), ("device", device.as_str())];
    let count = |exposition: &Exposition| {
        exposition.integer(OPERATIONS, &[labels[0], labels[1], ("operation", "read")]).unwrap_or(0)
    };
    run();
    let exposition = exporter.scrape().unwrap();
    assert!((1..=100).contains(&count(&exposition)), "{} reads", count(&exposition));
    assert!(!exposition.has("container_fs_read_seconds_total", &labels), "no time is no 0");
    // The disk below is another one's I/O: what the container itself has done is on this disk alone.
    let on_others = exposition.select(OPERATIONS, &labels[..1]).len() > 1;
    assert!(on_others || !exposition.has(&format!("{LATENCY}_count"), &labels[..1]), "a latency of nothing");

    disk.set("iostats", "1").unwrap();
    run();
    let seen = exporter.scrape_until(super::SOON, "times with statistics", |exposition| {
        run();
        Ok((exposition.value("container_fs_read_seconds_total", &labels)?, count(exposition)))
    });
    let (seconds, reads) = seen.unwrap();
    assert!(seconds > 0.0 && reads > 1, "{seconds} s in {reads} reads");
    exporter.stop().unwrap();
}

#[test]
fn a_request_that_completes_in_parts_is_one_operation_with_all_its_bytes() {
    let disk = Loop::make(64 << 10).unwrap();
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids[0].as_str();
    let exporter = Exporter::builder().start().unwrap();
    let path = bare.path(id);
    let reported = || Reported::of(&exporter.scrape().unwrap(), ("id", &path), "read").unwrap();
    // The file is cut below the device: a read across its end completes up to there, and fails for the rest.
    File::options().write(true).open(&disk.file).unwrap().set_len(20 << 10).unwrap();
    let device = |exposition: &Exposition, name: &str| {
        exposition.integer(name, &[("id", &path), ("operation", "read"), ("device", &disk.device)]).unwrap_or(0)
    };
    let seen = (0..ROUNDS).find_map(|_| {
        let before = exporter.scrape().unwrap();
        let words = format!("busybox dd if={} of=/dev/null bs=32k count=1 iflag=direct", disk.device);
        let failed = bare.run(id, &words.split(' ').collect::<Vec<_>>()).unwrap_err();
        assert!(failed.to_string().contains("error"), "{failed}");
        let after = exporter.scrape().unwrap();
        let since = |name: &str| device(&after, name) - device(&before, name);
        let seen = (since(OPERATIONS), since(BYTES));
        assert!(seen.0 <= 1 && seen.1 <= 32 << 10, "one read counted as {seen:?}");
        (seen == (1, 32 << 10)).then_some(seen)
    });
    assert!(seen.is_some(), "one read of 32 KiB was never counted as such");
    assert!(reported().operations >= 1);
    exporter.stop().unwrap();
}

#[test]
fn entries_go_with_their_cgroups_and_nobody_inherits_io() {
    let _alone = alone_with_devices();
    let disk = Loop::make(1 << 20).unwrap();
    let exporter = Exporter::builder().start().unwrap();
    let entries = |what: &str, limit: f64| {
        exporter.scrape_until(Duration::from_secs(30), what, |exposition| {
            let entries = exposition.value(ENTRIES, &[("map", "block")])?;
            ensure!(entries <= limit, "{entries} entries, not yet {limit}");
            Ok(entries)
        })
    };
    let before = entries("any", f64::MAX).unwrap();
    for round in 0..4 {
        let bare = BareContainers::make(40).unwrap();
        for (index, id) in bare.ids.iter().enumerate() {
            let words = read(&disk.device, index + 1);
            bare.run(id, &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        }
        let exposition = exporter.scrape().unwrap();
        let labels = |id: &str| [("id".to_owned(), bare.path(id))];
        let mut total = 0;
        for (id, own) in bare.ids.iter().zip(1_i128..) {
            let [(_, path)] = labels(id);
            let device = [("id", path.as_str()), ("operation", "read"), ("device", disk.device.as_str())];
            let done = exposition.integer(OPERATIONS, &device).unwrap_or(0);
            assert!(done <= own, "{done} operations where {own} were done, in round {round}");
            total += done;
        }
        assert!(total > 0, "nothing was counted in round {round}");
    }
    let after = entries("the entries to be given back", before + 30.0).unwrap();
    assert!(after <= before + 30.0, "{before} entries before, {after} after");
    exporter.stop().unwrap();
}

#[test]
fn a_collector_that_is_off_loads_nothing() {
    let exporter = Exporter::builder().flag("--no-collector.ebpf_blkio").start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(!exposition.has(LOADED, &[("program", "block_complete")]));
    assert!(!exposition.has(LOADED, &[("program", "sched_latency")]), "opt-in");
    let names = super::program_names(exporter.pid()).unwrap();
    assert!(names.iter().any(|name| name == "network_receive"), "{names:?}");
    assert!(!names.iter().any(|name| name == "block_complete" || name == "sched_latency"), "{names:?}");
    exporter.stop().unwrap();
}
