//! Our own metrics: what the exporter says of itself, held in a `prometheus` registry.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::CollectorSet;
use super::self_process::ProcessMetrics;

const NO_LABELS: &[&str; 0] = &[];

/// The exporter's own counters. Cloning shares them.
#[derive(Clone, Debug)]
pub struct SelfMetrics {
    registry: Registry,
    /// See [`SelfMetrics::names`].
    names: Vec<String>,
    /// Whether [`SelfMetrics::gather`] gives anything.
    is_exposed: bool,
    /// `docker_stats_exporter_scrape_collector_duration_seconds{collector}`.
    pub collector_duration: GaugeVec,
    /// `docker_stats_exporter_scrape_collector_success{collector}`: 1 or 0.
    pub collector_success: IntGaugeVec,
    /// `docker_stats_exporter_containers`: containers whose cgroup (or, in API mode, whose stats) we read.
    pub containers: IntGauge,
    /// `docker_stats_exporter_cgroups_refused{reason}`: cgroups that are named as containers are and are none.
    pub cgroups_refused: IntGaugeVec,
    /// `docker_stats_exporter_docker_up`, with the label `engine` where there are several.
    docker_up: IntGaugeVec,
    /// Whether there are several engines.
    names_engines: bool,
    /// `docker_stats_exporter_docker_requests_total{endpoint,code}`; `code` is the HTTP status, `timeout` or `error`.
    pub docker_requests: IntCounterVec,
    /// `docker_stats_exporter_docker_events_total{action}`.
    pub docker_events: IntCounterVec,
    /// `docker_stats_exporter_read_errors_total{file,reason}`.
    pub read_errors: IntCounterVec,
    /// `docker_stats_exporter_ebpf_program_loaded{program}`: 1 or 0.
    pub ebpf_program_loaded: IntGaugeVec,
    /// `docker_stats_exporter_ebpf_program_runs_total{program}`, where the kernel counts runs.
    pub ebpf_program_runs: IntCounterVec,
    /// `docker_stats_exporter_ebpf_program_run_seconds_total{program}`, where the kernel counts runs.
    pub ebpf_program_seconds: CounterVec,
    /// `docker_stats_exporter_ebpf_map_entries{map}`.
    pub ebpf_map_entries: IntGaugeVec,
    /// `docker_stats_exporter_ebpf_entries_refused_total{map}`.
    pub ebpf_refused: IntCounterVec,
    /// `docker_stats_exporter_read_path{collector,path}`: containers that were read by a path in the last scrape.
    pub read_path: IntGaugeVec,
    /// `docker_stats_exporter_web_config_last_reload_successful`: 1 or 0; absent without a file.
    pub web_config_reload: IntGaugeVec,
    /// Of the process that sums up layers.
    pub walker: WalkerMetrics,
    /// `docker_stats_exporter_series_dropped_total{reason}`.
    pub series_dropped: IntCounterVec,
    /// `docker_stats_exporter_sandbox{part}`: 1 or 0 for `capabilities`, `landlock` and `seccomp`.
    pub sandbox: IntGaugeVec,
}

/// Whether one engine answers. Cloning shares it.
#[derive(Clone, Debug)]
pub struct EngineUp(IntGauge);

impl EngineUp {
    /// Whether it answers.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.get() == 1
    }

    /// It answers from now on, or does not.
    pub fn set(&self, is_up: bool) {
        self.0.set(is_up.into());
    }
}

