//! Counts of the eBPF programs in `exporter-ebpf/src/bin/`: the rows of the collectors `ebpf_network`, `ebpf_blkio`, `blkio_detail` and
//! `ebpf_sched`. `crate::ebpf` reads them.

use super::Source::{Absent, Probe};
use super::{BlockCount, BlockOperation, Collector, Family, IpFamily, Probed, Series, TrafficCount};

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

/// A series per address family.
const fn both(count: TrafficCount) -> [Series; 2] {
    [family(count, IpFamily::V4), family(count, IpFamily::V6)]
}

/// A series whose operation is a label.
const fn block(count: BlockCount, operation: BlockOperation) -> Series {
    probed(Probed::Block(count, operation)).labels(operation.label())
}

/// A time under cAdvisor's name, which has the operation in it.
const fn block_time(operation: BlockOperation, count: BlockCount) -> Series {
    probed(Probed::Block(count, operation)).exponents(9, 9, 9)
}

const fn latency(operation: BlockOperation) -> Series {
    probed(Probed::BlockLatency(operation)).labels(operation.label())
}

// The help of families that the host has by the collector `blkio`. Families of one name have one help, so it is true for both.
pub(super) const READ_TIME: &str =
    "Time of all reads together: a container's in the device, the host's in its queue, too.";
pub(super) const WRITE_TIME: &str =
    "Time of all writes together: a container's in the device, the host's in its queue, too.";
pub(super) const WEIGHTED_TIME: &str = "Time of all requests together, as the kernel weights I/O time since Linux 5.0: a container's in \
     the device, the host's in its queue, too.";
pub(super) const SECTORS_READ: &str =
    "Sectors of 512 bytes that the device has read; for a container from the first one on.";
pub(super) const SECTORS_WRITTEN: &str =
    "Sectors of 512 bytes that the device has written; for a container from the first one on.";

pub(super) const ROWS: &[Family] = &[
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
        READ_TIME,
        &[block_time(BlockOperation::Read, BlockCount::Time)],
    )
    .seconds(),
    Family::counter(
        Collector::EbpfBlkio,
        "container_fs_write_seconds_total",
        WRITE_TIME,
        &[block_time(BlockOperation::Write, BlockCount::Time)],
    )
    .seconds(),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_sector_reads_total",
        SECTORS_READ,
        &[probed(Probed::Block(BlockCount::Sectors, BlockOperation::Read))],
    ),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_sector_writes_total",
        SECTORS_WRITTEN,
        &[probed(Probed::Block(BlockCount::Sectors, BlockOperation::Write))],
    ),
    Family::counter(
        Collector::BlkioDetail,
        "container_fs_io_time_weighted_seconds_total",
        WEIGHTED_TIME,
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
