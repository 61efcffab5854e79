//! Which families the views ask for, and what each is to the arithmetic. The live page has the same lists.

/// Counters whose increases are summed over their labels.
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

/// Counters of pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    Cpu,
    Memory,
    Io,
}

/// Values that are shown as they are.
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

/// What a family is to the arithmetic.
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

/// Every family that is asked for.
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

/// Values by counter, pressure or gauge; what is not known is none.
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
