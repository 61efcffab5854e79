//! Reads the text exposition: the families that `top` asks for, and their samples.
//!
//! The live page has the same lists of families in `exporter/page/arithmetic.js`.

/// A counter. Its increases are summed over all its label sets of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    Cpu,
    Periods,
    Throttled,
    Receive,
    Transmit,
    EbpfReceive,
    EbpfTransmit,
    Read,
    Write,
    OomKills,
}

/// A counter of pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    Cpu,
    Memory,
    Io,
}

/// A value that is shown as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gauge {
    WorkingSet,
    Usage,
    Swap,
    StartTime,
    FinishTime,
    Restarts,
    ExitCode,
    OomKilled,
    HealthState,
    FailingStreak,
    CpuQuota,
    CpuPeriod,
    MemoryLimit,
    Threads,
    ThreadsMax,
    Cores,
    Memory,
    SwapTotal,
}

/// How the samples of a family are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Counter(Counter),
    Pressure(Pressure),
    Gauge(Gauge),
    State,
    Info,
    DockerUp,
    CollectorSuccess,
}

/// Every family that `top` asks for.
pub(super) const FAMILIES: [(&str, Role); 35] = [
    ("container_cpu_usage_seconds_total", Role::Counter(Counter::Cpu)),
    ("container_cpu_cfs_periods_total", Role::Counter(Counter::Periods)),
    ("container_cpu_cfs_throttled_periods_total", Role::Counter(Counter::Throttled)),
    ("container_network_receive_bytes_total", Role::Counter(Counter::Receive)),
    ("container_network_transmit_bytes_total", Role::Counter(Counter::Transmit)),
    ("container_ebpf_network_receive_bytes_total", Role::Counter(Counter::EbpfReceive)),
    ("container_ebpf_network_transmit_bytes_total", Role::Counter(Counter::EbpfTransmit)),
    ("container_fs_reads_bytes_total", Role::Counter(Counter::Read)),
    ("container_fs_writes_bytes_total", Role::Counter(Counter::Write)),
    ("container_oom_events_total", Role::Counter(Counter::OomKills)),
    ("container_pressure_cpu_waiting_seconds_total", Role::Pressure(Pressure::Cpu)),
    ("container_pressure_memory_waiting_seconds_total", Role::Pressure(Pressure::Memory)),
    ("container_pressure_io_waiting_seconds_total", Role::Pressure(Pressure::Io)),
    ("container_memory_working_set_bytes", Role::Gauge(Gauge::WorkingSet)),
    ("container_memory_usage_bytes", Role::Gauge(Gauge::Usage)),
    ("container_memory_swap", Role::Gauge(Gauge::Swap)),
    ("container_start_time_seconds", Role::Gauge(Gauge::StartTime)),
    ("container_finish_time_seconds", Role::Gauge(Gauge::FinishTime)),
    ("container_restarts_total", Role::Gauge(Gauge::Restarts)),
    ("container_exit_code", Role::Gauge(Gauge::ExitCode)),
    ("container_oom_killed", Role::Gauge(Gauge::OomKilled)),
    ("container_health_state", Role::Gauge(Gauge::HealthState)),
    ("container_health_failing_streak", Role::Gauge(Gauge::FailingStreak)),
    ("container_spec_cpu_quota", Role::Gauge(Gauge::CpuQuota)),
    ("container_spec_cpu_period", Role::Gauge(Gauge::CpuPeriod)),
    ("container_spec_memory_limit_bytes", Role::Gauge(Gauge::MemoryLimit)),
    ("container_threads", Role::Gauge(Gauge::Threads)),
    ("container_threads_max", Role::Gauge(Gauge::ThreadsMax)),
    ("machine_cpu_cores", Role::Gauge(Gauge::Cores)),
    ("machine_memory_bytes", Role::Gauge(Gauge::Memory)),
    ("machine_swap_bytes", Role::Gauge(Gauge::SwapTotal)),
    ("container_state", Role::State),
    ("container_info", Role::Info),
    ("docker_stats_exporter_docker_up", Role::DockerUp),
    ("docker_stats_exporter_scrape_collector_success", Role::CollectorSuccess),
];

