//! Route netlink, as far as the network counters need it: one dump of every link's counters, what pairs a link with one in
//! another namespace, and the events of links that change.
//!
//! It knows messages and sockets, and nothing of containers. `veth_peers` is its only caller.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message;
mod socket;

#[cfg(test)]
pub(super) use message::Pair;
pub(super) use message::{Counters, Link, LinkEvent};
pub(super) use socket::{Drained, Netlink, Target};
