//! What eBPF programs count where files tell nothing: `exporter-ebpf/src/bin/`, read by `crate::ebpf`.

use super::Source::{Absent, Probe};
use super::{Collector, Family, Series};

/// What eBPF programs count per container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probed {
    /// Packets of one address family.
    Traffic(TrafficCount, IpFamily),
    /// TCP segments sent again.
    Retransmits,
    /// Requests completed by block devices, per device.
    Block(BlockCount, BlockOperation),
    /// How long devices took for them.
    BlockLatency(BlockOperation),
    /// How long tasks were ready to run before they did.
    RunQueueLatency,
    /// Threads in one state.
    Threads(TaskState),
    /// Runnable threads, averaged over ten seconds, in thousandths.
    Load,
}

/// What a thread does, as cAdvisor names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Waits for an event, and any signal wakes it.
    Sleeping,
    /// Has a CPU or waits for one.
    Running,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Waits for what no ordinary signal interrupts, but for I/O.
    Uninterruptible,
    /// The same, for I/O.
    IoWaiting,
}

/// What is counted of block I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockCount {
    /// Bytes.
    Bytes,
    /// Requests.
    Operations,
    /// Bytes in units of 512.
    Sectors,
    /// Time from handing requests to the device to their completion, in nanoseconds.
    Time,
    /// The same of all operations, whichever is named beside it.
    TimeOfAll,
}

/// What a request of block I/O does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockOperation {
    /// Reads from the device.
    Read,
    /// Writes to the device.
    Write,
    /// Empties the device's cache.
    Flush,
    /// Tells the device of blocks that are no longer used.
    Discard,
}

impl BlockOperation {
    /// The label, as exposed.
    const fn label(self) -> &'static str {
        match self {
            Self::Read => "operation=\"read\"",
            Self::Write => "operation=\"write\"",
            Self::Flush => "operation=\"flush\"",
            Self::Discard => "operation=\"discard\"",
        }
    }
}

/// The bounds of a histogram. The kernel counts by each power of two of a second; every second one is exposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The power of two of a second that the kernel's first bound is.
    pub first_power: i32,
    /// Every second bound in seconds, in the form that Prometheus gives them itself, so that a label is the same whatever
    /// version stores it.
    pub exposed: [&'static str; 11],
}

const DISK: Bounds = Bounds {
    first_power: -16,
    exposed: [
        "1.52587890625e-05",
        "6.103515625e-05",
        "0.000244140625",
        "0.0009765625",
        "0.00390625",
        "0.015625",
        "0.0625",
        "0.25",
        "1.0",
        "4.0",
        "16.0",
    ],
};

const RUN_QUEUE: Bounds = Bounds {
    first_power: -20,
    exposed: [
        "9.5367431640625e-07",
        "3.814697265625e-06",
        "1.52587890625e-05",
        "6.103515625e-05",
        "0.000244140625",
        "0.0009765625",
        "0.00390625",
        "0.015625",
        "0.0625",
        "0.25",
        "1.0",
    ],
};

impl Probed {
    /// The bounds of its histogram; none where it is a number.
    #[must_use]
    pub const fn bounds(self) -> Option<&'static Bounds> {
        match self {
            Self::BlockLatency(_) => Some(&DISK),
            Self::RunQueueLatency => Some(&RUN_QUEUE),
            Self::Traffic(..) | Self::Retransmits | Self::Block(..) | Self::Threads(_) | Self::Load => None,
        }
    }
}

/// What is counted of packets. Bytes are those of the IP packet; a merged buffer counts its segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficCount {
    /// Bytes received.
    ReceivedBytes,
    /// Packets received.
    ReceivedPackets,
    /// Bytes sent.
    SentBytes,
    /// Packets sent.
    SentPackets,
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

const fn probed(what: Probed) -> Series {
    Series::new(Probe(what), Probe(what), Absent)
}

const fn family(count: TrafficCount, family: IpFamily) -> Series {
    let labels = match family {
        IpFamily::V4 => "family=\"ipv4\"",
        IpFamily::V6 => "family=\"ipv6\"",
    };
    probed(Probed::Traffic(count, family)).labels(labels)
}

const fn both(count: TrafficCount) -> [Series; 2] {
    [family(count, IpFamily::V4), family(count, IpFamily::V6)]
}

const fn block(count: BlockCount, operation: BlockOperation) -> Series {
    probed(Probed::Block(count, operation)).labels(operation.label())
}

/// Under cAdvisor's name, which has the operation in it.
const fn block_time(operation: BlockOperation, count: BlockCount) -> Series {
    probed(Probed::Block(count, operation)).exponents(9, 9, 9)
}

const fn latency(operation: BlockOperation) -> Series {
    probed(Probed::BlockLatency(operation)).labels(operation.label())
}

