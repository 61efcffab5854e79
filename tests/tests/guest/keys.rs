//! Every key of the v2 files that a value comes from, written down a second time and by hand: a container that has done a
//! bit of everything is frozen, so that its files stand still, and then each of our values must be the kernel's, exactly.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use exporter_tests::kernel::Kernel;
use exporter_tests::{Container, Engine, Exporter, Exposition, wait};

use crate::{SOON, alone, named, run};

/// Microseconds in our seconds, bytes in our pages.
const MICRO: f64 = 1e6;
const PAGE: f64 = 4096.0;

/// A value, its labels, and the kernel's file and key (none in a file of one number), and how many of the kernel's units are
/// one of ours.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str, f64);

const ROWS: &[Row] = &[
    ("container_cpu_usage_seconds_total", &[("cpu", "total")], "cpu.stat", "usage_usec", MICRO),
    ("container_cpu_user_seconds_total", &[], "cpu.stat", "user_usec", MICRO),
    ("container_cpu_system_seconds_total", &[], "cpu.stat", "system_usec", MICRO),
    ("container_cpu_cfs_periods_total", &[], "cpu.stat", "nr_periods", 1.0),
    ("container_cpu_cfs_throttled_periods_total", &[], "cpu.stat", "nr_throttled", 1.0),
    ("container_cpu_cfs_throttled_seconds_total", &[], "cpu.stat", "throttled_usec", MICRO),
    ("container_cpu_cfs_burst_periods_total", &[], "cpu.stat", "nr_bursts", 1.0),
    ("container_cpu_cfs_burst_seconds_total", &[], "cpu.stat", "burst_usec", MICRO),
    ("container_memory_usage_bytes", &[], "memory.current", "", 1.0),
    ("container_memory_max_usage_bytes", &[], "memory.peak", "", 1.0),
    ("container_memory_swap", &[], "memory.swap.current", "", 1.0),
    ("container_memory_rss", &[], "memory.stat", "anon", 1.0),
    ("container_memory_cache", &[], "memory.stat", "file", 1.0),
    ("container_memory_mapped_file", &[], "memory.stat", "file_mapped", 1.0),
    ("container_memory_kernel_usage", &[], "memory.stat", "kernel", 1.0),
    ("container_memory_failures_total", &[("failure_type", "pgfault")], "memory.stat", "pgfault", 1.0),
    ("container_memory_failures_total", &[("failure_type", "pgmajfault")], "memory.stat", "pgmajfault", 1.0),
    ("container_memory_failcnt", &[], "memory.events", "max", 1.0),
    ("container_oom_events_total", &[], "memory.events", "oom_kill", 1.0),
    ("container_memory_events_total", &[("event", "low")], "memory.events", "low", 1.0),
    ("container_memory_events_total", &[("event", "high")], "memory.events", "high", 1.0),
    ("container_memory_events_total", &[("event", "max")], "memory.events", "max", 1.0),
    ("container_memory_events_total", &[("event", "oom")], "memory.events", "oom", 1.0),
    ("container_memory_events_total", &[("event", "oom_kill")], "memory.events", "oom_kill", 1.0),
    ("container_memory_events_total", &[("event", "oom_group_kill")], "memory.events", "oom_group_kill", 1.0),
    ("container_memory_anon_bytes", &[], "memory.stat", "anon", 1.0),
    ("container_memory_file_bytes", &[], "memory.stat", "file", 1.0),
    ("container_memory_kernel_stack_bytes", &[], "memory.stat", "kernel_stack", 1.0),
    ("container_memory_pagetables_bytes", &[], "memory.stat", "pagetables", 1.0),
    ("container_memory_percpu_bytes", &[], "memory.stat", "percpu", 1.0),
    ("container_memory_sock_bytes", &[], "memory.stat", "sock", 1.0),
    ("container_memory_vmalloc_bytes", &[], "memory.stat", "vmalloc", 1.0),
    ("container_memory_shmem_bytes", &[], "memory.stat", "shmem", 1.0),
    ("container_memory_slab_reclaimable_bytes", &[], "memory.stat", "slab_reclaimable", 1.0),
    ("container_memory_slab_unreclaimable_bytes", &[], "memory.stat", "slab_unreclaimable", 1.0),
    ("container_memory_file_dirty_bytes", &[], "memory.stat", "file_dirty", 1.0),
    ("container_memory_file_writeback_bytes", &[], "memory.stat", "file_writeback", 1.0),
    ("container_memory_swapcached_bytes", &[], "memory.stat", "swapcached", 1.0),
    ("container_memory_anon_thp_bytes", &[], "memory.stat", "anon_thp", 1.0),
    ("container_memory_inactive_anon_bytes", &[], "memory.stat", "inactive_anon", 1.0),
    ("container_memory_active_anon_bytes", &[], "memory.stat", "active_anon", 1.0),
    ("container_memory_unevictable_bytes", &[], "memory.stat", "unevictable", 1.0),
    ("container_memory_total_active_file_bytes", &[], "memory.stat", "active_file", 1.0),
    ("container_memory_total_inactive_file_bytes", &[], "memory.stat", "inactive_file", 1.0),
    ("container_memory_pgscan_total", &[], "memory.stat", "pgscan", 1.0),
    ("container_memory_pgsteal_total", &[], "memory.stat", "pgsteal", 1.0),
    ("container_memory_workingset_refault_file_total", &[], "memory.stat", "workingset_refault_file", 1.0),
    ("container_memory_workingset_refault_anon_total", &[], "memory.stat", "workingset_refault_anon", 1.0),
    ("container_memory_events_high_total", &[], "memory.events", "high", 1.0),
    ("container_memory_events_max_total", &[], "memory.events", "max", 1.0),
    ("container_memory_numa_pages", &[("type", "anon"), ("node", "0")], "memory.numa_stat", "anon", PAGE),
    ("container_memory_numa_pages", &[("type", "file"), ("node", "0")], "memory.numa_stat", "file", PAGE),
    ("container_memory_numa_pages", &[("type", "unevictable"), ("node", "0")], "memory.numa_stat", "unevictable", PAGE),
    ("container_hugetlb_usage_bytes", &[("pagesize", "2MB")], "hugetlb.2MB.current", "", 1.0),
    ("container_hugetlb_failcnt", &[("pagesize", "2MB")], "hugetlb.2MB.events", "max", 1.0),
    ("container_threads", &[], "pids.current", "", 1.0),
    ("container_pids_max_events_total", &[], "pids.events", "max", 1.0),
    ("container_pressure_cpu_waiting_seconds_total", &[], "cpu.pressure", "some", MICRO),
    ("container_pressure_cpu_stalled_seconds_total", &[], "cpu.pressure", "full", MICRO),
    ("container_pressure_memory_waiting_seconds_total", &[], "memory.pressure", "some", MICRO),
    ("container_pressure_memory_stalled_seconds_total", &[], "memory.pressure", "full", MICRO),
    ("container_pressure_io_waiting_seconds_total", &[], "io.pressure", "some", MICRO),
    ("container_pressure_io_stalled_seconds_total", &[], "io.pressure", "full", MICRO),
];

