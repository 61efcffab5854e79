//! The two sources give the same families and values; the predecessor's schema gives the predecessor's names.

use std::collections::BTreeSet;

use anyhow::Context as _;
use exporter_tests::exporter::Builder;
use exporter_tests::{Container, Engine, Exporter};

use super::{bracketed, close, named};

/// In kernel files and not in the engine's stats; everything else must be in both.
const ONLY_FILES: &[&str] = &[
    "container_memory_events_total",
    "container_memory_kernel_usage",
    "container_oom_events_total",
    "container_pids_max_events_total",
    "container_pressure_",
    "container_processes",
    "container_cpu_cfs_burst_",
    // The engine leaves out a failcnt of 0, and on cgroup v1 hands on no swap.
    "container_memory_failcnt",
    "container_memory_swap",
    // Threads of a container are found by its processes.
    "container_tasks_state",
    "container_cpu_load_average_10s",
];

/// As [`ONLY_FILES`], where the engine reads cgroup v2.
const ONLY_FILES_V2: &[&str] = &["container_memory_max_usage_bytes"];

const BUSY: &[&str] = &["--network=bridge", "--memory=96m", "--cpus=0.5", "--shm-size=32m"];
const WORK: &[&str] = &["sh", "-c", "dd if=/dev/zero of=/dev/shm/a bs=1M count=16; timeout 1 yes >/dev/null; true"];

fn api(engine: &Engine) -> Builder {
    Exporter::builder().docker(engine).env("USE_PSEUDO_FILES", "0")
}

#[test]
fn the_stats_api_gives_the_same_families_and_values() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "modes", BUSY).unwrap();
    container.exec(WORK).unwrap();
    let (files, api) = (Exporter::with(engine).unwrap(), api(engine).start().unwrap());
    let (files_now, api_now) = (named(&files, &container).unwrap(), named(&api, &container).unwrap());
    let mine = [("name", container.name.as_str())];
    let (of_files, of_api) = (files_now.prompt_names_with(&mine), api_now.prompt_names_with(&mine));
    let v2 = if container.kernel().unwrap().is_v1("memory") { &[] } else { ONLY_FILES_V2 };
    let lost: BTreeSet<&str> = of_files
        .difference(&of_api)
        .copied()
        .filter(|name| !ONLY_FILES.iter().chain(v2).any(|only| name.starts_with(only)))
        .collect();
    assert!(lost.is_empty(), "not from the API: {lost:?}");
    let more: Vec<&&str> = of_api.difference(&of_files).collect();
    assert!(more.is_empty(), "only from the API: {more:?}");

    // What only rises is between two readings of the files, however long those take.
    let files_later = files.scrape().unwrap();
    for name in [
        "container_cpu_usage_seconds_total",
        "container_network_receive_bytes_total",
        "container_cpu_cfs_throttled_periods_total",
    ] {
        let of = |exposition: &exporter_tests::Exposition| exposition.value(name, &mine).unwrap();
        bracketed(of(&files_now), of(&api_now), of(&files_later)).with_context(|| name).unwrap();
    }
    for (name, part, units) in [
        ("container_memory_usage_bytes", 0.02, 1e6),
        ("container_memory_working_set_bytes", 0.02, 1e6),
        ("container_memory_cache", 0.02, 1e6),
        ("container_memory_rss", 0.02, 1e6),
        ("container_spec_memory_limit_bytes", 0.0, 0.0),
        ("container_spec_cpu_quota", 0.0, 0.0),
        ("container_spec_cpu_period", 0.0, 0.0),
        ("container_threads", 0.0, 0.0),
        ("container_start_time_seconds", 0.0, 0.001),
    ] {
        let of = |exposition: &exporter_tests::Exposition| exposition.value(name, &mine).unwrap();
        close(name, of(&api_now), of(&files_now), part, units).unwrap();
    }
    let labels = |exposition: &exporter_tests::Exposition| {
        exposition.one("container_cpu_usage_seconds_total", &mine).unwrap().labels.clone()
    };
    assert_eq!(labels(&files_now), labels(&api_now));
    files.stop().unwrap();
    api.stop().unwrap();
}

