//! Network counters per interface, from `/proc/PID/net/dev` of a live process of the container.
//!
//! `lo` is left out; so are a host-network container (its interfaces are the host's, reported under `id="/"`) and a
//! container in another one's network namespace (reported once, under the owner).

use super::{Collector, Family, HostFact, Series, Source, Unit};

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

pub(super) const FAMILIES: &[Family] = network! {
    "receive" "bytes" Bytes 0 "rx_bytes" "Bytes received, link-layer headers included.";
    "receive" "packets" None 1 "rx_packets" "Packets received.";
    "receive" "errors" None 2 "rx_errors" "Errors while receiving.";
    "receive" "packets_dropped" None 3 "rx_dropped" "Packets dropped while receiving.";
    "transmit" "bytes" Bytes 8 "tx_bytes" "Bytes sent, link-layer headers included.";
    "transmit" "packets" None 9 "tx_packets" "Packets sent.";
    "transmit" "errors" None 10 "tx_errors" "Errors while sending.";
    "transmit" "packets_dropped" None 11 "tx_dropped" "Packets dropped while sending.";
};
