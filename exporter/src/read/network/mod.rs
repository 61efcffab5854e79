//! The network of containers and host: interfaces by file or by veth peer, and sockets.

pub(super) mod interfaces;
mod link_table;
pub(super) mod namespaces;
pub(super) mod netlink;
pub(super) mod real_interfaces;
mod report;
pub(super) mod sockets;
pub(super) mod veth_peers;
