//! Netlink messages as bytes: writes requests and parses answers. Nothing here touches a socket.
//!
//! Numbers are those of `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h` and `linux/net_namespace.h`. Bytes come in the order
//! of this machine.

/// Answers end with it.
pub(super) const NLMSG_DONE: u16 = 3;
/// An errno, or 0 for an acknowledgement.
pub(super) const NLMSG_ERROR: u16 = 2;
/// The message is one of several.
pub(super) const NLM_F_MULTI: u16 = 0x2;
/// Something changed while the kernel dumped: some of it may be missing.
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
/// Without the counters of virtual functions.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// The upper bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

const HEADER: usize = 16;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct if_stats_msg`.
const STATS_HEADER: usize = 12;
/// `struct rtgenmsg`, padded.
const NAMESPACE_HEADER: usize = 4;

/// The first counters of `struct rtnl_link_stats64`, as the link itself sees them: packets received and sent, bytes received and
/// sent, errors receiving and sending, drops receiving and sending.
pub(crate) type Counters = [u64; 8];

/// A link of the socket's namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// Its number in this namespace.
    pub index: u32,
    /// The other end, where it is one of a veth pair that reaches into another namespace.
    pub pair: Option<Pair>,
}

/// The other end of a veth pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    /// The namespace that it is in, by the number that the socket's namespace has for it.
    pub namespace: i32,
    /// Its number there.
    pub peer: u32,
}

/// An event of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkEvent {
    /// It is new, or something about it changed.
    Changed(Link),
    /// It has left the namespace.
    Gone {
        /// The number that it had.
        index: u32,
        /// The namespace that it has moved to, where it has not ended.
        to: Option<i32>,
    },
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Asks for the counters of every link.
pub(super) fn dump_counters(sequence: u32) -> Vec<u8> {
    let mut header = [0; STATS_HEADER];
    put(&mut header, 8, &(1_u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    request(RTM_GETSTATS, NLM_F_DUMP, sequence, &header, None)
}

/// Asks for every link.
pub(super) fn dump_links(sequence: u32) -> Vec<u8> {
    let skip = (IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(RTM_GETLINK, NLM_F_DUMP, sequence, &[0; LINK_HEADER], Some(skip))
}

/// Asks for one link.
pub(super) fn get_link(sequence: u32, index: u32) -> Vec<u8> {
    let mut header = [0; LINK_HEADER];
    put(&mut header, 4, &index.to_ne_bytes());
    let skip = (IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request(RTM_GETLINK, 0, sequence, &header, Some(skip))
}

/// Asks for the number of a namespace, given as `NETNSA_PID` or `NETNSA_FD`.
pub(super) fn get_namespace(sequence: u32, attribute: u16, value: u32) -> Vec<u8> {
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

/// Returns the messages of a datagram. Ends at the first that is not whole.
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

/// Attributes by type. Ends at the first that is not whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Returns the errno of an error message; none for an acknowledgement.
pub(super) fn errno(body: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| code.wrapping_neg())
}

/// Returns the number and counters of a link in an answer to [`dump_counters`].
pub(super) fn counters(body: &[u8]) -> Option<(u32, Counters)> {
    let index = u32_at(body, 4)?;
    let (_, values) = attributes(body.get(STATS_HEADER..)?).find(|(kind, _)| *kind == IFLA_STATS_LINK_64)?;
    let mut counters = Counters::default();
    let mut words = values.chunks_exact(8);
    for counter in &mut counters {
        *counter = u64::from_ne_bytes(words.next()?.try_into().ok()?);
    }
    Some((index, counters))
}

/// Returns the link of an `RTM_NEWLINK`. None for what a bridge says of its ports under the same number.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    if *body.first()? != 0 {
        return None;
    }
    let (mut peer, mut namespace, mut is_veth) = (None, None, false);
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_LINK => peer = u32_at(value, 0),
            IFLA_LINK_NETNSID => namespace = u32_at(value, 0).map(u32::cast_signed),
            IFLA_LINKINFO => {
                is_veth = attributes(value)
                    .any(|(kind, name)| kind == IFLA_INFO_KIND && name.strip_suffix(b"\0").unwrap_or(name) == b"veth");
            }
            _ => {}
        }
    }
    let pair = peer.zip(namespace).filter(|_| is_veth).map(|(peer, namespace)| Pair { namespace, peer });
    Some(Link { index: u32_at(body, 4)?, pair })
}

/// Parses an event; none for one that is not about a link.
pub(super) fn link_event(message: Message<'_>) -> Option<LinkEvent> {
    match message.kind {
        RTM_NEWLINK => link(message.body).map(LinkEvent::Changed),
        RTM_DELLINK => link(message.body).map(|link| LinkEvent::Gone { index: link.index, to: moved_to(message.body) }),
        _ => None,
    }
}

fn moved_to(body: &[u8]) -> Option<i32> {
    let (_, value) = attributes(body.get(LINK_HEADER..)?).find(|(kind, _)| *kind == IFLA_NEW_NETNSID)?;
    u32_at(value, 0).map(u32::cast_signed)
}

/// Returns the namespace's number in an answer to [`get_namespace`]; none where it has none yet.
pub(super) fn namespace(body: &[u8]) -> Option<i32> {
    let (_, value) = attributes(body.get(NAMESPACE_HEADER..)?).find(|(kind, _)| *kind == NETNSA_NSID)?;
    u32_at(value, 0).map(u32::cast_signed).filter(|number| *number >= 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

const fn aligned(length: usize) -> usize {
    // An attribute or message without even a header would never end.
    if length < 4 { usize::MAX } else { length.saturating_add(3) & !3 }
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
        let pair = Some(Pair { namespace: 3, peer: 9 });
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
        assert_eq!((namespace(&body(4)), namespace(&body(0)), namespace(&body(-1))), (Some(4), Some(0), None));
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
