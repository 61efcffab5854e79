//! Route netlink for the network counters: dumps of the host's links and their counters, the ids of namespaces, and events of
//! links that change.
//!
//! There are two sockets, one for requests and one for events. Both stay in the namespace in which they were opened. The parent
//! module decides what containers make of the links.

pub(crate) mod message;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(super) use message::{Counters, Link, LinkEvent};
use message::{
    Message, NETNSA_FD, NETNSA_PID, NLM_F_DUMP_INTR, NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK, RTM_NEWNSID,
    RTM_NEWSTATS, messages,
};

/// Initial size of the buffer. The kernel fills no more than this with one read of a dump, unless a single message is larger.
const BUFFER_BYTES: usize = 32 * 1024;
/// Maximum size of the buffer. The message of a link with the maximum number of alternative names is below 128 KiB.
const MAX_BUFFER_BYTES: usize = 1024 * 1024;
/// Maximum number of dumps of all links while links come and go.
const ATTEMPTS: usize = 4;
/// Bytes of events that may wait for the next scrape. The kernel reports an overflow; it costs one dump of all links.
const EVENT_BYTES: usize = 512 * 1024;
/// Timeout of an answer. The kernel has the answer ready when the request was sent; the timeout protects the scrape from a kernel
/// that does not answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// `RTMGRP_LINK`: the multicast group of link events.
const LINK_EVENTS: u32 = 1;

/// Sockets in one network namespace, with the buffer for all answers.
#[derive(Debug)]
pub(crate) struct Netlink {
    requests: OwnedFd,
    events: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// A network namespace whose id is requested.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'f> {
    /// The namespace of a process, by its number in our own pid namespace.
    Process(u32),
    /// An open `/proc/PID/ns/net`.
    File(&'f File),
}

/// Whether all events could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// All events were read.
    Whole,
    /// Some events were lost, because the kernel had no room for them.
    Lost,
}

impl Netlink {
    /// Opens sockets in our own network namespace, or in the one whose file is given: a thread enters it, opens them and ends.
    ///
    /// # Errors
    /// The system's error. Entering a namespace needs `CAP_SYS_ADMIN`.
    pub(crate) fn open(namespace: Option<File>) -> io::Result<Self> {
        let Some(namespace) = namespace else { return Self::open_here() };
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Self::open_here()
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn(inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the sockets panicked")))
    }

    fn open_here() -> io::Result<Self> {
        let (requests, events) = (socket()?, socket()?);
        bind(&requests, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&requests, Timeout::Recv, Some(TIMEOUT))?;
        // A size above the host's limit needs CAP_NET_ADMIN. Without it the limit applies.
        set_socket_recv_buffer_size_force(&events, EVENT_BYTES)
            .or_else(|_| set_socket_recv_buffer_size(&events, EVENT_BYTES))?;
        bind(&events, &SocketAddrNetlink::new(0, LINK_EVENTS))?;
        Ok(Self { requests, events, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// Passes `ifindex` and counters of each link to `found`, from one dump. A link may be found twice; then the later counters
    /// count. One that is missing, because links changed during the dump, is read by its file.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn counters(&mut self, mut found: impl FnMut(u32, Counters)) -> io::Result<()> {
        self.request(message::dump_counters, RTM_NEWSTATS, |body| {
            if let Some((index, counters)) = message::counters(body) {
                found(index, counters);
            }
        })?;
        Ok(())
    }

    /// Returns all links.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        for _ in 0..ATTEMPTS {
            links.clear();
            let end = self.request(message::dump_links, RTM_NEWLINK, |body| links.extend(message::link(body)))?;
            if end == End::Consistent {
                break;
            }
        }
        Ok(links)
    }

    /// Returns one link as it is now.
    ///
    /// # Errors
    /// The system's error: `ENODEV` if there is no link with this `ifindex`.
    pub(crate) fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut link = None;
        self.request(|sequence| message::get_link(sequence, index), RTM_NEWLINK, |body| link = message::link(body))?;
        Ok(link)
    }

    /// Returns the id that the sockets' namespace has for another one. None if no link reaches from one into the other.
    ///
    /// # Errors
    /// The system's error: `ESRCH` if the process has ended.
    pub(crate) fn nsid(&mut self, target: Target<'_>) -> io::Result<Option<i32>> {
        let (attribute, value) = match target {
            Target::Process(pid) => (NETNSA_PID, pid),
            Target::File(file) => (NETNSA_FD, file.as_raw_fd().cast_unsigned()),
        };
        let mut nsid = None;
        let request = |sequence| message::get_nsid(sequence, attribute, value);
        self.request(request, RTM_NEWNSID, |body| nsid = message::nsid(body))?;
        Ok(nsid)
    }

