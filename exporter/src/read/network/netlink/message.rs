//! Netlink messages as bytes: writes requests and parses answers, without any socket.
//!
//! The numbers are those of `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h` and `linux/net_namespace.h`, in the byte
//! order of this machine.

/// Type of the message that ends a dump.
pub(super) const NLMSG_DONE: u16 = 3;
/// Type of a message with an errno; 0 is an acknowledgement.
pub(super) const NLMSG_ERROR: u16 = 2;
/// Flag of a message that is one of several.
pub(super) const NLM_F_MULTI: u16 = 0x2;
/// Flag of a dump during which something changed, so that some of it may be missing.
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
pub(super) const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;

const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS_LINK_64: u16 = 1;
const NETNSA_NSID: u16 = 1;
pub(super) const NETNSA_PID: u16 = 2;
pub(super) const NETNSA_FD: u16 = 3;
/// Leaves the counters of virtual functions out of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// Mask of the type in an attribute's type field, whose upper bits are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Size of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Size of `struct if_stats_msg`.
const STATS_HEADER: usize = 12;
/// Size of `struct rtgenmsg` with padding.
const NAMESPACE_HEADER: usize = 4;

/// The first counters of `struct rtnl_link_stats64`, as the link itself sees them: packets received and sent, bytes received
/// and sent, errors in receiving and sending, drops in receiving and sending.
pub(crate) type Counters = [u64; 8];

/// A link (network interface) in the socket's namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// Its `ifindex`.
    pub index: u32,
    /// The other end, if the link is an end of a veth pair whose other end is in another namespace.
    pub pair: Option<Pair>,
}

/// The other end of a veth pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    /// Its namespace, by the id that the socket's namespace has for it (`nsid`).
    pub nsid: i32,
    /// Its `ifindex` there.
    pub peer: u32,
}

/// A change of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkEvent {
    /// The link is new or has changed.
    Changed(Link),
    /// The link has left the namespace.
    Gone {
        /// Its `ifindex` before.
        index: u32,
        /// The `nsid` of the namespace that it has moved to; none if it was removed.
        to: Option<i32>,
    },
}

