//! CPU seconds burnt, and throttling.

use exporter_tests::{Container, Engine, Exporter};

use super::{bracketed, named};

/// Two seconds of CPU time, however long that takes: the kernel ends it by a limit.
const BURN: &[&str] = &["sh", "-c", "ulimit -t 2; while :; do :; done"];

#[test]
fn seconds_burnt_are_counted() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "burn", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let usage = "container_cpu_usage_seconds_total";
    let idle = named(&exporter, &container).unwrap().value(usage, &mine).unwrap();
    container.exec(BURN).unwrap_err(); // The limit's signal ends it.

    let kernel = container.kernel().unwrap();
    let before = kernel.cpu_seconds().unwrap();
    let exposition = exporter.scrape().unwrap();
    let after = kernel.cpu_seconds().unwrap();
    let sample = exposition.one(usage, &mine).unwrap();
    assert_eq!(sample.label("cpu"), "total");
    bracketed(before, sample.value, after).unwrap();
    let burnt = sample.value - idle;
    // The limit counts ticks, of which a busy virtual machine loses many, so that it may be more; how much it was says the
    // kernel, above.
    assert!(burnt > 1.0, "{burnt} s where 2 s were burnt");

    let user = exposition.value("container_cpu_user_seconds_total", &mine).unwrap();
    let system = exposition.value("container_cpu_system_seconds_total", &mine).unwrap();
    assert!(user > 0.1 * burnt, "{user} s of {burnt} s in user mode");
    // The kernel splits by ticks of 10 ms what it counts in nanoseconds.
    assert!(
        (user + system - sample.value).abs() < 0.1 * sample.value + 0.1,
        "{user} + {system} against {}",
        sample.value
    );
    exporter.stop().unwrap();
}

#[test]
fn throttled_time_is_counted_where_there_is_a_quota() {
    let engine = Engine::shared().unwrap();
    let throttled = Container::sleeping(engine, "throttled", &["--cpus=0.2"]).unwrap();
    let free = Container::sleeping(engine, "unthrottled", &[]).unwrap();
    throttled.exec(BURN).unwrap_err();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &free).unwrap();
    let kernel = throttled.kernel().unwrap();
    let key = |key: &str| kernel.key("cpu", "cpu.stat", key).unwrap();
    let (periods, slowed) = (key("nr_periods"), key("nr_throttled"));
    let exposition = named(&exporter, &throttled).unwrap();
    let mine = [("name", throttled.name.as_str())];
    let value = |name: &str| exposition.integer(name, &mine).unwrap();
    let within = |ours: i128, before: u64, after: u64| (i128::from(before)..=i128::from(after)).contains(&ours);
    assert!(within(value("container_cpu_cfs_periods_total"), periods, key("nr_periods")));
    assert!(within(value("container_cpu_cfs_throttled_periods_total"), slowed, key("nr_throttled")));
    assert!(slowed > 0, "2 s of work with a fifth of a CPU were never throttled");
    assert!(exposition.value("container_cpu_cfs_throttled_seconds_total", &mine).unwrap() > 0.1);
    let unlimited = [("name", free.name.as_str())];
    assert!(!exposition.has("container_cpu_cfs_periods_total", &unlimited), "no quota, no periods");
    exporter.stop().unwrap();
}
