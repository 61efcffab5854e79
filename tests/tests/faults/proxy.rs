//! A real engine behind a proxy that ends its event streams in the middle.

use std::time::{Duration, Instant};

use anyhow::ensure;
use exporter_tests::proxy::CuttingProxy;
use exporter_tests::{Container, Engine, Exporter};

const CPU: &str = "container_cpu_usage_seconds_total";

#[test]
fn cut_event_streams_cost_neither_containers_nor_names_nor_a_warning() {
    let engine = Engine::shared().unwrap();
    let old = Container::sleeping(engine, "cut", &[]).unwrap();
    for source in ["cgroup", "docker-api"] {
        let proxy = CuttingProxy::start(&engine.socket().unwrap(), Duration::from_millis(1200)).unwrap();
        let exporter = Exporter::builder().docker_url(&proxy.url()).flag(format!("--source={source}")).start().unwrap();
        let named = |container: &Container<'_>| {
            exporter
                .scrape_until(Duration::from_secs(5), "its name", |exposition| {
                    exposition.one(CPU, &[("name", &container.name)]).map(drop)
                })
                .unwrap();
        };
        named(&old);
        let end = Instant::now() + Duration::from_secs(8);
        let mut scrapes = 0;
        while Instant::now() < end || proxy.cuts() < 4 {
            let exposition = exporter.scrape().unwrap();
            assert!(exposition.value("docker_stats_exporter_docker_up", &[]).unwrap() > 0.5, "{source}");
            assert!(exposition.has(CPU, &[("name", &old.name)]), "{source}: scrape {scrapes}");
            scrapes += 1;
        }
        // While streams come and go, so do containers.
        for _ in 0..3 {
            let new = Container::sleeping(engine, "new", &[]).unwrap();
            named(&new);
        }
        let restarts = exporter.scrape().unwrap();
        let inspections: f64 = restarts
            .select("docker_stats_exporter_docker_requests_total", &[("endpoint", "inspect")])
            .iter()
            .map(|sample| sample.value)
            .sum();
        let containers = restarts.select("container_info", &[]).len();
        let said = exporter.stop().unwrap();
        assert!(!said.lines().any(|line| line.contains("level=warn") && line.contains("answer")), "{source}: {said}");
        let seen = ensure_few(inspections, containers);
        seen.unwrap();
    }
}

/// Containers of other tests come and go, too; to inspect all of them at each cut would be far more.
fn ensure_few(inspections: f64, containers: usize) -> anyhow::Result<()> {
    let containers = u32::try_from(containers)?;
    ensure!(inspections < 4.0 * f64::from(containers + 40), "{inspections} inspections of {containers} containers");
    Ok(())
}
