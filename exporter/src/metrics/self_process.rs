//! The standard `process_*` metrics of the exporter itself, from `/proc/self`. CPU time has the kernel's resolution of a clock tick, which
//! the collector of the client library rounds to seconds.

use procfs::process::{LimitValue, Process};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge};

/// Reads `/proc/self/{stat,limits,fd}` at each scrape. A file that cannot be read leaves its metrics out.
#[derive(Clone, Debug)]
pub(super) struct ProcessMetrics {
    descriptions: Vec<Desc>,
}

impl ProcessMetrics {
    /// Describes the metrics.
    ///
    /// # Errors
    /// A name that is not valid.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let families: [Box<dyn Collector>; 7] = [
            Box::new(cpu_seconds(0.0)?),
            Box::new(gauge(OPEN_FDS, 0)?),
            Box::new(gauge(MAX_FDS, 0)?),
            Box::new(gauge(VIRTUAL_MEMORY, 0)?),
            Box::new(gauge(RESIDENT_MEMORY, 0)?),
            Box::new(gauge(START_TIME, 0)?),
            Box::new(gauge(THREADS, 0)?),
        ];
        Ok(Self { descriptions: families.iter().flat_map(|family| family.desc()).cloned().collect() })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    /// Reads the files and makes the metrics anew, as a counter of the client library cannot be set.
    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(process) = Process::myself() else { return Vec::new() };
        let mut families = Vec::new();
        let mut set = |(name, help), value: Option<u64>| {
            let value = value.and_then(|value| i64::try_from(value).ok());
            families.extend(value.and_then(|value| gauge((name, help), value).ok()).map(|gauge| gauge.collect()));
        };
        // Listing takes a descriptor of its own.
        set(OPEN_FDS, process.fd_count().ok().and_then(|count| u64::try_from(count).ok()?.checked_sub(1)));
        let max_fds = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(value) => Some(value),
            LimitValue::Unlimited => None,
        });
        set(MAX_FDS, max_fds);
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second();
            let start = procfs::boot_time_secs().ok().map(|boot| boot + stat.starttime / ticks);
            set(VIRTUAL_MEMORY, Some(stat.vsize));
            set(RESIDENT_MEMORY, stat.rss.checked_mul(procfs::page_size()));
            set(START_TIME, start);
            set(THREADS, u64::try_from(stat.num_threads).ok());
            families.extend(cpu_seconds(seconds(stat.utime + stat.stime, ticks)).ok().map(|counter| counter.collect()));
        }
        families.into_iter().flatten().collect()
    }
}

const OPEN_FDS: (&str, &str) = ("process_open_fds", "Number of open file descriptors.");
const MAX_FDS: (&str, &str) = ("process_max_fds", "Maximum number of open file descriptors.");
const VIRTUAL_MEMORY: (&str, &str) = ("process_virtual_memory_bytes", "Virtual memory size in bytes.");
const RESIDENT_MEMORY: (&str, &str) = ("process_resident_memory_bytes", "Resident memory size in bytes.");
const START_TIME: (&str, &str) =
    ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
const THREADS: (&str, &str) = ("process_threads", "Number of OS threads in the process.");

fn gauge((name, help): (&str, &str), value: i64) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value);
    Ok(gauge)
}

fn cpu_seconds(seconds: f64) -> Result<Counter, prometheus::Error> {
    let help = "Total user and system CPU time spent in seconds.";
    let counter = Counter::new("process_cpu_seconds_total", help)?;
    counter.inc_by(seconds);
    Ok(counter)
}

/// Converts clock ticks to seconds. Whole seconds and the rest are divided apart, so that long run times stay exact.
fn seconds(ticks: u64, per_second: u64) -> f64 {
    let (whole, rest) = (ticks / per_second.max(1), ticks % per_second.max(1));
    let part = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    part(whole) + part(rest) / part(per_second.max(1))
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector as _;

    use super::{ProcessMetrics, seconds};

    #[test]
    fn cpu_time_has_the_resolution_of_the_kernel() {
        assert!((seconds(168, 100) - 1.68).abs() < 1e-9);
        let before = procfs::process::Process::myself().unwrap().stat().unwrap();
        let families = ProcessMetrics::new().unwrap().collect();
        let shown = families.iter().find(|family| family.name() == "process_cpu_seconds_total").unwrap();
        let least = seconds(before.utime + before.stime, procfs::ticks_per_second());
        assert!(shown.get_metric()[0].get_counter().get_value() >= least);
    }

    #[test]
    fn values_are_those_of_proc_self() {
        let families = ProcessMetrics::new().unwrap().collect();
        let value = |name: &str| {
            families.iter().find(|family| family.name() == name).unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert_eq!(families.len(), 7);
        let status = procfs::process::Process::myself().unwrap().status().unwrap();
        assert!(value("process_threads") >= 1.0 && value("process_open_fds") >= 3.0);
        let resident = value("process_resident_memory_bytes") / 1024.0;
        let expected = f64::from(u32::try_from(status.vmrss.unwrap()).unwrap());
        assert!(resident > expected * 0.5 && resident < expected * 2.0, "{resident} {expected}");
    }
}
