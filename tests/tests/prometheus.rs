//! A real Prometheus scrapes us: every scrape succeeds, the queries that cAdvisor's dashboards and alerts ask give
//! answers, and the series of a removed container end at once.

#[cfg(test)]
#[path = "prometheus/deploy.rs"]
mod deploy;
#[cfg(test)]
#[path = "prometheus/formats.rs"]
mod formats;
#[cfg(test)]
#[path = "prometheus/server.rs"]
mod server;

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};
use server::Prometheus;

/// Scrapes come every two seconds; rates want a few.
const SOON: Duration = Duration::from_secs(30);

/// What dashboards 193, 893, 14282, 11600, 13946, 179, dockprom's and the well-known alert rules ask for, with their
/// selectors. `$name` is a container of ours.
const QUERIES: &[&str] = &[
    // Overviews.
    "count(container_last_seen{image!=\"\"})",
    "count(rate(container_last_seen{name=~\".+\"}[5m]))",
    "sum(rate(container_cpu_usage_seconds_total{name=~\".+\"}[30s])) by (name) * 100",
    "sum(rate(container_cpu_user_seconds_total{image!=\"\"}[30s]))",
    "sum(rate(container_cpu_system_seconds_total{image!=\"\"}[30s]))",
    "container_memory_usage_bytes{name=~\"$name\"}",
    "container_memory_rss{name=~\"$name\"}",
    "container_memory_cache{name!=\"\"}",
    "container_memory_swap{name=\"$name\"}",
    "container_memory_working_set_bytes{name=\"$name\"}",
    "container_memory_max_usage_bytes{name=\"$name\"}",
    "sum(rate(container_network_receive_bytes_total{name=~\"$name\"}[30s])) by (name)",
    "sum(rate(container_network_transmit_bytes_total{name=~\"$name\"}[30s])) by (name)",
    "rate(container_network_receive_packets_total{name=\"$name\",interface=\"eth0\"}[30s])",
    "rate(container_network_receive_packets_dropped_total{name=\"$name\"}[30s])",
    "rate(container_network_transmit_errors_total{name=\"$name\"}[30s])",
    // The host.
    "sum(rate(container_cpu_usage_seconds_total{id=\"/\"}[30s]))",
    "container_memory_usage_bytes{id=\"/\"}",
    "sum(rate(container_network_receive_bytes_total{id=\"/\"}[30s]))",
    "machine_memory_bytes",
    "sum(machine_cpu_cores)",
    "cadvisor_version_info",
    // Times and state.
    "time() - container_start_time_seconds{name=~\".+\"}",
    "time() - container_last_seen{name=\"$name\"} < 60",
    "container_health_state{name=\"$name\"}",
    // Limits and throttling, as the alerts compute them.
    "(sum(container_memory_working_set_bytes{name!=\"\"}) BY (instance, name) / \
      sum(container_spec_memory_limit_bytes{name=\"$name\"} > 0) BY (instance, name) * 100)",
    "(sum(rate(container_cpu_usage_seconds_total{container!=\"\",image!=\"\"}[30s])) by (name) / \
      sum(container_spec_cpu_quota{name!=\"\"} / container_spec_cpu_period{name!=\"\"}) by (name) * 100) \
      or sum(rate(container_cpu_usage_seconds_total{image!=\"\"}[30s])) by (name)",
    "sum(container_spec_cpu_quota{name=\"$name\"} / container_spec_cpu_period) by (name)",
    "sum(rate(container_cpu_cfs_throttled_periods_total{name=\"$name\"}[30s])) by (name) / \
      sum(rate(container_cpu_cfs_periods_total[30s])) by (name)",
    "container_oom_events_total{name=\"$name\"}",
    "container_label_project{} or sum by (container_label_com_docker_compose_project) \
      (container_memory_usage_bytes{container_label_com_docker_compose_project=\"shop\"})",
    // What no cAdvisor gives.
    "container_state{name=\"$name\",state=\"running\"} == 1",
    "container_info{name=\"$name\"}",
];

/// This host may have a thousand other containers, and a debug build serves them slowly.
const OURS: &str = "--containers.include=dse-*";

const OPTIONS: &[&str] = &[
    "--network=bridge",
    "--memory=96m",
    "--cpus=0.5",
    "--label=com.docker.compose.project=shop",
    "--label=com.docker.compose.service=web",
];

fn answered(prometheus: &Prometheus, query: &str) -> Result<()> {
    let samples = prometheus.query(query)?;
    ensure!(!samples.is_empty(), "no result");
    Ok(())
}

/// Every scrape so far was taken whole, but for those that ran out of time: a machine that others use, too, may stand
/// still for so long.
fn no_scrape_failed(prometheus: &Prometheus) -> Result<()> {
    let whole = "up{job=\"exporter\"} + (scrape_duration_seconds{job=\"exporter\"} >= bool 1.9)";
    let failed = prometheus.query(&format!("min_over_time(({whole})[5m:1s]) == 0"))?;
    ensure!(failed.is_empty(), "a scrape failed: {}", prometheus.errors()?);
    Ok(())
}

#[test]
fn the_queries_of_cadvisor_s_dashboards_have_answers() {
    let engine = Engine::shared().unwrap();
    let worker = ["sh", "-c", "while :; do :; done"];
    let container = Container::run(engine, "prometheus", OPTIONS, &worker).unwrap();
    let exporter = Exporter::builder().docker(engine).flag(OURS).start().unwrap();
    let prometheus = Prometheus::start(exporter.address).unwrap();
    wait::eventually(SOON, "rates", || {
        answered(&prometheus, &format!("rate(container_cpu_usage_seconds_total{{name=\"{}\"}}[30s])", container.name))
    })
    .unwrap();
    wait::eventually(SOON, "every answer", || {
        let queries = QUERIES.iter().map(|query| query.replace("$name", &container.name));
        let silent: Vec<String> = queries
            .filter_map(|query| answered(&prometheus, &query).err().map(|error| format!("{query}: {error:#}")))
            .collect();
        ensure!(silent.is_empty(), "{}", silent.join("\n"));
        Ok(())
    })
    .unwrap();
    // Prometheus asks for OpenMetrics first, with gzip.
    no_scrape_failed(&prometheus).unwrap();
    exporter.stop().unwrap();
}

#[test]
fn series_of_a_removed_container_end_at_once() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "stale", OPTIONS).unwrap();
    let (name, id) = (container.name.clone(), container.id.clone());
    let exporter = Exporter::builder().docker(engine).flag(OURS).flag("--containers.linger=4s").start().unwrap();
    let prometheus = Prometheus::start(exporter.address).unwrap();
    let memory = format!("container_memory_usage_bytes{{name=\"{name}\"}}");
    wait::eventually(SOON, "the container", || answered(&prometheus, &memory)).unwrap();
    drop(container);
    // Without staleness marks an instant query finds the last sample for five minutes.
    wait::eventually(Duration::from_secs(10), "its series to end", || {
        let left = prometheus.query(&memory)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();
    wait::eventually(Duration::from_secs(20), "what lingers to end", || {
        let left = prometheus.query(&format!("{{id=~\".*{id}.*\"}}"))?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();
    no_scrape_failed(&prometheus).unwrap();
    exporter.stop().unwrap();
}
