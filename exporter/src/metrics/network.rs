//! Network interfaces and sockets, from `/proc/PID/net` of a live process of the container: the rows of the collectors `network` and
//! `tcp`. The counts of `ebpf_network` are in `ebpf.rs`.
//!
//! The interface `lo` is left out. A container on the host's network has no interfaces of its own: they are the host's, under `id="/"`.
//! A network namespace that containers share is reported once, under its owner.

use super::{Collector, Family, HostFact, Series, SocketCount, Source, Unit};

/// A column of `/proc/PID/net/dev`, counted from 0, and its field in the engine's stats.
const fn column(column: usize, api: &'static str) -> Series {
    let file = Source::Interface(column);
    Series::new(file, file, Source::JsonInterface(api)).host(HostFact::Interface(column))
}

macro_rules! network {
    ($($direction:literal $what:literal $unit:ident $column:literal $api:literal $help:literal;)*) => {
        &[$(Family::counter(
            Collector::Network,
            concat!("container_network_", $direction, "_", $what, "_total"),
            $help,
            &[column($column, $api)],
        )
        .unit(Unit::$unit),)*]
    };
}

/// The rows of the collector `network`.
pub(super) const INTERFACES: &[Family] = network! {
    "receive" "bytes" Bytes 0 "rx_bytes" "Bytes received, link-layer headers included.";
    "receive" "packets" None 1 "rx_packets" "Packets received.";
    "receive" "errors" None 2 "rx_errors" "Errors while receiving.";
    "receive" "packets_dropped" None 3 "rx_dropped" "Packets dropped while receiving.";
    "transmit" "bytes" Bytes 8 "tx_bytes" "Bytes sent, link-layer headers included.";
    "transmit" "packets" None 9 "tx_packets" "Packets sent.";
    "transmit" "errors" None 10 "tx_errors" "Errors while sending.";
    "transmit" "packets_dropped" None 11 "tx_dropped" "Packets dropped while sending.";
};

/// A count of a socket table, which is a file below `/proc/PID/net`.
const fn sockets(labels: &'static str, file: &'static str, count: SocketCount) -> Series {
    let source = Source::Sockets(file, count);
    Series::new(source, source, Source::Absent).labels(labels)
}

/// A series per state: the number in the kernel (`include/net/tcp_states.h`) under cAdvisor's word.
macro_rules! tcp_states {
    ($name:literal, $file:literal, $help:literal) => {
        Family::gauge(
            Collector::Tcp,
            $name,
            $help,
            &[
                sockets(r#"tcp_state="established""#, $file, SocketCount::State(1)),
                sockets(r#"tcp_state="synsent""#, $file, SocketCount::State(2)),
                sockets(r#"tcp_state="synrecv""#, $file, SocketCount::State(3)),
                sockets(r#"tcp_state="finwait1""#, $file, SocketCount::State(4)),
                sockets(r#"tcp_state="finwait2""#, $file, SocketCount::State(5)),
                sockets(r#"tcp_state="timewait""#, $file, SocketCount::State(6)),
                sockets(r#"tcp_state="close""#, $file, SocketCount::State(7)),
                sockets(r#"tcp_state="closewait""#, $file, SocketCount::State(8)),
                sockets(r#"tcp_state="lastack""#, $file, SocketCount::State(9)),
                sockets(r#"tcp_state="listen""#, $file, SocketCount::State(10)),
                sockets(r#"tcp_state="closing""#, $file, SocketCount::State(11)),
            ],
        )
    };
}

macro_rules! udp_states {
    ($name:literal, $file:literal, $help:literal) => {
        Family::gauge(
            Collector::Tcp,
            $name,
            $help,
            &[
                sockets(r#"udp_state="listen""#, $file, SocketCount::State(7)),
                sockets(r#"udp_state="dropped""#, $file, SocketCount::Dropped),
                sockets(r#"udp_state="rxqueued""#, $file, SocketCount::RxQueued),
                sockets(r#"udp_state="txqueued""#, $file, SocketCount::TxQueued),
            ],
        )
    };
}

/// The rows of the collector `tcp`: one more read of a whole socket table per family and container.
pub(super) const SOCKETS: &[Family] = &[
    tcp_states!("container_network_tcp_usage_total", "tcp", "TCP sockets over IPv4 by state."),
    tcp_states!("container_network_tcp6_usage_total", "tcp6", "TCP sockets over IPv6 by state."),
    udp_states!("container_network_udp_usage_total", "udp", "UDP sockets over IPv4: open, drops, bytes queued."),
    udp_states!("container_network_udp6_usage_total", "udp6", "UDP sockets over IPv6: open, drops, bytes queued."),
];
