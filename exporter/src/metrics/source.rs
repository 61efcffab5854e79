//! Where a value comes from: the kernel's text forms, the engine's facts, and the few derivations we make.

use super::Probed;

/// The cgroup controllers (and the one controller-less group of files) that the table reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// CFS bandwidth and weight.
    Cpu,
    /// CPU time. On v2 part of every cgroup, whatever controllers are enabled.
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
    /// Its name.
    pub name: &'static str,
    /// The name to use where that one is absent.
    pub fallback: Option<&'static str>,
}

impl File {
    /// The file of this name.
    #[must_use]
    pub const fn new(controller: Controller, name: &'static str) -> Self {
        Self { controller, name, fallback: None }
    }

    /// The same with a second name, for kernels that lack the first.
    #[must_use]
    pub const fn or(self, fallback: &'static str) -> Self {
        Self { fallback: Some(fallback), ..self }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Source {
    /// Nowhere: this host's kind has no such value.
    Absent,
    /// A file that is one number. `max` is no value.
    Single(File),
    /// `KEY VALUE` lines: the value of a key.
    Flat(File, &'static str),
    /// A pressure file: `total=` of its `some` or `full` line, in microseconds.
    Psi(File, &'static str),
    /// `MAJOR:MINOR KEY=VALUE …` lines (`io.stat`): the value of a key, per device.
    Nested(File, &'static str),
    /// `MAJOR:MINOR OPERATION VALUE` lines (`blkio.*` of v1): the value of an operation, per device; the largest where several
    /// of these files have one.
    Operation(&'static [File], &'static str),
    /// `KEY N0=VALUE N1=VALUE …` lines, `=` or a blank after the key (`memory.numa_stat`): a key's value, per node.
    /// The number is the divisor that makes pages of it (1 where the kernel gives pages).
    Node(File, &'static str, u64),
    /// One number per CPU on one line, labelled as cAdvisor does.
    PerCpu(File),
    /// The same, labelled as the predecessor did.
    PerCore(File),
    /// Number of processes in the cgroup and in those below it.
    Processes,
    /// A column of `/proc/PID/net/dev`, counted from 0 (received bytes), per interface.
    Interface(usize),
    /// `hugetlb.SIZE.<suffix>`, per page size; with a key where the file has keys.
    HugePages(&'static str, Option<&'static str>),
    /// A configured limit: read at discovery and when it may have changed.
    Limit(Limit),
    /// What the engine says of the container.
    Engine(EngineFact),
    /// Kills for lack of memory over all runs of a container: the source of this run's count.
    OomKills(&'static Source),
    /// What an eBPF program has counted.
    Probe(Probed),
    /// A fact of the machine, without container labels.
    Machine(MachineFact),
    /// Sockets of the container's network namespace: file below `/proc/PID/net` and the state's number.
    Sockets(&'static str, SocketCount),
    /// Sum over the processes of the container.
    Process(ProcessFact),
    /// Size of the writable layer, or of the filesystem below it.
    Disk(DiskFact),
    /// A number in the engine's stats answer (JSON pointer).
    Json(&'static str),
    /// An entry of a `blkio_stats` list of the stats answer, by operation, per device.
    JsonDevice(&'static str, &'static str),
    /// A member of `networks.<interface>` in the stats answer.
    JsonInterface(&'static str),
    /// A list of numbers in the stats answer, one per CPU.
    JsonPerCpu(&'static str),
    /// The same, labelled as the predecessor did.
    JsonPerCore(&'static str),
    /// The first minus the second, 0 where that would be negative; absent where either is.
    Difference(&'static Source, &'static Source),
    /// The first that this cgroup has.
    FirstOf(&'static [Source]),
    /// The sum of those that this cgroup has; absent where it has none of them.
    Sum(&'static [Source]),
}

/// What makes several samples of one series row: the label that is not known before reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dimension {
    /// `device="/dev/NAME"`.
    Device,
    /// `interface="NAME"`.
    Interface,
    /// `node="N"`.
    Node,
    /// `cpu="cpuNN"`: cAdvisor's label.
    Cpu,
    /// `cpu="N"`: the predecessor's label.
    Core,
}

impl Dimension {
    /// Every dimension; the place of one is its index in a sample.
    pub const ALL: [Self; 5] = [Self::Device, Self::Interface, Self::Node, Self::Cpu, Self::Core];

    /// The name of the label.
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
    /// The dimension of this source; none where it is one number per container.
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

/// Limits of a container. `files()` says where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Limit {
    /// CFS quota in microseconds per period; absent where not limited.
    CpuQuota,
    /// CFS period in microseconds.
    CpuPeriod,
    /// CPU shares; on v2 computed back from the weight.
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

    /// The kernel files on v2 and on v1, and the engine's configuration, for the documentation.
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

/// What the engine knows of a container and no kernel file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineFact {
    /// When it was last there: the time of the scrape, frozen when it ends. Milliseconds since the epoch.
    LastSeen,
    /// When its current run began, in nanoseconds since the epoch.
    Started,
    /// When it was made, in nanoseconds since the epoch.
    Created,
    /// When its last run ended, in nanoseconds since the epoch.
    Finished,
    /// Always 1, with the container's identity in labels.
    Info,
    /// Always 1, with the state in a label.
    State,
    /// Exit code of the last run of a container that does not run.
    ExitCode,
    /// Whether the last run of a container that does not run was ended by the out-of-memory killer.
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

/// Facts of the machine.
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

/// Values of the host as a whole (`id="/"`) that `/proc` gives where the root cgroup has no file for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostFact {
    /// Not given for the host.
    None,
    /// Only the root cgroup's own file.
    Cgroup,
    /// User and system time of `/proc/stat`, in ticks: neither idle nor stolen.
    CpuBusy,
    /// User and nice time of `/proc/stat`, in ticks.
    CpuUser,
    /// System and interrupt time of `/proc/stat`, in ticks.
    CpuSystem,
    /// `MemTotal` - `MemFree` of `/proc/meminfo`.
    MemoryUsed,
    /// The same less `Inactive(file)`.
    MemoryWorkingSet,
    /// A key of `/proc/meminfo`, in bytes.
    Meminfo(&'static str),
    /// `SwapTotal` - `SwapFree`.
    SwapUsed,
    /// A line of `/proc/pressure/<file>`: file and line.
    Pressure(&'static str, &'static str),
    /// The filesystems that the exporter sees mounted.
    Filesystems,
    /// All threads of the host, as the eBPF program counts them.
    Threads,
    /// A column of `/proc/1/net/dev`, per physical interface.
    Interface(usize),
    /// The sum of those of these keys of `/proc/vmstat` that the kernel has.
    Vmstat(&'static [&'static str]),
    /// Memory of the kernel: `KernelStack`, `PageTables`, `Percpu` and `Slab` of `/proc/meminfo`.
    KernelMemory,
    /// A counter of `/proc/diskstats`, per disk.
    Disk(DiskField),
    /// When the host was started: `btime` of `/proc/stat`, in seconds since the epoch.
    Boot,
    /// The time of the scrape, in milliseconds since the epoch.
    Now,
}

impl HostFact {
    /// Whether `/proc` has all of it, so that the root cgroup, which counts for some kernels and not for others, is not asked.
    #[must_use]
    pub const fn is_of_procfs(self) -> bool {
        matches!(self, Self::Vmstat(_) | Self::Disk(_) | Self::Boot | Self::Now)
    }
}

/// What `/proc/diskstats` counts of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskField {
    /// Reads completed.
    Reads,
    /// Reads merged.
    ReadsMerged,
    /// Sectors of 512 bytes read.
    SectorsRead,
    /// The same in bytes.
    BytesRead,
    /// Time of all reads in milliseconds.
    ReadTime,
    /// Writes completed.
    Writes,
    /// Writes merged.
    WritesMerged,
    /// Sectors of 512 bytes written.
    SectorsWritten,
    /// The same in bytes.
    BytesWritten,
    /// Time of all writes in milliseconds.
    WriteTime,
    /// Operations under way.
    InFlight,
    /// Time in which there was one, in milliseconds.
    BusyTime,
    /// That time by the number of operations, in milliseconds.
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
    /// Sum of a queue: `tx_queue` or `rx_queue`.
    TxQueued,
    /// Sum of received bytes that wait.
    RxQueued,
    /// Datagrams dropped.
    Dropped,
}

/// Sums over a container's processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessFact {
    /// Open file descriptors.
    FileDescriptors,
    /// Those that are sockets.
    Sockets,
    /// Soft limit of open files of the first process.
    OpenFilesLimit,
}

/// Sizes of a container's writable layer and of the filesystem that holds it, or of the host's filesystems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFact {
    /// Bytes on disk: of the writable layer and the log of a container, of all that is on a filesystem of the host.
    Usage,
    /// Size of the filesystem in bytes.
    Limit,
    /// Free inodes of the filesystem.
    InodesFree,
    /// Inodes of the filesystem.
    Inodes,
}
