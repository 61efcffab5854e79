//! Sockets per state, from `/proc/PID/net/{tcp,tcp6,udp,udp6}`: milliseconds per container, hence off by default.

use super::{Collector, Family, Series, SocketCount, Source};

const fn sockets(labels: &'static str, file: &'static str, count: SocketCount) -> Series {
    let source = Source::Sockets(file, count);
    Series::new(source, source, Source::Absent).labels(labels)
}

/// The kernel's state numbers (`include/net/tcp_states.h`) under cAdvisor's words.
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

pub(super) const FAMILIES: &[Family] = &[
    tcp_states!("container_network_tcp_usage_total", "tcp", "TCP sockets over IPv4 by state."),
    tcp_states!("container_network_tcp6_usage_total", "tcp6", "TCP sockets over IPv6 by state."),
    udp_states!("container_network_udp_usage_total", "udp", "UDP sockets over IPv4: open, drops, bytes queued."),
    udp_states!("container_network_udp6_usage_total", "udp6", "UDP sockets over IPv6: open, drops, bytes queued."),
];
