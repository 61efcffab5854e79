//! Route netlink, as far as the network counters need it: one dump of every link's counters, what pairs a link with one in
//! another namespace, and the notices of links that change.
//!
//! It knows messages and sockets, and nothing of containers. `links` is its only caller.

mod message;
mod socket;

#[cfg(test)]
pub(super) use message::Pair;
pub(super) use message::{Counters, Link, Notice};
pub(super) use socket::{Drained, Netlink, Target};
