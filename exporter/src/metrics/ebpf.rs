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
];
