//! The containers' network: which container reports which namespace, its interfaces by file or by veth peer, its sockets.

pub(super) mod host_netns;
pub(super) mod interfaces;
mod link_table;
pub(super) mod namespaces;
pub(super) mod netlink;
mod read_sockets;
pub(super) mod real_interfaces;
mod report;
pub(super) mod sockets;
pub(super) mod veth_peers;