/// What the container has surely done, so that the comparison is not one of zeros.
const DONE: &[(&str, &str)] = &[
    ("cpu.stat", "usage_usec"),
    ("cpu.stat", "nr_throttled"),
    ("cpu.stat", "throttled_usec"),
    ("memory.stat", "anon"),
    ("memory.stat", "file"),
    ("memory.stat", "kernel"),
    ("memory.stat", "pgfault"),
    ("memory.events", "max"),
    ("memory.events", "oom_kill"),
    ("pids.events", "max"),
    ("cpu.pressure", "some"),
];

/// Whether a sample is only there from the first event on.
fn is_from_one_on(family: &str, key: &str) -> bool {
    ["nr_bursts", "burst_usec"].contains(&key) || (family == "container_memory_events_total" && key != "oom_kill")
}

/// What follows the key: the last word of its line, after an `=` where there is one. None where there is no such line.
fn figure(text: &str, key: &str) -> Option<i128> {
    let line = match key {
        "" => text.trim(),
        key => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?,
    };
    line.split_whitespace().next_back()?.rsplit('=').next()?.parse().ok()
}

/// The kernel's figures, by file and key. A file that this kernel does not have has none.
fn figures(kernel: &Kernel) -> BTreeMap<(&'static str, &'static str), Option<i128>> {
    let of = |file: &str, key: &str| figure(&kernel.read("memory", file).unwrap_or_default(), key);
    ROWS.iter().map(|(_, _, file, key, _)| ((*file, *key), of(file, key))).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a test's container counts to far below 2^53")]
fn units(value: f64, per_one: f64) -> i128 {
    (value * per_one).round() as i128
}

/// What is not as the kernel has it.
fn wrong(
    exposition: &Exposition,
    name: &str,
    kernel: &BTreeMap<(&'static str, &'static str), Option<i128>>,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (family, labels, file, key, per_one) in ROWS {
        let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("name", name)]).collect();
        let ours = exposition.has(family, &labels).then(|| exposition.value(family, &labels)).transpose()?;
        let ours = ours.map(|value| units(value, *per_one));
        let theirs = kernel[&(*file, *key)].filter(|value| *value != 0 || !is_from_one_on(family, key));
        if ours != theirs {
            wrong.push(format!("{family}{labels:?}: ours {ours:?}, {file} {key} {theirs:?}"));
        }
    }
    let current = kernel[&("memory.current", "")].context("memory.current")?;
    let inactive = kernel[&("memory.stat", "inactive_file")].context("inactive_file")?;
    let ours = exposition.integer("container_memory_working_set_bytes", &[("name", name)])?;
    if ours != (current - inactive).max(0) {
        wrong.push(format!("working set: ours {ours}, {current} - {inactive}"));
    }
    Ok(wrong)
}

