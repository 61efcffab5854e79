//! The collectors: groups of families that are switched on and off together, and sets of them.

use std::fmt;

macro_rules! collectors {
    ($($variant:ident $name:literal $default:literal $about:literal;)*) => {
        /// A group of families that is read, switched and timed as one.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Collector { $(#[doc = $about] $variant,)* }

        impl Collector {
            /// Every collector, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name used in flags, in `collect[]` and in the `collector` label.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns whether the collector runs unless a flag switches it off.
            #[must_use]
            pub const fn default_on(self) -> bool {
                match self { $(Self::$variant => $default,)* }
            }

            /// Returns one line on what the collector gives.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }
    };
}

collectors! {
    Cpu "cpu" true "CPU time, throttling, quota and shares";
    Memory "memory" true "memory usage, working set, faults, events and limits";
    Pressure "pressure" true "time lost waiting for CPU, memory and I/O (PSI)";
    Blkio "blkio" true "bytes and operations per block device";
    Network "network" true "bytes, packets, drops and errors per interface";
    Pids "pids" true "processes, threads and their limit";
    State "state" true "life cycle: state, times, exit code, restarts, health";
    Machine "machine" true "cores and memory of the host, versions";
    MemoryDetail "memory_detail" false "memory.stat in detail: anon, file, slab, reclaim, refaults";
    Hugetlb "hugetlb" false "huge pages per page size";
    Numa "numa" false "memory per NUMA node";
    Percpu "percpu" false "CPU time per core (cgroup v1 only); replaces cpu=\"total\"";
    Tcp "tcp" false "TCP and UDP sockets per state; costs milliseconds per container";
    Process "process" false "open files and sockets; costs a directory walk per process";
    Disk "disk" true "bytes of the writable layer and the log, size and inodes of filesystems";
    Tasks "tasks" true "threads by state, and load (by eBPF; from /proc if switched on by name)";
    EbpfNetwork "ebpf_network" true "bytes and packets of every container, host network included (needs eBPF)";
    EbpfBlkio "ebpf_blkio" true "bytes, operations and latency of block I/O as devices complete it (needs eBPF)";
    BlkioDetail "blkio_detail" false "sectors and weighted I/O time per block device (needs eBPF)";
    EbpfSched "ebpf_sched" false "run-queue latency histogram (needs eBPF)";
}

impl Collector {
    /// Returns the collector of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|collector| collector.name() == name)
    }

    /// Returns whether the values come from eBPF programs.
    #[must_use]
    pub const fn is_probed(self) -> bool {
        matches!(self, Self::Tasks | Self::EbpfNetwork | Self::EbpfBlkio | Self::BlkioDetail | Self::EbpfSched)
    }

    /// Returns whether the values can be read from files, too. As that costs much, it is done only where the collector is switched on by
    /// name.
    #[must_use]
    pub const fn has_costly_files(self) -> bool {
        matches!(self, Self::Tasks)
    }

    /// Returns the place in [`Collector::ALL`], for tables indexed by collector.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of collectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CollectorSet(u32);

impl CollectorSet {
    /// No collector.
    pub const EMPTY: Self = Self(0);

    /// Returns the collectors that run unless a flag switches them off.
    #[must_use]
    pub fn defaults() -> Self {
        Collector::ALL.iter().copied().filter(|collector| collector.default_on()).collect()
    }

    /// Returns this set with one more collector.
    #[must_use]
    pub const fn with(self, collector: Collector) -> Self {
        Self(self.0 | 1 << collector as u8)
    }

    /// Returns this set without a collector.
    #[must_use]
    pub const fn without(self, collector: Collector) -> Self {
        Self(self.0 & !(1 << collector as u8))
    }

    /// Returns whether the collector is in the set.
    #[must_use]
    pub const fn has(self, collector: Collector) -> bool {
        self.0 & 1 << collector as u8 != 0
    }

    /// Returns the collectors that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the collectors that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether the set has no collector.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the members, in the order of [`Collector::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Collector> {
        Collector::ALL.iter().copied().filter(move |collector| self.has(*collector))
    }
}

impl FromIterator<Collector> for CollectorSet {
    fn from_iter<I: IntoIterator<Item = Collector>>(collectors: I) -> Self {
        collectors.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for CollectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Collector::name)).finish()
    }
}
