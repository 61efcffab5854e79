//! Snapshots beside the files that they stand in for: two exporters on one host, one of which reads every file. What is
//! taken between two readings of a file must lie between them, for every value of every container.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::exposition::Format;
use exporter_tests::{Container, Engine, Exporter, Exposition, wait};

use super::SOON;

const READ_PATH: &str = "docker_stats_exporter_read_path";
const ERRORS: &str = "docker_stats_exporter_read_errors_total";
/// What snapshots serve on every kind of host. Block I/O of v1 is read where there is any, and so is `memory.stat` until its
/// counters are known.
const SERVED: [&str; 3] = ["cpu", "pids", "pressure"];
/// The first so many of the containers below are busy.
const BUSY: usize = 3;
/// Containers that come at once: more than there is room for. Every scrape of every test beside reads them, too, which takes
/// emulated processors minutes.
const MANY: usize = if cfg!(feature = "guest") { 150 } else { 700 };
/// Cgroups below one container: more than there is room for.
const NESTED: usize = 6_000;
/// Passes in which each container has had its turn of being compared.
const PASSES: usize = 12;

/// User and system time are shares of the time on CPUs, which two who look at different moments share out differently.
const SHARES: [&str; 2] = ["container_cpu_user_seconds_total", "container_cpu_system_seconds_total"];
/// They may fall, so that between two readings which differ they may have been anything.
const GAUGES: [&str; 9] = [
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_memory_cache",
    "container_memory_swap",
    "container_memory_mapped_file",
    "container_memory_kernel_usage",
    "container_threads",
    "container_processes",
];
/// What is not read from files that snapshots stand in for, or depends on the clock.
const OTHERS: [&str; 10] = [
    "container_last_seen",
    "container_network_",
    "container_ebpf_",
    "container_blkio_",
    "container_tcp_",
    "container_tasks_",
    "container_cpu_load_",
    "container_fs_inodes_",
    "container_fs_limit_",
    "container_fs_usage_",
];

/// Without the program that counts block I/O: where files have no devices, two of them would differ by what came between their starts.
fn exporter(mode: &str) -> Result<Exporter> {
    Exporter::builder().flag(format!("--read.snapshot={mode}")).flag("--no-collector.ebpf_blkio").start()
}

/// One scrape. The judges of the format look at others: here they would be asked dozens of times.
fn take(exporter: &Exporter) -> Result<Exposition> {
    exporter.scrape_unjudged("/metrics", Format::Text)
}

/// The values of one container by series.
fn values(exposition: &Exposition, id: &str) -> BTreeMap<String, (String, f64)> {
    let samples = exposition.container(id).filter(|sample| !OTHERS.iter().any(|other| sample.name.starts_with(other)));
    samples.map(|sample| (format!("{}{:?}", sample.name, sample.labels), (sample.name.clone(), sample.value))).collect()
}

/// Whether every value of a container lies between what the files say before and after. Of one that `is_quiet` also what may
/// fall: with others it rises and falls back between two scrapes.
fn compare(before: &Exposition, snapshot: &Exposition, after: &Exposition, id: &str, is_quiet: bool) -> Result<usize> {
    let [before, snapshot, after] = [before, snapshot, after].map(|exposition| values(exposition, id));
    ensure!(!before.is_empty(), "no container {id}");
    for series in snapshot.keys() {
        ensure!(before.contains_key(series) || after.contains_key(series), "no file tells of {series}");
    }
    for (series, (name, least)) in &before {
        let Some((_, most)) = after.get(series) else { continue };
        let Some((_, ours)) = snapshot.get(series) else { bail!("the snapshot does not tell {series}") };
        let slack = if SHARES.contains(&name.as_str()) { 0.02 + most / 10.0 } else { 1e-6 };
        let (low, high) = (least.min(*most) - slack, least.max(*most) + slack);
        let is_unclear = GAUGES.contains(&name.as_str()) && (!is_quiet || (least - most).abs() > slack);
        ensure!(is_unclear || (low..=high).contains(ours), "{series}: {ours} is not between {least} and {most}");
    }
    Ok(before.len())
}

