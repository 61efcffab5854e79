//! eBPF programs that count by cgroup what no file shows. The crate `exporter-ebpf` has the programs; this module loads
//! them and reads their counts.
//!
//! The programs are started once, before the first scrape. One that cannot run is logged with a hint, and only its own
//! metrics are missing. Everything that is loaded belongs to this process, and disappears with it, however it ends.
//!
//! | file | what it does |
//! |---|---|
//! | `facts`, `unsupported` | whether programs can run on this host, and why not |
//! | `btf` | reads the running kernel's types |
//! | `loader`, `sys` | loads programs and maps; system calls and shared memory |
//! | `tables`, `cpus` | the tables in which programs count; their shards |
//! | `owners` | the container that a cgroup belongs to |
//! | `block`, `network`, `sched`, `tasks`, `task_sampler` | the programs, each with its counts |
//! | `probes`, `counters` | all programs of this host; the counts of one container |
//! | `snapshot` | copies of the kernel's own counters |

mod block;
mod btf;
mod counters;
mod cpus;
mod facts;
mod loader;
mod network;
mod owners;
mod probes;
mod sched;
mod snapshot;
mod sys;
mod tables;
mod task_sampler;
mod tasks;
mod unsupported;

pub use block::BlockUse;
pub use counters::ContainerCounters;
pub use exporter_ebpf::latency::Histogram;
pub use facts::Decision;
pub use network::Sizes;
pub use owners::ContainerRef;
pub use probes::{Probes, Report};
pub use snapshot::BareSnapshots;
pub(crate) use snapshot::{DeviceUse, IterReader, Number, Record, TreeRequest, counted};
pub use task_sampler::LoadAverage;
pub use tasks::Threads;
pub use unsupported::Unsupported;
pub(crate) use unsupported::may_use_loaded;

use crate::metrics::{Collector, CollectorSet};

macro_rules! programs {
    ($($variant:ident $name:literal $collector:ident $tracing:literal $cgroup2:literal $about:literal;)*) => {
        /// A program.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Program { $(#[doc = $about] $variant,)* }

        impl Program {
            /// All programs.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name of the program in its object, in `bpftool prog` (cut to 15 characters) and in the label
            /// `program`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the main collector whose values the program counts.
            #[must_use]
            pub const fn collector(self) -> Collector {
                match self { $(Self::$variant => Collector::$collector,)* }
            }

            /// Returns all collectors whose values the program counts.
            #[must_use]
            pub const fn collectors(self) -> CollectorSet {
                let first = CollectorSet::EMPTY.with(self.collector());
                if matches!(self, Self::BlockComplete) { first.with(Collector::BlkioDetail) } else { first }
            }

            /// Returns what the program needs of the host.
            const fn needs(self) -> Needs {
                match self { $(Self::$variant => Needs { tracing: $tracing, cgroup2: $cgroup2 },)* }
            }
        }
    };
}

/// Requirements of a program.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// Whether it reads objects of the kernel, which takes BTF, `CAP_PERFMON`, and no lockdown for confidentiality.
    tracing: bool,
    /// Whether it needs the v2 tree: it counts by cgroups of that tree, or is attached to its root.
    cgroup2: bool,
}

programs! {
    NetworkReceive "network_receive" EbpfNetwork false true "Packets that come to a cgroup's sockets.";
    NetworkTransmit "network_transmit" EbpfNetwork false true "Packets that a cgroup's sockets send.";
    BlockComplete "block_complete" EbpfBlkio true false "Requests that block devices have completed.";
    SchedLatency "sched_latency" EbpfSched true true "Switches from one task to the next.";
    TaskStates "task_states" Tasks true true "All threads, each time that their states are counted.";
    TcpRetransmit "tcp_retransmit" EbpfNetwork true true "TCP segments that are sent again.";
}
