//! Limits as given on the command line, as changed while the container runs, and as absent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

/// Limits may be read anew a little less often than at every scrape.
const CHANGED_WITHIN: Duration = Duration::from_secs(20);

fn expect(exposition: &Exposition, container: &Container<'_>, expected: &[(&str, i128)]) -> Result<()> {
    for (name, value) in expected {
        let ours = exposition.integer(name, &[("name", &container.name)])?;
        ensure!(ours == *value, "{name} is {ours}, not {value}");
    }
    Ok(())
}

#[test]
fn limits_are_those_of_the_command_line_and_of_an_update() {
    let engine = Engine::shared().unwrap();
    let options = [
        "--memory=96m",
        "--memory-swap=160m",
        "--memory-reservation=48m",
        "--cpus=0.75",
        "--cpu-shares=512",
        "--pids-limit=77",
    ];
    let container = Container::sleeping(engine, "limits", &options).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let swap = container.kernel().unwrap().number("memory", "memory.memsw.limit_in_bytes").is_ok();
    let given = [
        ("container_spec_memory_limit_bytes", 96 << 20),
        ("container_spec_memory_reservation_limit_bytes", 48 << 20),
        ("container_spec_cpu_quota", 75_000),
        ("container_spec_cpu_period", 100_000),
        ("container_spec_cpu_shares", 512),
        ("container_threads_max", 77),
    ];
    // On cgroup v2 shares are a guess from the weight until the engine has reported what was asked for.
    let exposition = exporter
        .scrape_until(CHANGED_WITHIN, "the limits", |exposition| {
            expect(exposition, &container, &given)?;
            Ok(exposition.clone())
        })
        .unwrap();
    if swap {
        expect(&exposition, &container, &[("container_spec_memory_swap_limit_bytes", 64 << 20)]).unwrap();
    }

    let update = ["--memory=128m", "--memory-swap=256m", "--cpus=1.5", "--cpu-shares=2048", "--pids-limit=99"];
    container.docker("update", &update).unwrap();
    let changed = [
        ("container_spec_memory_limit_bytes", 128 << 20),
        ("container_spec_cpu_quota", 150_000),
        ("container_spec_cpu_shares", 2048),
        ("container_threads_max", 99),
    ];
    exporter
        .scrape_until(CHANGED_WITHIN, "the new limits", |exposition| expect(exposition, &container, &changed))
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn what_is_not_limited_is_zero_or_absent() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "unlimited", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let exposition = named(&exporter, &container).unwrap();
    let mine = [("name", container.name.as_str())];
    assert!(!exposition.has("container_spec_cpu_quota", &mine));
    let none = [
        ("container_spec_memory_limit_bytes", 0),
        ("container_spec_memory_reservation_limit_bytes", 0),
        ("container_spec_cpu_shares", 1024),
    ];
    expect(&exposition, &container, &none).unwrap();
    // systemd limits every unit's tasks, whatever Docker was told.
    let kernel = container.kernel().unwrap();
    let tasks = kernel.number("pids", "pids.max").unwrap_or(0);
    expect(&exposition, &container, &[("container_threads_max", tasks.into())]).unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_container_is_found_wherever_its_cgroup_hangs() {
    let engine = Engine::shared().unwrap();
    let driver = engine.docker(&["info", "--format", "{{.CgroupDriver}}"]).unwrap();
    let parent = if driver == "systemd" { "dsetests.slice" } else { "/dse-tests/inner" };
    let exporter = Exporter::with(engine).unwrap();
    let container = Container::sleeping(engine, "parent", &[&format!("--cgroup-parent={parent}")]).unwrap();
    let exposition = named(&exporter, &container).unwrap();
    let sample = exposition.one("container_memory_usage_bytes", &[("name", &container.name)]).unwrap();
    let expected = if driver == "systemd" {
        format!("/{parent}/docker-{}.scope", container.id)
    } else {
        format!("{parent}/{}", container.id)
    };
    assert_eq!(sample.label("id"), expected);
    exporter.stop().unwrap();

    // The engine leaves the parents; they go where nothing else hangs in them.
    let kernel = container.kernel().unwrap();
    drop(container);
    for directory in kernel.directories().filter_map(Path::parent) {
        for parent in directory.ancestors().take_while(|parent| parent.to_string_lossy().contains("/dse")) {
            std::fs::remove_dir(parent).unwrap_or_default();
        }
    }
}