impl SelfMetrics {
    /// Registers everything, the standard `process_*` metrics included, for one engine.
    ///
    /// # Errors
    /// A name that is registered twice or not valid: a bug in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::of_engines(1)
    }

    /// The same for so many engines.
    ///
    /// # Errors
    /// As [`SelfMetrics::new`].
    pub fn of_engines(count: usize) -> Result<Self, prometheus::Error> {
        let names_engines = count > 1;
        let registry = Registry::new();
        let mut self_metrics = Self {
            collector_duration: GaugeVec::new(
                opts("scrape_collector_duration_seconds", "Time that a collector took in this scrape."),
                &["collector"],
            )?,
            collector_success: collector_success()?,
            containers: IntGauge::with_opts(opts("containers", "Containers found on this host with live processes."))?,
            cgroups_refused: gauges(
                "cgroups_refused",
                "Cgroups that are named as containers are, and are not exposed as such.",
                &["reason"],
            )?,
            docker_up: gauges(
                "docker_up",
                "Whether the Docker engine answers.",
                if names_engines { &["engine"] } else { &[] },
            )?,
            names_engines,
            docker_requests: counters(
                "docker_requests_total",
                "Requests to the Docker engine by endpoint and outcome.",
                &["endpoint", "code"],
            )?,
            docker_events: counters(
                "docker_events_total",
                "Container events received from the Docker engine.",
                &["action"],
            )?,
            read_errors: counters(
                "read_errors_total",
                "Values left out because a kernel file could not be read or understood.",
                &["file", "reason"],
            )?,
            ebpf_program_loaded: gauges(
                "ebpf_program_loaded",
                "Whether an eBPF program that is wanted runs in the kernel.",
                &["program"],
            )?,
            ebpf_program_runs: counters(
                "ebpf_program_runs_total",
                "Runs of an eBPF program, while kernel.bpf_stats_enabled is 1.",
                &["program"],
            )?,
            ebpf_program_seconds: CounterVec::new(
                opts("ebpf_program_run_seconds_total", "Time in an eBPF program, while kernel.bpf_stats_enabled is 1."),
                &["program"],
            )?,
            ebpf_map_entries: gauges("ebpf_map_entries", "Entries of an eBPF map that are in use.", &["map"])?,
            ebpf_refused: counters(
                "ebpf_entries_refused_total",
                "Events that were not counted, as an eBPF map was full.",
                &["map"],
            )?,
            read_path: gauges(
                "read_path",
                "Containers that were read by this path in the last scrape, by collector.",
                &["collector", "path"],
            )?,
            web_config_reload: gauges(
                "web_config_last_reload_successful",
                "Whether the file of --web.config.file was good when it was last read.",
                &[],
            )?,
            walker: WalkerMetrics::new()?,
            series_dropped: counters(
                "series_dropped_total",
                "Series or labels left out or cut to keep the exposition bounded.",
                &["reason"],
            )?,
            sandbox: gauges(
                "sandbox",
                "Whether a part of the sandbox holds: capabilities is 1 where none is left.",
                &["part"],
            )?,
            registry,
            names: Vec::new(),
            is_exposed: true,
        };
        self_metrics.register_all()?;
        Ok(self_metrics)
    }

    fn register_all(&mut self) -> Result<(), prometheus::Error> {
        let build_info =
            gauges("build_info", "Version of this program; the value is always 1.", &["version", "revision", "rustc"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"), env!("BUILD_RUSTC")]).set(1);
        self.register([
            Box::new(build_info) as Box<dyn Collector>,
            Box::new(self.collector_duration.clone()),
            Box::new(self.collector_success.clone()),
            Box::new(self.containers.clone()),
            Box::new(self.cgroups_refused.clone()),
            Box::new(self.docker_up.clone()),
            Box::new(self.docker_requests.clone()),
            Box::new(self.docker_events.clone()),
            Box::new(self.read_errors.clone()),
            Box::new(self.ebpf_program_loaded.clone()),
            Box::new(self.ebpf_program_runs.clone()),
            Box::new(self.ebpf_program_seconds.clone()),
            Box::new(self.ebpf_map_entries.clone()),
            Box::new(self.ebpf_refused.clone()),
            Box::new(self.read_path.clone()),
            Box::new(self.series_dropped.clone()),
            Box::new(self.web_config_reload.clone()),
            Box::new(self.sandbox.clone()),
            Box::new(ProcessMetrics::new()?),
        ])?;
        self.register(self.walker.collectors())
    }

    /// Counts as before, but exposes none of it (`--web.disable-exporter-metrics`).
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { is_exposed: false, ..self }
    }

    /// The name of every family, those included that have no sample yet.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn register(&mut self, collectors: impl IntoIterator<Item = Box<dyn Collector>>) -> Result<(), prometheus::Error> {
        for collector in collectors {
            self.names.extend(collector.desc().iter().map(|description| description.fq_name.clone()));
            self.registry.register(collector)?;
        }
        Ok(())
    }

    /// Everything as families of the client library, for the renderer.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        if self.is_exposed { self.registry.gather() } else { Vec::new() }
    }

    /// Our own metrics of a scrape for which nothing was read: no collector succeeded.
    ///
    /// # Errors
    /// A name that is not valid: a bug in this file.
    pub fn of_nothing_read(&self, collectors: CollectorSet) -> Result<Vec<MetricFamily>, prometheus::Error> {
        if !self.is_exposed {
            return Ok(Vec::new());
        }
        let success = collector_success()?;
        collectors.iter().for_each(|collector| success.with_label_values(&[collector.name()]).set(0));
        Ok(success.collect())
    }

    /// Returns the sample of `docker_up` of this engine; 0 until it is set.
    #[must_use]
    pub fn engine_up(&self, engine: &str) -> EngineUp {
        let labels: &[&str] = if self.names_engines { &[engine] } else { &[] };
        EngineUp(self.docker_up.with_label_values(labels))
    }

    /// The file of `--web.config.file` was read.
    pub fn set_web_config_reload(&self, is_good: bool) {
        self.web_config_reload.with_label_values::<&str>(&[]).set(is_good.into());
    }

    /// One value of `file` was left out because of `reason`.
    pub fn count_read_error(&self, file: &str, reason: &str) {
        self.read_errors.with_label_values(&[file, reason]).inc();
    }
}