pub(super) const FAMILIES: &[Family] = &[
    Family::counter(
        Collector::EbpfNetwork,
        "container_ebpf_network_receive_bytes_total",
        "Bytes of the IP packets that reached the container's sockets, whatever its network: from the network layer on, without the \
         14 bytes of Ethernet. Counted since the exporter started.",
        &both(TrafficCount::ReceivedBytes),
    )
    .bytes(),
    Family::counter(
        Collector::EbpfNetwork,
        "container_ebpf_network_receive_packets_total",
        "Packets that reached the container's sockets; of a buffer that the kernel has merged, its segments.",
        &both(TrafficCount::ReceivedPackets),
    ),
    Family::counter(
        Collector::EbpfNetwork,
        "container_ebpf_network_transmit_bytes_total",
        "Bytes of the IP packets that the container's sockets sent, whatever its network: from the network layer on, without the 14 \
         bytes of Ethernet. Counted since the exporter started.",
        &both(TrafficCount::SentBytes),
    )
    .bytes(),
    Family::counter(
        Collector::EbpfNetwork,
        "container_ebpf_network_transmit_packets_total",
        "Packets that the container's sockets sent; of a buffer that is still to be split, its segments.",
        &both(TrafficCount::SentPackets),
    ),
    Family::counter(
        Collector::EbpfNetwork,
        "container_tcp_retransmits_total",
        "TCP segments that the container's sockets sent again, from the first one on.",
        &[probed(Probed::Retransmits)],
    ),
    Family::counter(
        Collector::EbpfBlkio,
        "container_blkio_bytes_total",
        "Bytes that the block layer has moved for the container, as requests to the device complete, from the first one on. \
         The owner of a request is who did direct I/O or read the page in; of write-back who made the page dirty (on cgroup v1: the host).",
        &[
            block(BlockCount::Bytes, BlockOperation::Read),
            block(BlockCount::Bytes, BlockOperation::Write),
            block(BlockCount::Bytes, BlockOperation::Discard),
        ],
    )
    .bytes(),
    Family::counter(
        Collector::EbpfBlkio,
        "container_blkio_operations_total",
        "Requests that block devices have completed for the container, from the first one on: after merging and splitting, failed ones \
         included. A flush is one where the container asked for it.",
        &[
            block(BlockCount::Operations, BlockOperation::Read),
            block(BlockCount::Operations, BlockOperation::Write),
            block(BlockCount::Operations, BlockOperation::Flush),
            block(BlockCount::Operations, BlockOperation::Discard),
        ],
    ),
    Family::counter(
        Collector::EbpfBlkio,
        "container_fs_read_seconds_total",
        "Time that the device took for the container's reads, all together.",
        &[block_time(BlockOperation::Read, BlockCount::Time)],
    )
    .seconds(),
    Family::counter(
        Collector::EbpfBlkio,
        "container_fs_write_seconds_total",
        "Time that the device took for the container's writes, all together.",
        &[block_time(BlockOperation::Write, BlockCount::Time)],
    )
    .seconds(),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_sector_reads_total",
        "Sectors of 512 bytes that the device has read for the container, from the first one on.",
        &[probed(Probed::Block(BlockCount::Sectors, BlockOperation::Read))],
    ),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_sector_writes_total",
        "Sectors of 512 bytes that the device has written for the container, from the first one on.",
        &[probed(Probed::Block(BlockCount::Sectors, BlockOperation::Write))],
    ),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_io_time_weighted_seconds_total",
        "Time that the device took for all requests of the container, all together, as the kernel weights I/O time since Linux 5.0.",
        &[block_time(BlockOperation::Read, BlockCount::TimeOfAll)],
    )
    .seconds(),
    Family::histogram(
        Collector::EbpfBlkio,
        "container_blkio_latency_seconds",
        "Time from handing a request to the device to its completion, for the requests of container_blkio_operations_total on all \
         devices; of a flush, from the request for it.",
        &[
            latency(BlockOperation::Read),
            latency(BlockOperation::Write),
            latency(BlockOperation::Flush),
            latency(BlockOperation::Discard),
        ],
    )
    .seconds(),
    Family::histogram(
        Collector::EbpfSched,
        "container_runqueue_latency_seconds",
        "Time for which tasks of the container were ready to run before they ran, each time: as /proc/PID/schedstat sums it up.",
        &[probed(Probed::RunQueueLatency)],
    )
    .seconds(),
];

#[cfg(test)]
mod tests {
    use super::{DISK, RUN_QUEUE};

    #[test]
    fn every_second_power_of_two_of_a_second_is_exposed() {
        for bounds in [DISK, RUN_QUEUE] {
            for (power, bound) in (bounds.first_power..).step_by(2).zip(bounds.exposed) {
                // Powers of two are exact in binary, and so are their decimals.
                assert_eq!(bound.parse::<f64>().unwrap().to_bits(), 2_f64.powi(power).to_bits(), "{bound}");
                assert!(bound.contains('.'), "{bound} is not written as a float");
            }
        }
    }
}
