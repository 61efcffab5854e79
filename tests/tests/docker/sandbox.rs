//! What the sandbox leaves: every value, to an exporter that has given everything up; and what each capability is for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

const METRIC: &str = "docker_stats_exporter_sandbox";

/// Every collector but `process`, whose sockets nobody inside a whole sandbox can look at, and `percpu`, which reads one file more.
const COLLECTORS: [&str; 2] = ["ebpf_sched", "tcp"];

/// The exporter with more collectors than by default.
fn started(engine: &Engine, sandbox: &str, collectors: &[&str]) -> Exporter {
    let builder = Exporter::builder().docker(engine).flag(format!("--sandbox={sandbox}"));
    let switches = collectors.iter().map(|collector| format!("--collector.{collector}"));
    switches.fold(builder, exporter_tests::exporter::Builder::flag).start().unwrap()
}

/// The series of these containers, of the host and of the machine, without their values.
fn series(exposition: &Exposition, containers: &[&Container<'_>]) -> BTreeSet<String> {
    let ours = |name: &str| name.starts_with("docker_stats_exporter_") || name.starts_with("process_");
    let is_theirs = |name: &str| containers.iter().any(|container| container.name == name);
    let is_of_host = |id: &str| matches!(id, "" | "/");
    // Containers of other tests come and go.
    let samples = exposition
        .samples()
        .filter(|sample| !ours(&sample.name) && (is_theirs(sample.label("name")) || is_of_host(sample.label("id"))));
    samples.map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
}

/// The lines of these names in the status of each thread.
fn threads(pid: u32, names: &[&str]) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let line = |status: &str, name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    statuses.flat_map(|status| names.iter().map(|name| line(&status, name)).collect::<Vec<_>>()).collect()
}

#[test]
fn no_series_is_missing_inside() {
    let engine = Engine::shared().unwrap();
    let early = Container::sleeping(engine, "early", &["--memory=64m", "--user=12345"]).unwrap();
    let [outside, inside] = ["off", "on"].map(|sandbox| started(engine, sandbox, &COLLECTORS));
    let late = Container::sleeping(engine, "late", &["--network=none"]).unwrap();
    let borrowed = Container::sleeping(engine, "borrowed", &[&format!("--network=container:{}", early.name)]).unwrap();
    let of_host = Container::sleeping(engine, "of-host", &["--network=host"]).unwrap();
    let all = [&early, &late, &borrowed, &of_host];
    for container in all {
        // Something to count, where the first packet or request makes a series.
        container
            .exec(&["sh", "-c", "dd if=/dev/zero of=/a bs=64k count=1 conv=fsync; ping -c1 -W1 127.0.0.1; true"])
            .unwrap();
        named(&outside, container).unwrap();
        named(&inside, container).unwrap();
    }
    let shown = |exporter: &Exporter| series(&exporter.scrape().unwrap(), &all);
    let limit = std::time::Duration::from_secs(20);
    inside
        .scrape_until(limit, "all that is seen outside", |exposition| {
            let (ours, theirs) = (series(exposition, &all), shown(&outside));
            let lost: Vec<_> = theirs.difference(&ours).collect();
            let more: Vec<_> = ours.difference(&theirs).collect();
            anyhow::ensure!(lost.is_empty() && more.is_empty(), "only outside: {lost:?}; only inside: {more:?}");
            Ok(())
        })
        .unwrap();
    let exposition = inside.scrape().unwrap();
    for part in ["capabilities", "landlock", "seccomp"] {
        assert_eq!(exposition.integer(METRIC, &[("part", part)]).unwrap(), 1, "{part}");
    }
    let nothing = "0000000000000000";
    let expected = [
        format!("CapBnd:\t{nothing}"),
        format!("CapEff:\t{nothing}"),
        format!("CapPrm:\t{nothing}"),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ];
    let found = threads(inside.pid(), &["CapBnd:", "CapEff:", "CapPrm:", "NoNewPrivs:", "Seccomp:"]);
    assert_eq!(found, BTreeSet::from(expected), "of every thread");
    let log = inside.stop().unwrap();
    assert!(log.contains("capabilities none, Landlock") && log.contains("seccomp"), "{log}");
    outside.stop().unwrap();
}

