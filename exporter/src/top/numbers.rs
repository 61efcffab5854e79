//! Computes the numbers that the columns and `--json` show.

use serde_json::{Value, json};

use super::exposition::{Counter, Gauge, Pressure};
use super::model::{Model, Row};

/// Version of the JSON. It grows when a key changes its meaning.
const SCHEMA: u32 = 1;

/// The source of the network rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkSource {
    /// The container's interfaces.
    Interfaces,
    /// IP packets counted by eBPF.
    Ebpf,
}

/// The numbers of one container in base units; none is unknown.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub(super) health: Option<&'static str>,
    pub(super) cpu_percent: Option<f64>,
    pub(super) cpu_limit_cores: Option<f64>,
    pub(super) throttled_percent: Option<f64>,
    pub(super) working_set: Option<f64>,
    pub(super) usage: Option<f64>,
    pub(super) memory_limit: Option<f64>,
    pub(super) memory_percent: Option<f64>,
    pub(super) receive: Option<f64>,
    pub(super) transmit: Option<f64>,
    pub(super) network_source: Option<NetworkSource>,
    pub(super) read: Option<f64>,
    pub(super) write: Option<f64>,
    pub(super) pressure_cpu: Option<f64>,
    pub(super) pressure_memory: Option<f64>,
    pub(super) pressure_io: Option<f64>,
}

impl Numbers {
    /// Computes the numbers of a row. A memory limit above the host's memory counts as no limit.
    pub(super) fn of(row: &Row, host: &Row) -> Self {
        let gauge = |gauge| row.gauges.get(gauge);
        let rate = |counter| row.rates.get(counter);
        let host_memory = host.gauges.get(Gauge::Memory);
        let memory_limit =
            gauge(Gauge::MemoryLimit).filter(|limit| *limit > 0.0 && host_memory.is_none_or(|memory| *limit < memory));
        let working_set = gauge(Gauge::WorkingSet);
        let ceiling = memory_limit.or(host_memory).filter(|ceiling| *ceiling > 0.0);
        let interfaces = (rate(Counter::Receive), rate(Counter::Transmit));
        let ebpf = (rate(Counter::EbpfReceive), rate(Counter::EbpfTransmit));
        let ((receive, transmit), network_source) = match (interfaces, ebpf) {
            ((None, None), (None, None)) => ((None, None), None),
            ((None, None), ebpf) => (ebpf, Some(NetworkSource::Ebpf)),
            (interfaces, _) => (interfaces, Some(NetworkSource::Interfaces)),
        };
        Self {
            health: health(row),
            cpu_percent: rate(Counter::Cpu).map(|cores| 100.0 * cores),
            cpu_limit_cores: row.cpu_limit_cores(),
            throttled_percent: row.throttled_share.map(|share| 100.0 * share),
            working_set,
            usage: gauge(Gauge::Usage),
            memory_limit,
            memory_percent: working_set.zip(ceiling).map(|(used, ceiling)| 100.0 * used / ceiling),
            receive,
            transmit,
            network_source,
            read: rate(Counter::Read),
            write: rate(Counter::Write),
            pressure_cpu: row.pressure_percent.get(Pressure::Cpu),
            pressure_memory: row.pressure_percent.get(Pressure::Memory),
            pressure_io: row.pressure_percent.get(Pressure::Io),
        }
    }

    /// Returns the highest pressure in per cent, and its kind.
    pub(super) fn pressure(&self) -> Option<(&'static str, f64)> {
        let kinds = [("cpu", self.pressure_cpu), ("mem", self.pressure_memory), ("io", self.pressure_io)];
        kinds
            .into_iter()
            .filter_map(|(kind, value)| Some((kind, value?)))
            .reduce(|most, next| if next.1 > most.1 { next } else { most })
    }
}

/// Returns the health of a container as a word; none without a health check.
pub(super) fn health(row: &Row) -> Option<&'static str> {
    let state = row.gauges.get(Gauge::HealthState).filter(|state| *state >= 0.0)?;
    if state > 0.0 {
        return Some("healthy");
    }
    let failing = row.gauges.get(Gauge::FailingStreak).is_some_and(|streak| streak > 0.0);
    Some(if failing { "failing" } else { "starting" })
}

