//! Names that change hands, and labels called like what an engine says of a container itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn filters_decide_by_labels_before_and_after_a_rename() {
    let engine = Engine::shared().unwrap();
    let labels = ["--label=name=ubi8", "--label=image=base", "--label=signal=9"];
    let mut container = Container::sleeping(engine, "labels", &labels).unwrap();
    let included = Exporter::builder().docker(engine).flag("--containers.include=label:name=ubi8");
    let included = included.flag("--containers.labels=name,image,signal").start().unwrap();
    let excluded = Exporter::builder().docker(engine).flag("--containers.exclude=label:image=base").start().unwrap();
    let judge = |container: &Container<'_>| -> Result<()> {
        included.scrape_until(SOON, "what is included", |exposition| {
            let sample = exposition.one("container_memory_usage_bytes", &[("name", &container.name)])?;
            for (label, value) in [("name", "ubi8"), ("image", "base"), ("signal", "9")] {
                let ours = sample.label(&format!("container_label_{label}"));
                ensure!(ours == value, "{label}: {ours}");
            }
            ensure!(
                exposition.container(&container.id).all(|sample| sample.label("name") == container.name),
                "old name"
            );
            Ok(())
        })?;
        excluded.scrape_until(SOON, "what is excluded", |exposition| {
            let shown = exposition.container(&container.id).count();
            ensure!(shown == 0, "{shown} series");
            Ok(())
        })
    };
    judge(&container).unwrap();
    for _ in 0..2 {
        container.rename().unwrap();
        judge(&container).unwrap();
    }
    container.docker("restart", &["--time=0"]).unwrap();
    judge(&container).unwrap();
    included.stop().unwrap();
    excluded.stop().unwrap();
}

#[test]
fn a_rebuilt_container_has_its_name_in_the_predecessor_s_schema() {
    let engine = Engine::shared().unwrap();
    for source in ["cgroup", "docker-api"] {
        let exporter = Exporter::builder().docker(engine).flag("--metrics.schema=both");
        let exporter = exporter.flag(format!("--source={source}")).start().unwrap();
        let mut container = Container::sleeping(engine, "rebuilt", &[]).unwrap();
        for _ in 0..3 {
            exporter
                .scrape_until(SOON, "the living one alone", |exposition| {
                    // The scrape itself fails where a series is there twice.
                    let mine = [("container", container.name.as_str())];
                    ensure!(exposition.integer("docker_stats_is_up", &mine)? == 1, "down");
                    let cpu =
                        if source == "cgroup" { "docker_stats_cpuacct_usage" } else { "docker_stats_cpu_total_usage" };
                    exposition.one(cpu, &mine)?;
                    exposition.one("docker_stats_last_seen", &mine).map(drop)
                })
                .unwrap();
            let before = container.id.clone();
            container.rebuild().unwrap();
            exporter
                .scrape_until(SOON, "both", |exposition| {
                    let lingers = [("container_id", before.as_str())];
                    let lives = [("container_id", container.id.as_str())];
                    exposition.one("container_info", &lingers)?;
                    exposition.one("container_info", &lives).map(drop)
                })
                .unwrap();
        }
        exporter.stop().unwrap();
    }
}