    /// Passes all events since the last call to `found`, without waiting.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn events(&mut self, mut found: impl FnMut(LinkEvent)) -> io::Result<Drained> {
        let mut drained = Drained::Whole;
        loop {
            match receive(self.events.as_fd(), &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(datagram) => messages(datagram).filter_map(message::link_event).for_each(&mut found),
                Err(Errno::AGAIN) => return Ok(drained),
                Err(Errno::NOBUFS | Errno::MSGSIZE) => drained = Drained::Lost,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a request, and passes the bodies of the answer's messages of type `kind` to `found`. Skips what is left of the
    /// answer to an earlier request.
    fn request(
        &mut self,
        request: impl FnOnce(u32) -> Vec<u8>,
        kind: u16,
        mut found: impl FnMut(&[u8]),
    ) -> io::Result<End> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let request = request(sequence);
        retry_on_intr(|| send(&self.requests, &request, SendFlags::empty()))?;
        let mut end = End::Consistent;
        loop {
            let datagram = receive(self.requests.as_fd(), &mut self.buffer, RecvFlags::empty())?;
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    end = End::Interrupted;
                }
                if message.kind == kind {
                    found(message.body);
                }
                if let Some(outcome) = outcome(message) {
                    return outcome.map(|()| end);
                }
            }
        }
    }
}

/// How a dump ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It shows one moment.
    Consistent,
    /// Something changed during the dump, and may be missing.
    Interrupted,
}

/// Returns the outcome of an answer if this message is its last.
fn outcome(message: Message<'_>) -> Option<io::Result<()>> {
    // The last message of a dump has the error if the dump failed midway.
    if matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
        return Some(message::errno(message.body).map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code))));
    }
    (message.flags & NLM_F_MULTI == 0).then_some(Ok(()))
}

/// Receives the next datagram. Asks for its length first, because the kernel cuts one that is larger than the buffer: the
/// message of one link with many alternative names is.
fn receive<'b>(socket: BorrowedFd<'_>, buffer: &'b mut Vec<u8>, flags: RecvFlags) -> Result<&'b [u8], Errno> {
    let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = retry_on_intr(|| recv(socket, &mut [0_u8; 0], peek))?;
    if length > buffer.len() {
        buffer.resize(length.next_power_of_two().min(MAX_BUFFER_BYTES), 0);
    }
    let (_, length) = retry_on_intr(|| recv(socket, buffer.as_mut_slice(), flags | RecvFlags::TRUNC))?;
    buffer.get(..length).ok_or(Errno::MSGSIZE)
}