#[test]
fn the_predecessor_s_names_come_in_both_modes() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "schema", BUSY).unwrap();
    container.exec(WORK).unwrap();
    let mine = [("container", container.name.as_str())];
    let schema = "--metrics.schema=docker-stats";
    let wait = std::time::Duration::from_secs(5);

    let files = Exporter::builder().docker(engine).flag(schema).start().unwrap();
    let v1 = container.kernel().unwrap().is_v1("cpuacct");
    let exposition = files
        .scrape_until(wait, "the container", |exposition| {
            exposition.one("docker_stats_is_up", &mine)?;
            Ok(exposition.clone())
        })
        .unwrap();
    for name in [
        "docker_stats_last_seen",
        "docker_stats_is_up",
        "docker_stats_cpuacct_usage",
        "docker_stats_cpu_stat_nr_throttled",
        "docker_stats_memory_usage_in_bytes",
        "docker_stats_memory_limit_in_bytes",
        "docker_stats_memory_stat_cache",
    ] {
        exposition.integer(name, &mine).unwrap();
    }
    assert!(exposition.has("docker_stats_net_receive_bytes", &[mine[0], ("interface", "eth0")]));
    if v1 {
        assert!(exposition.has("docker_stats_cpuacct_usage_percpu", &mine));
    }
    assert!(!exposition.samples().any(|sample| sample.name.starts_with("container_")), "both schemas at once");
    files.stop().unwrap();

    let api = api(engine).flag(schema).start().unwrap();
    let exposition = api
        .scrape_until(wait, "the container", |exposition| {
            exposition.one("docker_stats_cpu_total_usage", &mine)?;
            Ok(exposition.clone())
        })
        .unwrap();
    exposition.integer("docker_stats_system_cpu_usage", &mine).unwrap();
    assert!(exposition.has("docker_stats_network_rx_bytes", &[mine[0], ("interface", "eth0")]));
    api.stop().unwrap();
}

#[test]
fn one_container_costs_at_most_sixty_series() {
    let engine = Engine::shared().unwrap();
    let options = ["--network=bridge", "--memory=96m", "--cpus=0.5", "--health-cmd=true", "--health-interval=1s"];
    let container = Container::sleeping(engine, "budget", &options).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let exposition = named(&exporter, &container).unwrap();
    let series: Vec<&str> = exposition.container(&container.id).map(|sample| sample.name.as_str()).collect();
    let threads = |name: &&&str| name.starts_with("container_tasks_") || name.starts_with("container_cpu_load_");
    assert!(series.len() > 35, "{} series: {series:?}", series.len());

    // What eBPF counts of one that works comes on top, as much of it as the README says.
    let disk = "dd if=/dev/zero of=/a bs=64k count=4 oflag=direct; dd if=/a of=/dev/null bs=64k iflag=direct";
    let gateway = container.inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}").unwrap();
    container.exec(&["sh", "-c", &format!("({disk}) 2>/dev/null; busybox ping -c 2 {gateway}")]).unwrap();
    let exposition = exporter.scrape().unwrap();
    let names: Vec<&str> = exposition.container(&container.id).map(|sample| sample.name.as_str()).collect();
    let of = |beginning: &str| names.iter().filter(|name| name.starts_with(beginning)).count();
    let (traffic, block, latency) =
        (of("container_ebpf_network_"), of("container_blkio_"), of("container_blkio_latency_"));
    let mine = [("name", container.name.as_str())];
    let kinds = exposition.select("container_blkio_latency_seconds_count", &mine).len();
    let families = exposition.select("container_ebpf_network_transmit_bytes_total", &mine).len();
    let times = of("container_fs_read_seconds_total") + of("container_fs_write_seconds_total");
    let threads = names.iter().filter(threads).count();
    let files = names.len() - traffic - block - times - threads - of("container_tcp_retransmits_total");
    assert!(files <= 60, "{files} series: {names:?}");
    assert!(names.len() <= 100, "{} series: {names:?}", names.len());
    assert_eq!((traffic, latency), (4 * families, 14 * kinds), "{names:?}");
    assert!(block - latency <= 2 * kinds, "of one disk: {names:?}");
    exporter.stop().unwrap();
}