/// Containers that a snapshot served, of one collector.
fn served(exposition: &Exposition, collector: &str) -> Result<i128> {
    by(exposition, collector, "snapshot")
}

fn by(exposition: &Exposition, collector: &str, path: &str) -> Result<i128> {
    exposition.integer(READ_PATH, &[("collector", collector), ("path", path)])
}

/// On cgroup v2 user and system time of a container that has run are those of its `cpu.stat`, which the kernel rounds.
fn may_read_file(collector: &str) -> bool {
    collector == "cpu" && std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Scrapes until snapshots serve so many containers, and gives the last exposition. Another test's thousands of cgroups may leave no
/// room for a while.
fn warmed_up(exporter: &Exporter, containers: i128) -> Result<Exposition> {
    let mut last = take(exporter)?;
    let end = Instant::now() + Duration::from_mins(2);
    while Instant::now() < end {
        let all_served = SERVED.iter().all(|collector| {
            let by_file = if may_read_file(collector) { by(&last, collector, "open_file").unwrap_or(0) } else { 0 };
            served(&last, collector).is_ok_and(|served| served + by_file >= containers)
        });
        if all_served {
            return Ok(last);
        }
        last = take(exporter)?;
    }
    let lines: Vec<&str> = last.text.lines().filter(|line| line.starts_with(READ_PATH)).collect();
    bail!("snapshots do not serve {containers} containers: {lines:?}; the exporter said {}", exporter.stderr())
}

fn differs(exposition: &Exposition) -> bool {
    exposition.has(ERRORS, &[("reason", "snapshot_differs")])
}

#[test]
fn every_value_lies_between_two_readings_of_its_file() {
    let engine = Engine::shared().unwrap();
    let busy = "while :; do :; done";
    let writing = "while :; do dd if=/dev/zero of=/data bs=64k count=16 conv=fsync 2>/dev/null; done";
    let growing = "while :; do dd if=/dev/zero of=/dev/shm/a bs=1M count=8 2>/dev/null; rm /dev/shm/a; done";
    let run = |what, options: &[&str], command| Container::run(engine, what, options, &["sh", "-c", command]).unwrap();
    let containers = [
        run("snap-throttled", &["--cpus=0.2"], busy),
        run("snap-writing", &["--memory=64m"], writing),
        run("snap-growing", &["--memory=64m", "--pids-limit=40"], growing),
        Container::sleeping(engine, "snap-idle", &[]).unwrap(),
        Container::sleeping(engine, "snap-paused", &["--read-only"]).unwrap(),
    ];
    containers.iter().last().unwrap().docker("pause", &[]).unwrap();
    let (files, snapshots) = (exporter("off").unwrap(), exporter("on").unwrap());
    warmed_up(&snapshots, 5).unwrap();
    let mut compared = 0;
    for _ in 0..PASSES {
        let before = take(&files).unwrap();
        let between = take(&snapshots).unwrap();
        let after = take(&files).unwrap();
        for (index, container) in containers.iter().enumerate() {
            compared += compare(&before, &between, &after, &container.id, index >= BUSY)
                .unwrap_or_else(|error| panic!("{}: {error:#}; {}", container.name, snapshots.stderr()));
        }
        assert!(!differs(&between), "{}", snapshots.stderr());
    }
    assert!(compared > PASSES * containers.len() * 20, "{compared}");
    containers.iter().last().unwrap().docker("unpause", &[]).unwrap();
}

#[test]
fn more_containers_than_there_is_room_for_are_all_there() {
    let few = BareContainers::make(3).unwrap();
    let snapshots = exporter("on").unwrap();
    warmed_up(&snapshots, 3).unwrap();
    let many = BareContainers::make(MANY).unwrap();
    // The first scrape finds them by their files, the second finds the tables too small.
    for _ in 0..3 {
        let exposition = take(&snapshots).unwrap();
        let usages = exposition.select("container_cpu_usage_seconds_total", &[]);
        let there = |id: &String| usages.iter().any(|sample| sample.label("id").contains(id));
        assert!(many.ids.iter().chain(&few.ids).all(there));
    }
    let exposition = warmed_up(&snapshots, MANY as i128 + 3).unwrap();
    assert!(!differs(&exposition), "{}", snapshots.stderr());
    assert!(!exposition.has(ERRORS, &[("file", "snapshot")]), "{}", snapshots.stderr());
}

#[test]
fn who_nests_cgroups_without_end_gets_a_bounded_part_of_the_tables() {
    let (hostile, others) = (BareContainers::make(1).unwrap(), BareContainers::make(3).unwrap());
    let folder = hostile.kernel(&hostile.ids[0]).unwrap().directory("memory").unwrap();
    for number in 0..NESTED {
        fs::create_dir(folder.join(number.to_string())).unwrap();
    }
    let (files, snapshots) = (exporter("off").unwrap(), exporter("on").unwrap());
    for _ in 0..3 {
        let before = take(&files).unwrap();
        let between = take(&snapshots).unwrap();
        let after = take(&files).unwrap();
        for id in others.ids.iter().chain(&hostile.ids) {
            compare(&before, &between, &after, id, true).unwrap();
        }
    }
    let exposition = take(&snapshots).unwrap();
    assert!(exposition.has(ERRORS, &[("file", "snapshot"), ("reason", "too_many")]), "{}", snapshots.stderr());
    let log = snapshots.stderr();
    assert_eq!(log.lines().filter(|line| line.contains("cgroups below their own")).count(), 1, "{log}");
}

#[test]
fn who_finds_no_room_is_read_by_its_files_inside_the_sandbox_and_room_is_made_outside() {
    // More than there is room for at first: that is for twice as many as other tests have made by then, and for 1,088 at least.
    const CROWD: usize = if cfg!(feature = "guest") { 1200 } else { 2000 };
    for (sandbox, has_room) in [("on", false), ("off", true)] {
        let bare = BareContainers::make(2).unwrap();
        let builder = Exporter::builder().flag("--read.snapshot=on").flag(format!("--sandbox={sandbox}"));
        let snapshots = builder.start().unwrap();
        let names = |exposition: &Exposition| -> Vec<Vec<String>> {
            let of = |id: &String| values(exposition, &bare.path(id)).into_keys().collect();
            bare.ids.iter().map(of).collect()
        };
        let before = names(&warmed_up(&snapshots, 2).unwrap());
        bare.crowd(CROWD).unwrap();
        for _ in 0..3 {
            assert_eq!(names(&take(&snapshots).unwrap()), before, "{sandbox}");
        }
        let said = snapshots.stderr();
        assert_eq!(
            said.matches("more cgroups than snapshots have capacity for").count(),
            usize::from(!has_room),
            "{said}"
        );
        assert!(!differs(&take(&snapshots).unwrap()), "{said}");
    }
}

#[test]
fn who_comes_in_another_s_place_has_values_of_its_own() {
    let snapshots = exporter("on").unwrap();
    let files = exporter("off").unwrap();
    for _ in 0..5 {
        let bare = BareContainers::make(10).unwrap();
        let id = &bare.ids[0];
        bare.run(id, &["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]).unwrap();
        warmed_up(&snapshots, 10).unwrap();
        let (before, between, after) = (take(&files).unwrap(), take(&snapshots).unwrap(), take(&files).unwrap());
        for id in &bare.ids {
            compare(&before, &between, &after, id, true).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}

#[test]
fn a_changed_limit_is_in_the_next_scrape_though_no_engine_tells_of_it() {
    let bare = BareContainers::make(1).unwrap();
    let snapshots = exporter("on").unwrap();
    warmed_up(&snapshots, 1).unwrap();
    let path = bare.path(&bare.ids[0]);
    let v2 = format!("/sys/fs/cgroup{path}/memory.max");
    let v1 = format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes");
    let file = if fs::exists(&v2).unwrap() { v2 } else { v1 };
    for limit in [64_i128 << 20, 96 << 20] {
        fs::write(&file, limit.to_string()).with_context(|| file.clone()).unwrap();
        let exposition = take(&snapshots).unwrap();
        assert_eq!(exposition.integer("container_spec_memory_limit_bytes", &[("id", &path)]).unwrap(), limit);
    }
}

#[test]
fn what_could_not_be_taken_for_a_while_is_taken_again() {
    let loaded = |exposition: &Exposition| {
        exposition.integer("docker_stats_exporter_ebpf_program_loaded", &[("program", "snapshot")]).unwrap()
    };
    let bare = BareContainers::make(3).unwrap();
    let snapshots = exporter("on").unwrap();
    assert_eq!(loaded(&warmed_up(&snapshots, 3).unwrap()), 1);
    // One is for the connection, and none for an iterator, nor for files. The exporter opens and closes descriptors of its
    // own meanwhile, when it looks for the engine: then one more may be free, and a snapshot is taken.
    wait::eventually(SOON, "a scrape without a descriptor for a snapshot", || {
        let exposition = snapshots.with_descriptors_left(1, || take(&snapshots))?;
        ensure!(loaded(&exposition) == 0, "a snapshot was taken");
        ensure!(exposition.has(ERRORS, &[("file", "snapshot"), ("reason", "failed")]), "{}", exposition.text);
        Ok(())
    })
    .unwrap();

    let exposition = warmed_up(&snapshots, 3).unwrap();
    assert_eq!(loaded(&exposition), 1);
    for id in &bare.ids {
        assert!(exposition.has("container_threads", &[("id", &bare.path(id))]));
    }
    assert!(!differs(&exposition), "{}", snapshots.stderr());
    let said = snapshots.stderr();
    let reported = said.lines().find(|line| line.contains("cannot take a snapshot")).unwrap_or_default();
    assert!(reported.contains("raise the limit of open files") && said.contains("snapshots work again"), "{said}");
}

#[test]
fn pressure_that_is_switched_off_is_absent_and_no_value_stands_still() {
    let bare = BareContainers::make(3).unwrap();
    let path = bare.path(&bare.ids[1]);
    let switches = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|tree| format!("{tree}{path}/cgroup.pressure"));
    let switch = switches.iter().find(|switch| fs::exists(switch).unwrap()).expect("Linux 6.1 has cgroup.pressure");
    let snapshots = exporter("on").unwrap();
    warmed_up(&snapshots, 3).unwrap();
    let reported = || {
        let exposition = take(&snapshots).unwrap();
        assert!(!differs(&exposition), "{}", snapshots.stderr());
        let pressure = |id: &String| exposition.has("container_pressure_cpu_waiting_seconds_total", &[("id", id)]);
        bare.ids.iter().map(|id| pressure(&bare.path(id))).collect::<Vec<bool>>()
    };
    assert_eq!(reported(), [true; 3]);
    fs::write(switch, "0").unwrap();
    assert_eq!(reported(), [true, false, true]);
    // Each has its turn of being compared.
    (0..3).for_each(|_| assert_eq!(reported(), [true, false, true]));
    fs::write(switch, "1").unwrap();
    assert_eq!(reported(), [true; 3]);
}

#[test]
fn the_first_scrape_has_every_value_of_all_though_files_of_a_few_are_read() {
    let bare = BareContainers::make(40).unwrap();
    let (files, snapshots) = (exporter("off").unwrap(), exporter("on").unwrap());
    let before = take(&files).unwrap();
    let first = take(&snapshots).unwrap();
    let after = take(&files).unwrap();
    for id in &bare.ids {
        compare(&before, &first, &after, id, true).unwrap_or_else(|error| panic!("{error:#}; {}", snapshots.stderr()));
    }
    let all = first.select("container_cpu_usage_seconds_total", &[]).len();
    let others = i128::try_from(all - bare.ids.len()).unwrap();
    for collector in SERVED.into_iter().filter(|collector| !may_read_file(collector)) {
        let by_file = by(&first, collector, "open_file").unwrap();
        assert!(by_file < 10 + others, "{collector}: {by_file} by their files, {others} containers of others");
    }
}

#[test]
fn who_has_no_process_of_its_own_or_one_that_is_elsewhere_has_values_of_its_own() {
    let bare = BareContainers::make(4).unwrap();
    let (files, snapshots) = (exporter("off").unwrap(), exporter("on").unwrap());
    warmed_up(&snapshots, 4).unwrap();
    let [nested, elsewhere, host, _] = bare.ids.as_slice() else { panic!("not four") };
    // As an engine in a container, or systemd, has its processes. One walk finds the cgroups of all trees by processes.
    let inner = bare.nest(nested, "inner").unwrap();
    bare.move_processes(nested, &inner, |_| true).unwrap();
    // On v1 a process may be in the cgroup of one container in one tree, and of another one in another.
    let is_of_cpu = |tree: &std::path::Path| tree.to_string_lossy().contains("/cpu");
    bare.move_processes(elsewhere, host, is_of_cpu).unwrap();
    for _ in 0..PASSES {
        let before = take(&files).unwrap();
        let between = take(&snapshots).unwrap();
        let after = take(&files).unwrap();
        for id in &bare.ids {
            compare(&before, &between, &after, id, true).unwrap_or_else(|error| panic!("{id}: {error:#}"));
        }
        assert!(!differs(&between), "{}", snapshots.stderr());
    }
    // Others are still read from the snapshot.
    assert!(served(&take(&snapshots).unwrap(), "pids").unwrap() >= 2);
}

#[test]
fn processes_are_counted_anew_when_there_are_more() {
    let bare = BareContainers::make(1).unwrap();
    let snapshots = exporter("on").unwrap();
    warmed_up(&snapshots, 1).unwrap();
    let path = bare.path(&bare.ids[0]);
    let count = |exposition: &Exposition| exposition.integer("container_processes", &[("id", &path)]);
    assert_eq!(count(&take(&snapshots).unwrap()).unwrap(), 1);
    let more = "for i in 1 2; do sleep 1d >/dev/null 2>&1 & echo $!; done";
    let pids = bare.run(&bare.ids[0], &["sh", "-c", more]).unwrap();
    assert_eq!(count(&take(&snapshots).unwrap()).unwrap(), 3);
    assert!(Command::new("kill").args(pids.split_whitespace()).status().unwrap().success());
    let back = snapshots.scrape_until(SOON, "the other processes to be gone", |exposition| {
        let count = count(exposition)?;
        ensure!(count == 1, "{count} processes");
        Ok(())
    });
    back.unwrap();
}

#[test]
fn without_capabilities_files_serve_and_the_hint_is_told() {
    let bare = BareContainers::make(2).unwrap();
    let powerless = Exporter::builder().without_capabilities().flag("--log.level=info").start().unwrap();
    let exposition = take(&powerless).unwrap();
    for id in &bare.ids {
        assert!(exposition.has("container_threads", &[("id", &bare.path(id))]));
    }
    assert!(
        served(&exposition, "cpu").is_ok_and(|served| served == 0) || !exposition.text.contains("path=\"snapshot\"")
    );
    let said = powerless.stderr();
    assert!(said.contains("snapshots are not available") && said.contains("--cap-add=BPF --cap-add=PERFMON"), "{said}");

    let refused = Exporter::builder().without_capabilities().flag("--read.snapshot=on").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--read.snapshot=on") && said.contains("CAP_BPF"), "{said}");
}
