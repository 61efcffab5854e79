//! Two other readers of the same containers: `cgroups-rs` (the kernel's files) and `docker stats`.

use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, MaxValue, hierarchies};
use exporter_tests::{Container, Engine, Exporter};

use super::{bracketed, close, named};

const MIB: f64 = 1024.0 * 1024.0;

#[expect(clippy::cast_precision_loss, reason = "figures of a test's container are far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[test]
fn cgroups_rs_reads_the_same_values() {
    let engine = Engine::shared().unwrap();
    let options = ["--memory=96m", "--pids-limit=33", "--shm-size=32m"];
    let container = Container::sleeping(engine, "reader", &options).unwrap();
    container.exec(&["dd", "if=/dev/zero", "of=/dev/shm/a", "bs=1M", "count=16"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let mine = [("name", container.name.as_str())];
    let directory = container.exec(&["cat", "/proc/self/cgroup"]).unwrap();
    let path = directory.lines().find_map(|line| line.rsplit_once(":/")).unwrap().1.to_owned();
    let path = if path.contains(&container.id) { path } else { outside(&container) };
    let cgroup = Cgroup::load(hierarchies::auto(), &path);

    let memory: &MemController = cgroup.controller_of().unwrap();
    let pids: &PidController = cgroup.controller_of().unwrap();
    let cpu = || cgroup.controller_of::<CpuAcctController>().map(|cpu| float(cpu.cpuacct().usage) / 1e9);
    let before = cpu();
    let exposition = exporter.scrape().unwrap();
    let after = cpu();
    let value = |name: &str| exposition.value(name, &mine).unwrap();
    if let Some((before, after)) = before.zip(after) {
        bracketed(before, value("container_cpu_usage_seconds_total"), after).unwrap();
    }
    let stat = memory.memory_stat();
    close("usage", value("container_memory_usage_bytes"), float(stat.usage_in_bytes), 0.0, MIB).unwrap();
    if container.kernel().unwrap().is_v1("memory") {
        close("cache", value("container_memory_cache"), float(stat.stat.cache), 0.0, MIB).unwrap();
        close("rss", value("container_memory_rss"), float(stat.stat.rss), 0.0, MIB).unwrap();
    } else {
        // It gives 0 for what v2 calls otherwise, and the v2 keys beside.
        let raw = |key: &str| float(stat.stat.raw.get(key).copied().unwrap_or_default());
        close("cache", value("container_memory_cache"), raw("file"), 0.0, MIB).unwrap();
        close("rss", value("container_memory_rss"), raw("anon"), 0.0, MIB).unwrap();
    }
    assert_eq!(exposition.integer("container_spec_memory_limit_bytes", &mine).unwrap(), stat.limit_in_bytes.into());
    assert_eq!(exposition.integer("container_threads", &mine).unwrap(), pids.get_pid_current().unwrap().into());
    let MaxValue::Value(limit) = pids.get_pid_max().unwrap() else { panic!("no pids limit") };
    assert_eq!(exposition.integer("container_threads_max", &mine).unwrap(), limit.into());
    exporter.stop().unwrap();
}

/// The container's path as the host sees it: inside, a cgroup namespace may hide it.
fn outside(container: &Container<'_>) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid().unwrap())).unwrap();
    let line = text.lines().find(|line| line.contains(&container.id)).unwrap();
    line.rsplit_once(":/").unwrap().1.to_owned()
}

#[test]
fn docker_stats_shows_the_same_values() {
    let engine = Engine::shared().unwrap();
    let options = ["--network=bridge", "--memory=96m", "--shm-size=32m"];
    let container = Container::sleeping(engine, "stats", &options).unwrap();
    container.exec(&["dd", "if=/dev/zero", "of=/dev/shm/a", "bs=1M", "count=16"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let exposition = named(&exporter, &container).unwrap();
    let mine = [("name", container.name.as_str())];
    let format = "{{.MemUsage}}|{{.NetIO}}|{{.PIDs}}";
    let line = container.docker("stats", &["--no-stream", "--format", format]).unwrap();
    let columns: Vec<&str> = line.split('|').collect();
    let (memory, limit) = columns[0].split_once(" / ").unwrap();
    let (received, _) = columns[1].split_once(" / ").unwrap();
    let value = |name: &str| exposition.value(name, &mine).unwrap();
    // Its memory is usage less inactive page cache: our working set.
    close("memory", value("container_memory_working_set_bytes"), bytes(memory), 0.03, MIB).unwrap();
    close("limit", value("container_spec_memory_limit_bytes"), bytes(limit), 0.01, 0.0).unwrap();
    // It only rises, and is shown with three digits.
    let later = exporter.scrape().unwrap().value("container_network_receive_bytes_total", &mine).unwrap();
    let shown = bytes(received);
    bracketed(value("container_network_receive_bytes_total") * 0.99, shown, later * 1.01).unwrap();
    close("pids", value("container_threads"), columns[2].parse().unwrap(), 0.0, 0.0).unwrap();
    exporter.stop().unwrap();
}

/// `16.4MiB`, `1.05kB`.
fn bytes(text: &str) -> f64 {
    let digits = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "B" | "" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => MIB,
        "GiB" => 1024.0 * MIB,
        other => panic!("the unit {other}"),
    };
    number.parse::<f64>().unwrap() * factor
}