/// The same of `io.stat`, device by device. None of it may come from the programs in the kernel.
fn wrong_devices(
    exposition: &Exposition,
    name: &str,
    devices: &BTreeMap<String, exporter_tests::kernel::Device>,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (number, figures) in devices {
        let device = fs::canonicalize(format!("/sys/dev/block/{number}")).with_context(|| number.clone())?;
        let device = format!("/dev/{}", device.file_name().context("a name")?.to_string_lossy());
        for (family, theirs) in figures {
            let ours = exposition.integer(family, &[("name", name), ("device", &device)]).ok();
            if ours != Some(i128::from(*theirs)) {
                wrong.push(format!("{family} of {device}: ours {ours:?}, theirs {theirs}"));
            }
        }
    }
    Ok(wrong)
}

#[test]
fn every_key_of_a_container_that_stands_still_is_the_kernel_s() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let options = ["--memory=48m", "--memory-swap=48m", "--cpus=0.3", "--pids-limit=16", "--shm-size=16m"];
    let container = Container::sleeping(engine, "keys", &options).unwrap();
    fs::write(container.file("cpu", "cpu.max.burst").unwrap(), "20000").unwrap();
    container
        .exec(&["sh", "-c", "(ulimit -t 1; while :; do :; done) & (ulimit -t 1; while :; do :; done) & wait; true"])
        .unwrap();
    let disk = "dd if=/dev/zero of=/direct bs=256k count=16 oflag=direct; dd if=/direct of=/dev/null bs=256k iflag=direct; \
                dd if=/dev/zero of=/buffered bs=1M count=4 conv=fsync; dd if=/dev/zero of=/dev/shm/a bs=1M count=4";
    container.exec(&["sh", "-c", disk]).unwrap();
    container.exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"]).unwrap_err();
    container.exec(&["sh", "-c", "for i in $(seq 30); do sleep 1 & done"]).unwrap_err();
    container.docker("pause", &[]).unwrap();
    run("sync", &[]).unwrap();

    let mut builder = Exporter::builder().docker(engine).flag("--ebpf=off");
    for collector in ["memory_detail", "numa", "hugetlb"] {
        builder = builder.flag(format!("--collector.{collector}"));
    }
    let exporter = builder.start().unwrap();
    named(&exporter, &container).unwrap();
    let kernel = container.kernel().unwrap();
    let (figures, devices) = wait::eventually(SOON, "a reading between two of the kernel's that are alike", || {
        let before = (figures(&kernel), kernel.devices()?);
        let exposition = exporter.scrape()?;
        let after = (figures(&kernel), kernel.devices()?);
        ensure!(before == after, "it does not stand still: {before:?}, {after:?}");
        let mut wrong = wrong(&exposition, &container.name, &after.0)?;
        wrong.extend(wrong_devices(&exposition, &container.name, &after.1)?);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(after)
    })
    .unwrap();
    for done in DONE {
        assert!(figures[done].is_some_and(|value| value > 0), "{done:?} is {:?}", figures[done]);
    }
    let moved = |family: &str, least: u64| {
        devices.values().any(|device| device.get(family).is_some_and(|value| *value >= least))
    };
    for (family, least) in [
        ("container_fs_writes_bytes_total", 8 << 20),
        ("container_fs_reads_bytes_total", 4 << 20),
        ("container_fs_writes_total", 16),
        ("container_fs_reads_total", 16),
    ] {
        assert!(moved(family, least), "{family}: {devices:?}");
    }
    container.docker("unpause", &[]).unwrap();
    exporter.stop().unwrap();
}
