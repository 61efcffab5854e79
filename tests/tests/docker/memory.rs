//! Memory touched, and what happens when there is none left.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use exporter_tests::{Container, Engine, Exporter};

use super::{close, named};

const MIB: f64 = 1024.0 * 1024.0;

#[test]
fn memory_touched_is_counted() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "memory", &["--memory=128m", "--shm-size=64m"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let before = named(&exporter, &container).unwrap();
    container.exec(&["dd", "if=/dev/zero", "of=/dev/shm/touched", "bs=1M", "count=40"]).unwrap();
    let after = exporter.scrape().unwrap();
    for name in ["container_memory_usage_bytes", "container_memory_cache", "container_memory_working_set_bytes"] {
        let grown = after.value(name, &mine).unwrap() - before.value(name, &mine).unwrap();
        close(name, grown, 40.0 * MIB, 0.0, 4.0 * MIB).unwrap();
    }
    // The kernel charges pages in batches, so two readings may be a little apart.
    let kernel = container.kernel().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "bytes of a test's container are far below 2^53")]
    let usage = kernel.memory_bytes().unwrap() as f64;
    close("usage", after.value("container_memory_usage_bytes", &mine).unwrap(), usage, 0.0, MIB).unwrap();
    assert!(after.value("container_memory_max_usage_bytes", &mine).unwrap() >= 40.0 * MIB);
    assert_eq!(after.integer("container_spec_memory_limit_bytes", &mine).unwrap(), 128 << 20);
    assert!(after.value("container_memory_failures_total", &[mine[0], ("failure_type", "pgfault")]).unwrap() > 0.0);

    container.exec(&["rm", "/dev/shm/touched"]).unwrap();
    let freed = exporter.scrape().unwrap().value("container_memory_usage_bytes", &mine).unwrap();
    assert!(freed < 30.0 * MIB, "{freed} after all was given back");
    exporter.stop().unwrap();
}

#[test]
fn an_oom_kill_of_one_process_is_counted() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "oom", &["--memory=24m"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let before = named(&exporter, &container).unwrap();
    assert_eq!(before.integer("container_oom_events_total", &mine).unwrap(), 0);
    container.exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"]).unwrap_err();
    let after = exporter.scrape().unwrap();
    let kills = i128::from(container.kernel().unwrap().oom_kills().unwrap());
    assert!(kills >= 1, "the kernel killed nothing");
    assert_eq!(after.integer("container_oom_events_total", &mine).unwrap(), kills);
    assert_eq!(after.integer("container_memory_events_total", &[mine[0], ("event", "oom_kill")]).unwrap(), kills);
    let failures = after.integer("container_memory_failcnt", &mine).unwrap();
    assert!(failures > 0, "usage never hit the limit");
    exporter.stop().unwrap();
}

#[test]
fn a_container_that_was_oom_killed_says_so_after_its_end() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"];
    let container = Container::run(engine, "hog", &["--memory=24m", "--memory-swap=24m"], &hog).unwrap();
    let mine = [("name", container.name.as_str())];
    exporter
        .scrape_until(Duration::from_secs(10), "the end of the hog", |exposition| {
            ensure!(exposition.has("container_state", &[mine[0], ("state", "exited")]), "not exited");
            ensure!(exposition.integer("container_exit_code", &mine)? == 137, "another exit code");
            let killed = exposition.integer("container_oom_killed", &mine)? == 1;
            // On cgroup v2 an engine may miss the kill: the cgroup, and what it counted, is gone with its only process.
            let reported = container.inspect("{{.State.OOMKilled}}")? == "true";
            ensure!(killed || !reported, "said to be killed: {killed} by us, {reported} by the engine");
            ensure!(killed || Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "the engine reported no kill");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}
