//! The exporter's own metrics (`docker_stats_exporter_*`), in a registry of the `prometheus` crate.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::CollectorSet;
use super::self_process::ProcessMetrics;

const NO_LABELS: &[&str] = &[];

/// The exporter's own metrics. Cloning shares them.
#[derive(Clone, Debug)]
pub struct SelfMetrics {
    registered: Registered,
    /// Whether [`SelfMetrics::gather`] gives anything.
    is_exposed: bool,
    /// `docker_stats_exporter_scrape_collector_duration_seconds{collector}`.
    pub collector_duration: GaugeVec,
    /// `docker_stats_exporter_scrape_collector_success{collector}`: 1 or 0.
    pub collector_success: IntGaugeVec,
    /// `docker_stats_exporter_containers`: containers whose cgroup (in API mode: whose stats) is read.
    pub containers: IntGauge,
    /// `docker_stats_exporter_cgroups_refused{reason}`: cgroups that have a container's name and belong to no container.
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
    /// `docker_stats_exporter_disk_*`.
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
    /// Returns whether the engine answers.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.get() == 1
    }

    /// Records whether the engine answers.
    pub fn set(&self, is_up: bool) {
        self.0.set(is_up.into());
    }
}

impl SelfMetrics {
    /// Registers all metrics, the standard `process_*` ones included, for one engine.
    ///
    /// # Errors
    /// A name that is registered twice or not valid: a bug in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::of_engines(1)
    }

    /// Registers all metrics for so many engines. `docker_up` has the label `engine` where there are several.
    ///
    /// # Errors
    /// As [`SelfMetrics::new`].
    pub fn of_engines(count: usize) -> Result<Self, prometheus::Error> {
        let names_engines = count > 1;
        let mut all = Registered { registry: Registry::new(), names: Vec::new() };
        let build_info = all.gauges(
            "build_info",
            "Version of this program; the value is always 1.",
            &["version", "revision", "rustc"],
        )?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"), env!("BUILD_RUSTC")]).set(1);
        all.add(ProcessMetrics::new()?)?;
        Ok(Self {
            collector_duration: all.add(GaugeVec::new(
                opts("scrape_collector_duration_seconds", "Time that a collector took in this scrape."),
                &["collector"],
            )?)?,
            collector_success: all.add(collector_success()?)?,
            containers: all
                .add(IntGauge::with_opts(opts("containers", "Containers found on this host with live processes."))?)?,
            cgroups_refused: all.gauges(
                "cgroups_refused",
                "Cgroups that are named as containers are, and are not exposed as such.",
                &["reason"],
            )?,
            docker_up: all.gauges(
                "docker_up",
                "Whether the Docker engine answers.",
                if names_engines { &["engine"] } else { NO_LABELS },
            )?,
            names_engines,
            docker_requests: all.counters(
                "docker_requests_total",
                "Requests to the Docker engine by endpoint and outcome.",
                &["endpoint", "code"],
            )?,
            docker_events: all.counters(
                "docker_events_total",
                "Container events received from the Docker engine.",
                &["action"],
            )?,
            read_errors: all.counters(
                "read_errors_total",
                "Values left out because a kernel file could not be read or understood.",
                &["file", "reason"],
            )?,
            ebpf_program_loaded: all.gauges(
                "ebpf_program_loaded",
                "Whether an eBPF program that is wanted runs in the kernel.",
                &["program"],
            )?,
            ebpf_program_runs: all.counters(
                "ebpf_program_runs_total",
                "Runs of an eBPF program, while kernel.bpf_stats_enabled is 1.",
                &["program"],
            )?,
            ebpf_program_seconds: all.seconds(
                "ebpf_program_run_seconds_total",
                "Time in an eBPF program, while kernel.bpf_stats_enabled is 1.",
                &["program"],
            )?,
            ebpf_map_entries: all.gauges("ebpf_map_entries", "Entries of an eBPF map that are in use.", &["map"])?,
            ebpf_refused: all.counters(
                "ebpf_entries_refused_total",
                "Events that were not counted, as an eBPF map was full.",
                &["map"],
            )?,
            read_path: all.gauges(
                "read_path",
                "Containers that were read by this path in the last scrape, by collector.",
                &["collector", "path"],
            )?,
            web_config_reload: all.gauges(
                "web_config_last_reload_successful",
                "Whether the file of --web.config.file was good when it was last read.",
                NO_LABELS,
            )?,
            walker: WalkerMetrics::new(&mut all)?,
            series_dropped: all.counters(
                "series_dropped_total",
                "Series or labels left out or cut to keep the exposition bounded.",
                &["reason"],
            )?,
            sandbox: all.gauges(
                "sandbox",
                "Whether a part of the sandbox holds: capabilities is 1 where none is left.",
                &["part"],
            )?,
            registered: all,
            is_exposed: true,
        })
    }

    /// Hides the metrics (`--web.disable-exporter-metrics`): they count, but [`SelfMetrics::gather`] returns none of them.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { is_exposed: false, ..self }
    }

    /// Returns the name of every family, with those that have no sample yet.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.registered.names
    }

    /// Returns all families that have samples, for the renderer.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        if self.is_exposed { self.registered.registry.gather() } else { Vec::new() }
    }

    /// Returns the metrics of a scrape for which nothing was read: no collector succeeded.
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

    /// Records whether the file of `--web.config.file` was good when it was read.
    pub fn set_web_config_reload(&self, is_good: bool) {
        self.web_config_reload.with_label_values(NO_LABELS).set(is_good.into());
    }

    /// Counts a value of `file` that was left out because of `reason`.
    pub fn count_read_error(&self, file: &str, reason: &str) {
        self.read_errors.with_label_values(&[file, reason]).inc();
    }
}

