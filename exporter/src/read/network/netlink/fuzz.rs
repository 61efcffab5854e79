//! Fuzz target of the messages of route netlink.

use super::message::{counters, errno, link, link_event, messages, namespace};

/// Checks that the bodies of all messages fit into the bytes, whatever lengths the messages claim.
pub(crate) fn netlink(bytes: &[u8]) {
    let mut taken = 0;
    for message in messages(bytes) {
        taken += message.body.len();
        assert!(taken <= bytes.len(), "{taken} bytes of bodies in {}", bytes.len());
        _ = (errno(message.body), counters(message.body), link(message.body), namespace(message.body));
        _ = link_event(message);
    }
}