#[test]
fn sockets_of_processes_keep_what_they_need_in_auto_and_are_ruled_out_by_on() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "traced", &[]).unwrap();
    let mine = [("name", container.name.as_str())];
    let [auto, on] = ["auto", "on"].map(|sandbox| started(engine, sandbox, &["process"]));
    let (in_auto, in_on) = (named(&auto, &container).unwrap(), named(&on, &container).unwrap());
    assert_eq!(in_auto.integer("container_sockets", &mine).unwrap(), 0);
    assert_eq!(in_auto.integer(METRIC, &[("part", "landlock")]).unwrap(), 0);
    assert!(!in_on.has("container_sockets", &mine));
    assert_eq!(in_on.integer(METRIC, &[("part", "landlock")]).unwrap(), 1);
    for exposition in [&in_auto, &in_on] {
        assert!(exposition.integer("container_file_descriptors", &mine).unwrap() >= 3);
    }
    assert!(auto.stop().unwrap().contains("CAP_SYS_PTRACE"));
    assert!(on.stop().unwrap().contains("container_sockets is missing"));
}

/// The exporter as a user who is nobody, in the group of the engine's socket, with these capabilities.
fn nobody(engine: &Engine, capabilities: &[&str], collectors: &[&str]) -> Exporter {
    let group = engine.socket().map_or(65534, |socket| fs::metadata(socket).unwrap().gid());
    let named = |sign: &str| match capabilities {
        [] => "-all".to_owned(),
        some => some.iter().map(|capability| format!("{sign}{capability}")).collect::<Vec<_>>().join(","),
    };
    // Where it is built, nobody may look.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("exporter");
    let script = format!(
        "cp \"$1\" {0} && chmod 755 {0} && shift && exec setpriv --reuid=65534 --regid=65534 --groups={group} --inh-caps={1} --ambient-caps={1} {0} \"$@\"",
        program.display(),
        named("+"),
    );
    let builder = Exporter::builder().docker(engine).started_by(&["sh", "-c", &script, "sh"]);
    let switches = collectors.iter().map(|collector| format!("--collector.{collector}"));
    switches.fold(builder, exporter_tests::exporter::Builder::flag).start().unwrap()
}

/// Which of these programs run.
fn running(exposition: &Exposition) -> BTreeSet<&str> {
    let loaded = exposition.select("docker_stats_exporter_ebpf_program_loaded", &[]);
    loaded.into_iter().filter(|sample| sample.value > 0.0).map(|sample| sample.label("program")).collect()
}

// One test per line of docs/CAPABILITIES.md.

#[test]
fn nobody_without_a_capability_reads_every_file() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "plain", &["--memory=64m", "--user=12345"]).unwrap();
    let (root, nobody) = (started(engine, "off", &["tcp"]), nobody(engine, &[], &["tcp"]));
    named(&root, &container).unwrap();
    let inside = named(&nobody, &container).unwrap();
    let outside = root.scrape().unwrap();
    let beyond =
        ["_ebpf_", "blkio_latency", "container_tasks_state", "container_cpu_load_average", "container_fs_usage_bytes"];
    let takes_more = |series: &String| beyond.iter().any(|part| series.contains(part));
    let lost: Vec<_> = series(&outside, &[&container])
        .difference(&series(&inside, &[&container]))
        .filter(|series| !takes_more(series))
        .cloned()
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(running(&inside), BTreeSet::new());
    assert!(inside.has("process_open_fds", &[]) && inside.has("process_resident_memory_bytes", &[]));
    let log = nobody.stop().unwrap();
    assert!(log.contains("--cap-add=BPF"), "{log}");
    root.stop().unwrap();
}