/// A message without its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Returns a request for the counters of all links.
pub(super) fn dump_counters(sequence: u32) -> Vec<u8> {
    let mut header = [0; STATS_HEADER];
    put(&mut header, 8, &(1_u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    request(RTM_GETSTATS, NLM_F_DUMP, sequence, &header, None)
}

/// Returns a request for all links.
pub(super) fn dump_links(sequence: u32) -> Vec<u8> {
    let skip = (IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(RTM_GETLINK, NLM_F_DUMP, sequence, &[0; LINK_HEADER], Some(skip))
}

/// Returns a request for one link.
pub(super) fn get_link(sequence: u32, index: u32) -> Vec<u8> {
    let mut header = [0; LINK_HEADER];
    put(&mut header, 4, &index.to_ne_bytes());
    let skip = (IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(RTM_GETLINK, 0, sequence, &header, Some(skip))
}

/// Returns a request for the id of a namespace, which is given as [`NETNSA_PID`] or [`NETNSA_FD`].
pub(super) fn get_nsid(sequence: u32, attribute: u16, value: u32) -> Vec<u8> {
    request(RTM_GETNSID, 0, sequence, &[0; NAMESPACE_HEADER], Some((attribute, value.to_ne_bytes())))
}

fn request(kind: u16, flags: u16, sequence: u32, header: &[u8], attribute: Option<(u16, [u8; 4])>) -> Vec<u8> {
    let length = HEADER + header.len() + attribute.map_or(0, |_| 8);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(header);
    if let Some((kind, value)) = attribute {
        bytes.extend_from_slice(&8_u16.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&value);
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}

/// Returns the messages of a datagram, up to the first that is cut.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Returns types and values of attributes, up to the first that is cut.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Returns the value of the first attribute of a type.
fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// Returns the errno of an [`NLMSG_ERROR`] or [`NLMSG_DONE`]; none for success.
pub(super) fn errno(body: &[u8]) -> Option<i32> {
    let code = u32_at(body, 0)?.cast_signed();
    (code != 0).then(|| code.wrapping_neg())
}

/// Returns `ifindex` and counters of a link in an answer to [`dump_counters`].
pub(super) fn counters(body: &[u8]) -> Option<(u32, Counters)> {
    let index = u32_at(body, 4)?;
    let mut words = attribute(body.get(STATS_HEADER..)?, IFLA_STATS_LINK_64)?.chunks_exact(8);
    let mut counters = Counters::default();
    for counter in &mut counters {
        *counter = u64::from_ne_bytes(words.next()?.try_into().ok()?);
    }
    Some((index, counters))
}

/// Returns the link of an [`RTM_NEWLINK`]. None for a message of a bridge about one of its ports, which has the same type and
/// another address family.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    if *body.first()? != 0 {
        return None;
    }
    let (mut peer, mut nsid, mut is_veth) = (None, None, false);
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_LINK => peer = u32_at(value, 0),
            IFLA_LINK_NETNSID => nsid = u32_at(value, 0).map(u32::cast_signed),
            IFLA_LINKINFO => {
                let kind = attribute(value, IFLA_INFO_KIND);
                is_veth = kind.is_some_and(|kind| kind.strip_suffix(b"\0").unwrap_or(kind) == b"veth");
            }
            _ => {}
        }
    }
    let pair = peer.zip(nsid).filter(|_| is_veth).map(|(peer, nsid)| Pair { nsid, peer });
    Some(Link { index: u32_at(body, 4)?, pair })
}

/// Returns the event that a message reports; none if it is not about a link.
pub(super) fn link_event(message: Message<'_>) -> Option<LinkEvent> {
    match message.kind {
        RTM_NEWLINK => link(message.body).map(LinkEvent::Changed),
        RTM_DELLINK => link(message.body).map(|link| LinkEvent::Gone { index: link.index, to: moved_to(message.body) }),
        _ => None,
    }
}

fn moved_to(body: &[u8]) -> Option<i32> {
    u32_at(attribute(body.get(LINK_HEADER..)?, IFLA_NEW_NETNSID)?, 0).map(u32::cast_signed)
}

/// Returns the `nsid` in an answer to [`get_nsid`]; none if the namespace does not have one yet.
pub(super) fn nsid(body: &[u8]) -> Option<i32> {
    let value = attribute(body.get(NAMESPACE_HEADER..)?, NETNSA_NSID)?;
    u32_at(value, 0).map(u32::cast_signed).filter(|nsid| *nsid >= 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Returns the offset of the next message or attribute: the length rounded up to 4 bytes.
const fn aligned(length: usize) -> usize {
    // A length below that of any header ends the iteration, which would go on forever with 0.
    if length < 4 { usize::MAX } else { length.saturating_add(3) & !3 }
}

/// Fuzz target: checks that the bodies of all messages fit into the bytes, whatever lengths the messages claim.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut taken = 0;
    for message in messages(bytes) {
        taken += message.body.len();
        assert!(taken <= bytes.len(), "{taken} bytes of bodies in {}", bytes.len());
        _ = (errno(message.body), counters(message.body), link(message.body), nsid(message.body));
        _ = link_event(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn veth(family: u8, kind: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&[0; 8]);
        body.extend(attribute(3, b"vethabc\0"));
        body.extend(attribute(IFLA_LINK, &9_u32.to_ne_bytes()));
        body.extend(attribute(IFLA_LINK_NETNSID, &3_u32.to_ne_bytes()));
        body.extend(attribute(IFLA_LINKINFO | 0x8000, &attribute(IFLA_INFO_KIND, kind)));
        body
    }

    #[test]
    fn a_request_is_read_back_as_it_was_written() {
        let bytes = [get_link(5, 77), dump_counters(6)].concat();
        let read: Vec<Message<'_>> = messages(&bytes).collect();
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (RTM_GETLINK, NLM_F_REQUEST, 5));
        assert_eq!(u32_at(read[0].body, 4), Some(77));
        assert_eq!((read[1].kind, read[1].flags, read[1].sequence), (RTM_GETSTATS, NLM_F_REQUEST | NLM_F_DUMP, 6));
        assert_eq!(read[1].body.len(), STATS_HEADER);
    }

    #[test]
    fn only_a_veth_is_a_pair_and_a_bridge_s_word_is_none() {
        let pair = Some(Pair { nsid: 3, peer: 9 });
        assert_eq!(link(&veth(0, b"veth\0")), Some(Link { index: 7, pair }));
        assert_eq!(link(&veth(0, b"macvlan\0")), Some(Link { index: 7, pair: None }));
        assert_eq!(link(&veth(7, b"veth\0")), None);
        let gone = Message { kind: RTM_DELLINK, flags: 0, sequence: 0, body: &veth(0, b"veth") };
        assert_eq!(link_event(gone), Some(LinkEvent::Gone { index: 7, to: None }));
        let moved = [veth(0, b"veth"), attribute(IFLA_NEW_NETNSID, &6_u32.to_ne_bytes())].concat();
        assert_eq!(link_event(Message { body: &moved, ..gone }), Some(LinkEvent::Gone { index: 7, to: Some(6) }));
        assert_eq!(link_event(Message { body: &veth(7, b"veth"), ..gone }), None);
    }

    #[test]
    fn counters_are_those_of_the_attribute_that_was_asked_for() {
        let mut body = vec![0; 4];
        body.extend_from_slice(&12_u32.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend(attribute(0, &[]));
        let values: Vec<u8> = (1_u64..=25).flat_map(u64::to_ne_bytes).collect();
        body.extend(attribute(IFLA_STATS_LINK_64, &values));
        assert_eq!(counters(&body), Some((12, [1, 2, 3, 4, 5, 6, 7, 8])));
        assert_eq!(counters(body.get(..60).unwrap()), None);
    }

    #[test]
    fn a_namespace_without_a_number_has_none() {
        let body = |number: i32| [&[0; 4][..], &attribute(NETNSA_NSID, &number.to_ne_bytes())].concat();
        assert_eq!((nsid(&body(4)), nsid(&body(0)), nsid(&body(-1))), (Some(4), Some(0), None));
    }

    #[test]
    fn whatever_the_bytes_are_the_end_is_reached() {
        let whole = [dump_links(1), veth(0, b"veth\0")].concat();
        for end in 0..whole.len() {
            for bytes in [whole.get(..end).unwrap(), whole.get(end..).unwrap()] {
                assert!(messages(bytes).count() <= 2);
                assert!(attributes(bytes).count() <= bytes.len());
                let _: (Option<Link>, Option<(u32, Counters)>) = (link(bytes), counters(bytes));
            }
        }
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(errno(&(-1_i32).to_ne_bytes()), Some(1));
        assert_eq!(errno(&[0; 4]), None);
    }
}