/// Metrics of the disk walker; absent where it does not run. Cloning shares them.
#[derive(Clone, Debug)]
pub struct WalkerMetrics {
    up: IntGaugeVec,
    restarts: IntCounterVec,
    memory: IntGaugeVec,
    cpu: CounterVec,
    oldest: IntGaugeVec,
}

impl WalkerMetrics {
    fn new() -> Result<Self, prometheus::Error> {
        let (up, restarts) = ("disk_walker_up", "disk_walker_restarts_total");
        let (memory, cpu) = ("disk_walker_resident_memory_bytes", "disk_walker_cpu_seconds_total");
        Ok(Self {
            up: IntGaugeVec::new(opts(up, "Whether the process that sums up containers' layers works."), NO_LABELS)?,
            restarts: IntCounterVec::new(
                opts(restarts, "How often the process that sums up containers' layers was started anew."),
                NO_LABELS,
            )?,
            memory: IntGaugeVec::new(
                opts(memory, "Resident memory of the processes that sum up containers' layers."),
                NO_LABELS,
            )?,
            cpu: CounterVec::new(opts(cpu, "CPU time that summing up containers' layers has taken."), NO_LABELS)?,
            oldest: IntGaugeVec::new(
                opts("disk_oldest_measurement_seconds", "Age of the oldest size of a layer that is exposed."),
                NO_LABELS,
            )?,
        })
    }

    fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.up.clone()),
            Box::new(self.restarts.clone()),
            Box::new(self.memory.clone()),
            Box::new(self.cpu.clone()),
            Box::new(self.oldest.clone()),
        ]
    }

    /// Sets `docker_stats_exporter_disk_walker_up`.
    pub fn set_up(&self, is_up: bool) {
        self.up.with_label_values(NO_LABELS).set(is_up.into());
        // There from the first time on.
        self.restarts.with_label_values(NO_LABELS).inc_by(0);
    }

    /// Counts `docker_stats_exporter_disk_walker_restarts_total`.
    pub fn count_restart(&self) {
        self.restarts.with_label_values(NO_LABELS).inc();
    }

    /// Sets `docker_stats_exporter_disk_walker_resident_memory_bytes`.
    pub fn set_memory(&self, bytes: u64) {
        self.memory.with_label_values(NO_LABELS).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Adds to `docker_stats_exporter_disk_walker_cpu_seconds_total`.
    pub fn add_cpu(&self, seconds: f64) {
        self.cpu.with_label_values(NO_LABELS).inc_by(seconds);
    }

    /// Sets `docker_stats_exporter_disk_oldest_measurement_seconds`; absent where nothing is measured.
    pub fn set_oldest(&self, seconds: Option<u64>) {
        self.oldest.reset();
        if let Some(seconds) = seconds.and_then(|seconds| i64::try_from(seconds).ok()) {
            self.oldest.with_label_values(NO_LABELS).set(seconds);
        }
    }
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(opts(name, help), labels)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(opts(name, help), labels)
}

fn collector_success() -> Result<IntGaugeVec, prometheus::Error> {
    let help = "Whether a collector read all it wanted in this scrape.";
    IntGaugeVec::new(opts("scrape_collector_success", help), &["collector"])
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("docker_stats_exporter_{name}"), help)
}