#[test]
fn nobody_with_bpf_and_perfmon_traces_blocks_and_takes_snapshots() {
    let exporter = nobody(Engine::shared().unwrap(), &["bpf", "perfmon"], &[]);
    let exposition = exporter.scrape().unwrap();
    let running = running(&exposition);
    assert!(running.contains("block_complete") && running.contains("snapshot"), "{running:?}");
    assert!(!running.contains("network_receive"), "{running:?}");
    let nothing = "CapEff:\t0000000000000000".to_owned();
    assert_eq!(threads(exporter.pid(), &["CapEff:"]), BTreeSet::from([nothing]), "given up after the start");
    let log = exporter.stop().unwrap();
    assert!(log.contains("NET_ADMIN"), "{log}");
}

#[test]
fn nobody_with_net_admin_too_counts_packets() {
    let exporter = nobody(Engine::shared().unwrap(), &["bpf", "perfmon", "net_admin"], &[]);
    let exposition = exporter.scrape().unwrap();
    let running = running(&exposition);
    for program in ["block_complete", "network_receive", "network_transmit", "snapshot", "tcp_retransmit"] {
        assert!(running.contains(program), "{program}: {running:?}");
    }
    exporter.stop().unwrap();
}

#[test]
fn nobody_counts_descriptors_and_needs_two_capabilities_for_sockets() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "counted", &[]).unwrap();
    let mine = [("name", container.name.as_str())];
    // Since Linux 6.2 the size of the directory is the number of descriptors. Before, counting them takes the right to list it.
    let is_size_count = fs::metadata("/proc/self/fd").unwrap().len() > 0;
    for (capabilities, sockets) in [
        (&[][..], false),
        (&["sys_ptrace"], false),
        (&["dac_read_search"], false),
        (&["sys_ptrace", "dac_read_search"], true),
    ] {
        let exporter = nobody(engine, capabilities, &["process"]);
        let exposition = named(&exporter, &container).unwrap();
        if is_size_count || sockets {
            assert!(exposition.integer("container_file_descriptors", &mine).unwrap() >= 3, "{capabilities:?}");
        } else {
            assert!(!exposition.has("container_file_descriptors", &mine), "{capabilities:?}");
        }
        assert_eq!(exposition.has("container_sockets", &mine), sockets, "{capabilities:?}");
        let success = [("collector", "process")];
        let succeeded = exposition.integer("docker_stats_exporter_scrape_collector_success", &success).unwrap();
        // Processes of other tests end meanwhile, which is no failure.
        assert_eq!(succeeded, i128::from(sockets), "{capabilities:?}");
        let log = exporter.stop().unwrap();
        assert!(sockets || log.contains("CAP_DAC_READ_SEARCH"), "{log}");
    }
}

#[test]
fn nobody_needs_one_capability_for_layers() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "layered", &[]).unwrap();
    let mine = [("name", container.name.as_str())];
    let limit = std::time::Duration::from_mins(1);
    let without = nobody(engine, &[], &[]);
    let denied = [("file", "layer"), ("reason", "denied")];
    let errors = "docker_stats_exporter_read_errors_total";
    let exposition = without
        .scrape_until(limit, "the reason", |exposition| {
            exposition.integer(errors, &denied)?;
            Ok(exposition.clone())
        })
        .unwrap();
    assert!(!exposition.has("container_fs_usage_bytes", &mine));
    assert!(exposition.has("container_fs_usage_bytes", &[("id", "/")]), "the host's need no right");
    // It is logged with the next reading.
    without.scrape().unwrap();
    assert!(without.stop().unwrap().contains("--cap-add=DAC_READ_SEARCH"));
    let with = nobody(engine, &["dac_read_search"], &[]);
    with.scrape_until(limit, "the layer", |exposition| exposition.integer("container_fs_usage_bytes", &mine)).unwrap();
    let nothing = "CapEff:\t0000000000000000".to_owned();
    assert_eq!(threads(with.pid(), &["CapEff:"]), BTreeSet::from([nothing]), "the exporter itself keeps none");
    with.stop().unwrap();
}
