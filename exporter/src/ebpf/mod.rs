//! Probes: eBPF programs that count per cgroup what no file has.
//!
//! Started once, before the first scrape. A program that cannot run is logged with a hint and costs only its own
//! metrics. The crate `exporter-ebpf` has the programs; this module loads them and reads their counts. Everything that
//! is loaded belongs to this process and disappears with it, however it ends.

mod block;
mod btf;
mod cpus;
mod decision;
mod denial;
mod entries;
mod error;
mod facts;
mod load;
mod loader;
mod mapped;
mod network;
mod owners;
mod probes;
mod quotas;
mod sched;
mod share;
mod slots;
mod snapshot;
mod tasks;
mod tcp;

pub use block::BlockUse;
pub use decision::Decision;
pub(crate) use denial::may_ask_the_kernel;
pub use error::Unsupported;
pub use exporter_ebpf::latency::Histogram;
pub use load::LoadAverage;
pub use network::Sizes;
pub use owners::ContainerRef;
pub use probes::{Probes, Report};
pub use share::ContainerCounters;
pub use snapshot::BareSnapshots;
pub(crate) use snapshot::{DeviceUse, IterReader, Number, Record, TreeRequest, counted};
pub use tasks::Threads;

use crate::metrics::{Collector, CollectorSet};

macro_rules! programs {
    ($($variant:ident $name:literal $collector:ident $tracing:literal $cgroup2:literal $about:literal;)*) => {
        /// A program. Each is loaded on its own.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Program { $(#[doc = $about] $variant,)* }

        impl Program {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns its name in the object, in `bpftool prog` (cut to 15 characters) and in the label `program`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the collector whose values it counts.
            #[must_use]
            pub const fn collector(self) -> Collector {
                match self { $(Self::$variant => Collector::$collector,)* }
            }

            /// Returns all collectors whose values it counts.
            #[must_use]
            pub const fn collectors(self) -> CollectorSet {
                let first = CollectorSet::EMPTY.with(self.collector());
                if matches!(self, Self::BlockComplete) { first.with(Collector::BlkioDetail) } else { first }
            }

            /// Returns what it needs of the host.
            const fn needs(self) -> Needs {
                match self { $(Self::$variant => Needs { tracing: $tracing, cgroup2: $cgroup2 },)* }
            }
        }
    };
}

/// Requirements of a program.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// Whether it reads kernel objects: BTF, `CAP_PERFMON`, no lockdown for confidentiality.
    tracing: bool,
    /// Whether it counts by cgroups of the v2 tree, or is attached to its root, which takes `CAP_NET_ADMIN`.
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

/// Returns free heap memory to the system: reading the kernel's types and preparing programs takes megabytes that the C library
/// would keep. Does nothing where the C library is not GNU's.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe form of it")]
    // SAFETY: it takes no pointer, touches only what is free, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