/// Values by counter, pressure or gauge. An unknown value is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values<const N: usize>([Option<f64>; N]);

impl<const N: usize> Default for Values<N> {
    fn default() -> Self {
        Self([None; N])
    }
}

impl<const N: usize> Values<N> {
    pub(super) fn get(&self, index: impl Into<usize>) -> Option<f64> {
        self.0.get(index.into()).copied().flatten()
    }

    pub(super) fn set(&mut self, index: impl Into<usize>, value: Option<f64>) {
        if let Some(slot) = self.0.get_mut(index.into()) {
            *slot = value;
        }
    }

    pub(super) fn add(&mut self, index: impl Into<usize>, value: f64) {
        if let Some(slot) = self.0.get_mut(index.into()) {
            *slot = Some(slot.unwrap_or(0.0) + value);
        }
    }
}

impl Counter {
    pub(super) const COUNT: usize = Self::OomKills as usize + 1;
}

impl Pressure {
    pub(super) const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];
    pub(super) const COUNT: usize = Self::ALL.len();
}

impl Gauge {
    pub(super) const COUNT: usize = Self::SwapTotal as usize + 1;
}

macro_rules! index {
    ($($kind:ty),*) => {
        $(impl From<$kind> for usize {
            fn from(value: $kind) -> Self {
                value as Self
            }
        })*
    };
}
index!(Counter, Pressure, Gauge);

/// Calls `visit(family, labels, value)` for each sample, with the labels as text. Skips comments and values that are not
/// finite.
pub(super) fn each_sample<'a>(text: &'a str, mut visit: impl FnMut(&'a str, &'a str, f64)) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        if !value.is_finite() {
            continue;
        }
        let (family, labels) = series.split_once('{').unwrap_or((series, ""));
        visit(family, labels.strip_suffix('}').unwrap_or(labels), value);
    }
}

/// Parses labels of the form `a="b",c="d"` and undoes the escapes of their values.
pub(crate) fn labels(text: &str) -> Vec<(&str, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut unescaped = String::new();
        let mut letters = value.char_indices();
        let mut end = value.len();
        while let Some((index, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = index + 1;
                    break;
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => unescaped.push('\n'),
                    Some((_, other)) => unescaped.push(other),
                    None => {}
                },
                other => unescaped.push(other),
            }
        }
        labels.push((name.trim_start_matches(','), unescaped));
        rest = value.get(end..).unwrap_or_default();
    }
    labels
}

/// Fuzz targets of the exposition.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    use super::each_sample;
    pub(crate) use super::labels;

    /// Checks that every sample has a family and a finite value.
    pub(crate) fn exposition(text: &str) {
        each_sample(text, |family, text, value| {
            assert!(value.is_finite() && !family.contains('{'), "{family}");
            assert!(labels(text).len() <= text.len());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lose_their_escapes_and_may_hold_any_sign() {
        let text = r#"id="/docker/a",name="a\"b\\c\n} 1,x=\"",image="""#;
        let expected = [("id", "/docker/a"), ("name", "a\"b\\c\n} 1,x=\""), ("image", "")];
        let labels = labels(text);
        assert_eq!(labels.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_sample_is_skipped() {
        let text = "# HELP a b\na 1\na{b=\"} 2\"} 3\n\nnonsense\nb NaN\nb +Inf\nc{ 4\n";
        let mut samples = Vec::new();
        each_sample(text, |family, labels, value| samples.push((family, labels, value.to_string())));
        let expected = [("a", "", "1"), ("a", "b=\"} 2\"", "3"), ("c", "", "4")];
        assert_eq!(samples.iter().map(|(a, b, c)| (*a, *b, c.as_str())).collect::<Vec<_>>(), expected);
    }
}