/// Returns one poll as a JSON object: numbers in base units, null for unknown values.
pub(super) fn json(model: &Model, url: &str, time: f64, host_name: &str) -> Value {
    let host = &model.host;
    let numbers = Numbers::of(host, host);
    let mut rows: Vec<&Row> = model.rows.values().collect();
    rows.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
    let (containers, cgroups): (Vec<&Row>, Vec<&Row>) = rows.into_iter().partition(|row| row.is_container());
    let list = |rows: Vec<&Row>| rows.into_iter().map(|row| container(row, host)).collect::<Vec<_>>();
    json!({
        "schema": SCHEMA,
        "time": time,
        "interval_seconds": model.interval,
        "url": url,
        "host": {
            "name": host_name,
            "cpu_cores": whole(host.gauges.get(Gauge::Cores)),
            "cpu_percent": whole(numbers.cpu_percent),
            "memory_bytes": whole(host.gauges.get(Gauge::Memory)),
            "memory_working_set_bytes": whole(numbers.working_set),
            "swap_bytes": whole(host.gauges.get(Gauge::Swap)),
            "network_receive_bytes_per_second": whole(numbers.receive),
            "network_transmit_bytes_per_second": whole(numbers.transmit),
            "pressure_cpu_percent": whole(numbers.pressure_cpu),
            "pressure_memory_percent": whole(numbers.pressure_memory),
            "pressure_io_percent": whole(numbers.pressure_io),
        },
        "containers": list(containers),
        // Cgroups that `--cgroups.include` names. They may contain containers, so they are not listed among them.
        "cgroups": list(cgroups),
    })
}

/// Returns one container as a JSON object.
pub(super) fn container(row: &Row, host: &Row) -> Value {
    let numbers = Numbers::of(row, host);
    let gauge = |gauge| row.gauges.get(gauge);
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "id": row.key,
        "cgroup": row.id,
        "name": text(&row.name),
        "image": text(&row.image),
        "project": row.project,
        "state": row.state,
        "health": numbers.health,
        "health_failing_streak": whole(gauge(Gauge::FailingStreak)),
        "exit_code": whole(gauge(Gauge::ExitCode)),
        "oom_killed": gauge(Gauge::OomKilled).map(|value| value > 0.0),
        "restarts": whole(gauge(Gauge::Restarts)),
        "start_time": whole(gauge(Gauge::StartTime)),
        "cpu_percent": whole(numbers.cpu_percent),
        "cpu_limit_cores": whole(numbers.cpu_limit_cores),
        "cpu_throttled_percent": whole(numbers.throttled_percent),
        "memory_working_set_bytes": whole(numbers.working_set),
        "memory_usage_bytes": whole(numbers.usage),
        "memory_limit_bytes": whole(numbers.memory_limit),
        "memory_percent": whole(numbers.memory_percent),
        "network_receive_bytes_per_second": whole(numbers.receive),
        "network_transmit_bytes_per_second": whole(numbers.transmit),
        "network_source": numbers.network_source.map(|source| match source {
            NetworkSource::Interfaces => "interfaces",
            NetworkSource::Ebpf => "ebpf",
        }),
        "disk_read_bytes_per_second": whole(numbers.read),
        "disk_write_bytes_per_second": whole(numbers.write),
        "pressure_cpu_percent": whole(numbers.pressure_cpu),
        "pressure_memory_percent": whole(numbers.pressure_memory),
        "pressure_io_percent": whole(numbers.pressure_io),
        "threads": whole(gauge(Gauge::Threads)),
        "threads_max": whole(gauge(Gauge::ThreadsMax).filter(|most| *most > 0.0)),
    })
}

/// Returns a number as JSON. A whole number has no fraction, as in JavaScript.
fn whole(value: Option<f64>) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact integers of a double")]
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => json!(value as i64),
        value => json!(value),
    }
}