/// Metrics of the disk walker, the process that sums up layers; absent where it does not run. Cloning shares them.
#[derive(Clone, Debug)]
pub struct WalkerMetrics {
    up: IntGaugeVec,
    restarts: IntCounterVec,
    memory: IntGaugeVec,
    cpu: CounterVec,
    oldest: IntGaugeVec,
}

impl WalkerMetrics {
    fn new(all: &mut Registered) -> Result<Self, prometheus::Error> {
        Ok(Self {
            up: all.gauges(
                "disk_walker_up",
                "Whether the process that sums up containers' layers works.",
                NO_LABELS,
            )?,
            restarts: all.counters(
                "disk_walker_restarts_total",
                "How often the process that sums up containers' layers was started anew.",
                NO_LABELS,
            )?,
            memory: all.gauges(
                "disk_walker_resident_memory_bytes",
                "Resident memory of the processes that sum up containers' layers.",
                NO_LABELS,
            )?,
            cpu: all.seconds(
                "disk_walker_cpu_seconds_total",
                "CPU time that summing up containers' layers has taken.",
                NO_LABELS,
            )?,
            oldest: all.gauges(
                "disk_oldest_measurement_seconds",
                "Age of the oldest size of a layer that is exposed.",
                NO_LABELS,
            )?,
        })
    }

    /// Sets `docker_stats_exporter_disk_walker_up`.
    pub fn set_up(&self, is_up: bool) {
        self.up.with_label_values(NO_LABELS).set(is_up.into());
        // A counter is exposed from its first use on.
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

/// The registry, and the name of every family in it.
#[derive(Clone, Debug)]
struct Registered {
    registry: Registry,
    names: Vec<String>,
}

impl Registered {
    /// Registers a collector of the client library, and returns it.
    fn add<C: Collector + Clone + 'static>(&mut self, collector: C) -> Result<C, prometheus::Error> {
        self.names.extend(collector.desc().iter().map(|description| description.fq_name.clone()));
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(opts(name, help), labels)?)
    }

    /// Registers counters of seconds, which have a fraction.
    fn seconds(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, prometheus::Error> {
        self.add(CounterVec::new(opts(name, help), labels)?)
    }
}

fn collector_success() -> Result<IntGaugeVec, prometheus::Error> {
    let help = "Whether a collector read all it wanted in this scrape.";
    IntGaugeVec::new(opts("scrape_collector_success", help), &["collector"])
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("docker_stats_exporter_{name}"), help)
}