fn socket() -> io::Result<OwnedFd> {
    // Without a protocol it is protocol 0, which is NETLINK_ROUTE.
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use rustix::net::sockopt::set_socket_send_buffer_size;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

    use super::message::{NLM_F_DUMP_INTR, NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK};
    use super::{Errno, Netlink, Target};

    /// Returns the numbers of the interfaces of our own namespace, as sysfs has them.
    fn interfaces() -> BTreeMap<u32, String> {
        let entries = std::fs::read_dir("/sys/class/net").unwrap().map(Result::unwrap);
        entries
            .filter_map(|entry| {
                let index = std::fs::read_to_string(entry.path().join("ifindex")).ok()?;
                Some((index.trim().parse().unwrap(), entry.file_name().into_string().unwrap()))
            })
            .collect()
    }

    #[test]
    fn every_link_is_in_both_dumps() {
        let mut netlink = Netlink::open(None).unwrap();
        let (mut links, mut counted) = (Vec::new(), Vec::new());
        // Other tests make and remove links: those that are there before and after are in every dump.
        let before = interfaces();
        links.extend(netlink.links().unwrap().iter().map(|link| link.index));
        netlink.counters(|index, _| counted.push(index)).unwrap();
        let after = interfaces();
        for index in before.keys().filter(|index| after.contains_key(index)) {
            assert!(links.contains(index) && counted.contains(index), "{index}: {links:?} {counted:?}");
        }
    }

    #[test]
    fn the_loopback_s_counters_lie_between_two_readings_of_its_file() {
        let mut netlink = Netlink::open(None).unwrap();
        let number = |name: &str| -> u64 {
            let path = format!("/sys/class/net/lo/statistics/{name}");
            std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
        };
        let names = ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"];
        let before = names.map(number);
        let mut ours = None;
        let lo = netlink.links().unwrap().iter().map(|link| link.index).min().unwrap();
        netlink.counters(|index, counters| ours = if index == lo { Some(counters) } else { ours }).unwrap();
        let (ours, after) = (ours.unwrap(), names.map(number));
        for index in 0..names.len() {
            assert!((before[index]..=after[index]).contains(&ours[index]), "{index}: {before:?} {ours:?} {after:?}");
        }
    }

    /// Returns a socket whose other end plays the kernel: it answers each request with these datagrams, sequence
    /// number put in.
    fn played(answers: Vec<Vec<Vec<u8>>>) -> Netlink {
        let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (requests, kernel) = pair(SocketType::SEQPACKET);
        set_socket_send_buffer_size(&kernel, 4 << 20).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let mut request = [0; 256];
                recv(&kernel, &mut request, RecvFlags::empty()).unwrap();
                for mut datagram in answer {
                    let mut at = 0;
                    while at < datagram.len() {
                        datagram[at + 8..at + 12].copy_from_slice(&request[8..12]);
                        let length = u32::from_ne_bytes(datagram[at..at + 4].try_into().unwrap());
                        at += usize::try_from(length).unwrap().next_multiple_of(4);
                    }
                    send(&kernel, &datagram, SendFlags::empty()).unwrap();
                }
            }
        });
        let (events, _) = pair(SocketType::DGRAM);
        Netlink { requests, events, buffer: vec![0; super::BUFFER_BYTES], sequence: 0 }
    }

    /// Returns a message with this many bytes of body.
    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let head = [length.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
        let mut bytes = [head, body.to_vec()].concat();
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_MULTI).to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Returns a link whose message is so long.
    fn link(index: u32, flags: u16, bytes: usize) -> Vec<u8> {
        let mut body = vec![0; 16.max(bytes)];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        message(RTM_NEWLINK, flags, &body)
    }

    fn done(code: i32) -> Vec<u8> {
        message(NLMSG_DONE, 0, &code.to_ne_bytes())
    }

    fn indices(netlink: &mut Netlink) -> Vec<u32> {
        netlink.links().unwrap().iter().map(|link| link.index).collect()
    }

    #[test]
    fn a_message_larger_than_the_buffer_is_read_whole_and_none_behind_it_is_lost() {
        let large = [link(2, 0, 200_000), link(3, 0, 0)].concat();
        let mut netlink = played(vec![vec![link(1, 0, 0), large, [link(4, 0, 0), done(0)].concat()]]);
        assert_eq!(indices(&mut netlink), [1, 2, 3, 4]);
        assert!(netlink.buffer.len() <= super::MAX_BUFFER_BYTES);
    }

    #[test]
    fn a_dump_during_which_links_changed_is_asked_for_again() {
        let torn = vec![[link(1, NLM_F_DUMP_INTR, 0), link(9, 0, 0)].concat(), done(0)];
        let whole = vec![[link(1, 0, 0), link(2, 0, 0)].concat(), done(0)];
        assert_eq!(indices(&mut played(vec![torn.clone(), whole])), [1, 2]);
        // On a host where links come and go all the time, the last one serves.
        assert_eq!(indices(&mut played(vec![torn; super::ATTEMPTS])), [1, 9]);
    }

    #[test]
    fn a_dump_that_fails_on_its_way_is_an_error() {
        let mut netlink = played(vec![
            vec![link(1, 0, 0), done(-Errno::NOMEM.raw_os_error())],
            vec![link(1, 0, 0), message(NLMSG_ERROR, 0, &(-Errno::PERM.raw_os_error()).to_ne_bytes())],
            vec![link(1, 0, 0), done(0)],
        ]);
        for errno in [Errno::NOMEM, Errno::PERM] {
            assert_eq!(netlink.links().unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
        }
        assert_eq!(indices(&mut netlink), [1]);
    }

    /// Runs `ip` with these commands in a network namespace of its own, and opens sockets there.
    fn in_a_namespace(commands: &str) -> Netlink {
        let mut holder = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&path).unwrap() == own {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut ip = Command::new("nsenter");
        ip.arg(format!("--net={path}")).args(["ip", "-batch", "-"]).stdin(Stdio::piped());
        let mut ip = ip.spawn().unwrap();
        ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success());
        let netlink = Netlink::open(Some(std::fs::File::open(&path).unwrap())).unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
        netlink
    }

    #[test]
    fn two_thousand_interfaces_and_one_with_hundreds_of_names_are_all_in_both_dumps() {
        use std::fmt::Write as _;
        let mut commands = String::new();
        for number in 0..1000 {
            writeln!(commands, "link add d{number} type veth peer name e{number}").unwrap();
        }
        for number in 0..400 {
            writeln!(commands, "link property add dev d500 altname n{number:0>119}").unwrap();
        }
        let mut netlink = in_a_namespace(&commands);
        let mut links = indices(&mut netlink);
        links.sort_unstable();
        assert!(links.len() >= 2001, "{}", links.len());
        assert!(netlink.buffer.len() > super::BUFFER_BYTES, "the message with all names fits");
        let mut counted = Vec::new();
        netlink.counters(|index, _| counted.push(index)).unwrap();
        counted.sort_unstable();
        assert_eq!(counted, links);
        for index in [links[0], links[1001]] {
            assert_eq!(netlink.link(index).unwrap().map(|link| link.index), Some(index));
        }
    }

    #[test]
    fn errors_are_the_kernel_s_and_the_next_request_is_answered() {
        let mut netlink = Netlink::open(None).unwrap();
        let error = netlink.link(i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NODEV.raw_os_error()));
        assert!(netlink.link(1).unwrap().is_some());
        assert!(netlink.nsid(Target::Process(i32::MAX.cast_unsigned())).is_err());
        assert!(netlink.events(|_| {}).is_ok());
    }
}
