//! Where a value comes from: kernel files by their format, facts of the engine and of the host, and sums or differences of these.

use super::Probed;

/// The cgroup controllers whose files the table names, and the core of v2, which has files without a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// CFS bandwidth and weight.
    Cpu,
    /// CPU time. On v2 every cgroup has it, whatever controllers are enabled.
    Cpuacct,
    /// Memory.
    Memory,
    /// Block I/O: `blkio` on v1, `io` on v2.
    Io,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Files of the v2 core in every v2 cgroup, such as `cpu.pressure`: on a hybrid host in the `unified` tree.
    Core,
}

/// A file of a cgroup directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File {
    /// The controller whose tree it is in.
    pub controller: Controller,
    /// Name in the cgroup's directory.
    pub name: &'static str,
    /// The name of the file to read where the first one is absent.
    pub fallback: Option<&'static str>,
}

impl File {
    /// Returns the file of this name.
    #[must_use]
    pub const fn new(controller: Controller, name: &'static str) -> Self {
        Self { controller, name, fallback: None }
    }

    /// Returns the file with a second name, for kernels that lack the first.
    #[must_use]
    pub const fn or(self, fallback: &'static str) -> Self {
        Self { fallback: Some(fallback), ..self }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Source {
    /// Nowhere: this kind of host has no such value.
    Absent,
    /// A file that is one number. `max` makes no value.
    Single(File),
    /// A file of `KEY VALUE` lines: the value of a key.
    Flat(File, &'static str),
    /// A pressure file: `total=` of the line `some` or `full`, in microseconds.
    Psi(File, &'static str),
    /// A file of `MAJOR:MINOR KEY=VALUE …` lines (`io.stat`): the value of a key, per device.
    Nested(File, &'static str),
    /// Files of `MAJOR:MINOR OPERATION VALUE` lines (`blkio.*` of v1): the value of an operation, per device; the largest where
    /// several of these files have one.
    Operation(&'static [File], &'static str),
    /// A file of `KEY N0=VALUE N1=VALUE …` lines, `=` or a blank after the key (`memory.numa_stat`): the value of a key, per node,
    /// divided by the number of bytes in a page (1 where the kernel gives pages).
    Node(File, &'static str, u64),
    /// A file of one number per CPU on one line, labelled `cpu="cpuNN"` as cAdvisor does.
    PerCpu(File),
    /// The same, labelled `cpu="N"` as the predecessor does.
    PerCore(File),
    /// The number of processes in the cgroup and in those below it.
    Processes,
    /// A column of `/proc/PID/net/dev`, counted from 0 (received bytes), per interface.
    Interface(usize),
    /// `hugetlb.SIZE.<suffix>`, per page size; with a key where the file has keys.
    HugePages(&'static str, Option<&'static str>),
    /// A configured limit. It is read when the container is found and when the limit may have changed.
    Limit(Limit),
    /// A fact that the engine reports of the container.
    Engine(EngineFact),
    /// OOM kills over all runs of the container. The source is that of the current run's count.
    OomKills(&'static Source),
    /// A count of an eBPF program.
    Probe(Probed),
    /// A fact of the machine, without container labels.
    Machine(MachineFact),
    /// A count of a socket table of the container's network namespace: the file below `/proc/PID/net`, and what is counted.
    Sockets(&'static str, SocketCount),
    /// A sum over the processes of the container.
    Process(ProcessFact),
    /// A size of the container's writable layer, or of the filesystem that holds it.
    Disk(DiskFact),
    /// A number in the engine's stats answer (JSON pointer).
    Json(&'static str),
    /// An entry of a `blkio_stats` list of the stats answer, by operation, per device.
    JsonDevice(&'static str, &'static str),
    /// A member of `networks.<interface>` in the stats answer.
    JsonInterface(&'static str),
    /// A list of numbers in the stats answer, one per CPU.
    JsonPerCpu(&'static str),
    /// The same, labelled as the predecessor does.
    JsonPerCore(&'static str),
    /// The first minus the second; 0 where that would be negative, absent where either is.
    Difference(&'static Source, &'static Source),
    /// The first of these that the cgroup has.
    FirstOf(&'static [Source]),
    /// The sum of those that the cgroup has; absent where it has none of them.
    Sum(&'static [Source]),
}

/// A label whose values are known only from reading: it makes one sample per value of a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dimension {
    /// `device="/dev/NAME"`.
    Device,
    /// `interface="NAME"`.
    Interface,
    /// `node="N"`.
    Node,
    /// `cpu="cpuNN"`: cAdvisor's form.
    Cpu,
    /// `cpu="N"`: the predecessor's form.
    Core,
}

impl Dimension {
    /// Every dimension; the place of one is its index in a sample.
    pub const ALL: [Self; 5] = [Self::Device, Self::Interface, Self::Node, Self::Cpu, Self::Core];

    /// Returns the name of the label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Interface => "interface",
            Self::Node => "node",
            Self::Cpu | Self::Core => "cpu",
        }
    }
}

impl Source {
    /// Returns the dimension of the source; none where it is one number per container.
    #[must_use]
    pub const fn dimension(&self) -> Option<Dimension> {
        match self {
            Self::Nested(..) | Self::Operation(..) | Self::JsonDevice(..) | Self::Probe(Probed::Block(..)) => {
                Some(Dimension::Device)
            }
            Self::Interface(_) | Self::JsonInterface(_) => Some(Dimension::Interface),
            Self::Node(..) => Some(Dimension::Node),
            Self::PerCpu(_) | Self::JsonPerCpu(_) => Some(Dimension::Cpu),
            Self::PerCore(_) | Self::JsonPerCore(_) => Some(Dimension::Core),
            _ => None,
        }
    }
}

/// Limits of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Limit {
    /// CFS quota in microseconds per period; absent where not limited.
    CpuQuota,
    /// CFS period in microseconds.
    CpuPeriod,
    /// CPU shares; on v2 computed from the weight.
    CpuShares,
    /// Memory in bytes; 0 where not limited.
    Memory,
    /// Swap in bytes, without memory; 0 where not limited.
    Swap,
    /// Memory reservation in bytes; 0 where none.
    MemoryReservation,
    /// Tasks; 0 where not limited.
    Pids,
}

impl Limit {
    /// Every limit; the place of one is its index in a container's limits.
    pub const ALL: [Self; 7] = [
        Self::CpuQuota,
        Self::CpuPeriod,
        Self::CpuShares,
        Self::Memory,
        Self::Swap,
        Self::MemoryReservation,
        Self::Pids,
    ];

    /// Returns the names of the kernel files on v2 and on v1, and of the engine's setting, for the documentation.
    #[must_use]
    pub const fn files(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::CpuQuota => ("cpu.max", "cpu.cfs_quota_us", "HostConfig.CpuQuota, NanoCpus"),
            Self::CpuPeriod => ("cpu.max", "cpu.cfs_period_us", "HostConfig.CpuPeriod"),
            Self::CpuShares => ("cpu.weight (or HostConfig.CpuShares)", "cpu.shares", "HostConfig.CpuShares"),
            Self::Memory => ("memory.max", "memory.limit_in_bytes", "HostConfig.Memory"),
            Self::Swap => (
                "memory.swap.max",
                "memory.memsw.limit_in_bytes - memory.limit_in_bytes",
                "HostConfig.MemorySwap - Memory",
            ),
            Self::MemoryReservation => {
                ("memory.low (memory.min where greater)", "memory.soft_limit_in_bytes", "HostConfig.MemoryReservation")
            }
            Self::Pids => ("pids.max", "pids.max", "HostConfig.PidsLimit"),
        }
    }
}

/// What the engine reports of a container, and no kernel file tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineFact {
    /// When the container was last seen, in milliseconds since the epoch: the time of the scrape while it runs.
    LastSeen,
    /// When its current run began, in nanoseconds since the epoch.
    Started,
    /// When it was created, in nanoseconds since the epoch.
    Created,
    /// When its last run ended, in nanoseconds since the epoch.
    Finished,
    /// Always 1, with the container's identity in labels.
    Info,
    /// Always 1, with the state in a label.
    State,
    /// Exit code of the last run of a container that does not run.
    ExitCode,
    /// Whether the OOM killer ended the last run of a container that does not run.
    OomKilled,
    /// Restarts by its restart policy, as the engine counts them.
    Restarts,
    /// 1 healthy, 0 starting or unhealthy, -1 without a health check.
    HealthState,
    /// Failed health probes in a row.
    FailingStreak,
    /// 1 while its processes run.
    IsUp,
    /// 1 while it is up and not unhealthy.
    Healthy,
    /// Always 1.
    Seen,
}

/// A fact of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineFact {
    /// Logical CPUs.
    Cores,
    /// Physical cores.
    PhysicalCores,
    /// CPU packages.
    Sockets,
    /// Memory in bytes.
    Memory,
    /// Swap in bytes.
    Swap,
    /// Always 1, with versions in labels.
    VersionInfo,
    /// 1 where a collector could not read all it wanted in this scrape.
    ScrapeError,
}

/// The source of a value of the host as a whole (`id="/"`). The root cgroup's file is read first, and this where there is none, unless
/// [`HostFact::is_of_procfs`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostFact {
    /// The host has no such value.
    None,
    /// The root cgroup's file alone.
    Cgroup,
    /// Time of `/proc/stat` that is neither idle nor stolen, in ticks.
    CpuBusy,
    /// User and nice time of `/proc/stat`, in ticks.
    CpuUser,
    /// System and interrupt time of `/proc/stat`, in ticks.
    CpuSystem,
    /// `MemTotal` - `MemFree` of `/proc/meminfo`.
    MemoryUsed,
    /// `MemTotal` - `MemFree` - `Inactive(file)` of `/proc/meminfo`.
    MemoryWorkingSet,
    /// A key of `/proc/meminfo`, in bytes.
    Meminfo(&'static str),
    /// `SwapTotal` - `SwapFree` of `/proc/meminfo`.
    SwapUsed,
    /// A line of `/proc/pressure/<file>`: its file and its first word.
    Pressure(&'static str, &'static str),
    /// The filesystems that the exporter sees mounted.
    Filesystems,
    /// All threads of the host, as the eBPF program counts them.
    Threads,
    /// A column of `/proc/1/net/dev`, per physical interface.
    Interface(usize),
    /// The sum of these keys of `/proc/vmstat`, without those that the kernel does not have.
    Vmstat(&'static [&'static str]),
    /// The kernel's memory: the sum of `KernelStack`, `PageTables`, `Percpu` and `Slab` of `/proc/meminfo`.
    KernelMemory,
    /// A counter of `/proc/diskstats`, per disk.
    Disk(DiskField),
    /// When the host was started, in seconds since the epoch: `btime` of `/proc/stat`.
    Boot,
    /// The time of the scrape, in milliseconds since the epoch.
    Now,
}

impl HostFact {
    /// Returns whether `/proc` always has the value. The root cgroup, which has it on some kernels alone, is then not read.
    #[must_use]
    pub const fn is_of_procfs(self) -> bool {
        matches!(self, Self::Vmstat(_) | Self::Disk(_) | Self::Boot | Self::Now)
    }
}

/// A counter of a disk in `/proc/diskstats`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskField {
    /// Reads completed.
    Reads,
    /// Reads merged.
    ReadsMerged,
    /// Sectors of 512 bytes read.
    SectorsRead,
    /// Bytes read.
    BytesRead,
    /// Sum of the times of all reads, in milliseconds.
    ReadTime,
    /// Writes completed.
    Writes,
    /// Writes merged.
    WritesMerged,
    /// Sectors of 512 bytes written.
    SectorsWritten,
    /// Bytes written.
    BytesWritten,
    /// Sum of the times of all writes, in milliseconds.
    WriteTime,
    /// Operations in flight.
    InFlight,
    /// Time with operations in flight, in milliseconds.
    BusyTime,
    /// Time with operations in flight, multiplied by their number, in milliseconds.
    WeightedTime,
    /// Discards completed (Linux 4.18).
    Discards,
    /// Bytes discarded.
    BytesDiscarded,
}

/// What is counted of a socket table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketCount {
    /// Sockets in the state of this number.
    State(u8),
    /// Bytes that wait to be sent: the sum of `tx_queue`.
    TxQueued,
    /// Received bytes that wait to be read: the sum of `rx_queue`.
    RxQueued,
    /// Datagrams dropped.
    Dropped,
}

/// A sum over the processes of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessFact {
    /// Open file descriptors.
    FileDescriptors,
    /// Open sockets.
    Sockets,
    /// Soft limit of open files of the first process.
    OpenFilesLimit,
}

/// A size of a container's writable layer or of the filesystem that holds it, or of a filesystem of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFact {
    /// Bytes on disk: of a container's writable layer and log, or of everything on a filesystem of the host.
    Usage,
    /// Size of the filesystem in bytes.
    Limit,
    /// Free inodes of the filesystem.
    InodesFree,
    /// Inodes of the filesystem.
    Inodes,
}
