//! What the exporter says of its disk walker. All of it is absent where there is none.

use prometheus::core::Collector;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec};

use super::self_metrics::opts;

const NO_LABELS: &[&str; 0] = &[];

/// Metrics of the process that sums up layers. Cloning shares them.
#[derive(Clone, Debug)]
pub struct WalkerMetrics {
    up: IntGaugeVec,
    restarts: IntCounterVec,
    memory: IntGaugeVec,
    cpu: CounterVec,
    oldest: IntGaugeVec,
}

impl WalkerMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
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

    pub(super) fn collectors(&self) -> [Box<dyn Collector>; 5] {
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
