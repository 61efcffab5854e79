//! The sockets: one for requests, one for events. Both stay in the namespace in which they were made.

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

use super::message::{
    self, Counters, Link, LinkEvent, Message, NETNSA_FD, NETNSA_PID, NLM_F_DUMP_INTR, NLM_F_MULTI, NLMSG_DONE,
    NLMSG_ERROR, RTM_NEWLINK, RTM_NEWNSID, RTM_NEWSTATS, messages,
};

/// The kernel fills no more than this with one read of a dump, unless a single message is larger.
const BUFFER_BYTES: usize = 32 * 1024;
/// A link with all the names that it can have makes a message of less than 128 KiB.
const MAX_BUFFER_BYTES: usize = 1024 * 1024;
/// How often all links are asked for while others come and go.
const ATTEMPTS: usize = 4;
/// Bytes of events that may wait for the next scrape. An overflow is detected, and costs one dump of all links.
const EVENTS_BYTES: usize = 512 * 1024;
/// Answers are there when the question has been sent; this only keeps an odd kernel from holding up a scrape.
const PATIENCE: Duration = Duration::from_secs(1);
/// `RTMGRP_LINK`.
const LINK_EVENTS: u32 = 1;

/// Sockets in one network namespace, and the buffer that all answers are read into.
#[derive(Debug)]
pub(crate) struct Netlink {
    questions: OwnedFd,
    events: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// A network namespace to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'f> {
    /// That of a process, by its number in our own pid namespace.
    Process(u32),
    /// An open `/proc/PID/ns/net`.
    File(&'f File),
}

/// Whether all events could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// All.
    Whole,
    /// Some were lost: the kernel had no room for them.
    Lost,
}

impl Netlink {
    /// Sockets in our own network namespace, or in one whose file is given: a thread enters it, makes them there, and ends.
    ///
    /// # Errors
    /// The system's. To enter a namespace takes `CAP_SYS_ADMIN`.
    pub(crate) fn open(namespace: Option<File>) -> io::Result<Self> {
        let Some(namespace) = namespace else { return Self::here() };
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Self::here()
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn(inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the sockets panicked")))
    }

    fn here() -> io::Result<Self> {
        let (questions, events) = (route()?, route()?);
        bind(&questions, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&questions, Timeout::Recv, Some(PATIENCE))?;
        // More than the host's limit takes CAP_NET_ADMIN; less will do.
        set_socket_recv_buffer_size_force(&events, EVENTS_BYTES)
            .or_else(|_| set_socket_recv_buffer_size(&events, EVENTS_BYTES))?;
        bind(&events, &SocketAddrNetlink::new(0, LINK_EVENTS))?;
        Ok(Self { questions, events, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// Returns the counters of every link, in one dump. A link may be found twice: the later counters are the right
    /// ones.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn counters(&mut self, mut found: impl FnMut(u32, Counters)) -> io::Result<()> {
        // A link that is missing, as another one came or went while the kernel dumped, is read by its file.
        self.ask(message::dump_counters, RTM_NEWSTATS, |body| {
            if let Some((index, counters)) = message::counters(body) {
                found(index, counters);
            }
        })?;
        Ok(())
    }

    /// Returns every link.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        for _ in 0..ATTEMPTS {
            links.clear();
            if self.ask(message::dump_links, RTM_NEWLINK, |body| links.extend(message::link(body)))? == End::Consistent
            {
                break;
            }
        }
        Ok(links)
    }

    /// One link as it is now.
    ///
    /// # Errors
    /// The system's: `ENODEV` where there is none of this number.
    pub(crate) fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut link = None;
        self.ask(|sequence| message::get_link(sequence, index), RTM_NEWLINK, |body| link = message::link(body))?;
        Ok(link)
    }

    /// Returns the number that the sockets' namespace has for another one; none as long as nothing of it reaches there.
    ///
    /// # Errors
    /// The system's: `ESRCH` for a process that has ended.
    pub(crate) fn namespace(&mut self, target: Target<'_>) -> io::Result<Option<i32>> {
        let (attribute, value) = match target {
            Target::Process(pid) => (NETNSA_PID, pid),
            Target::File(file) => (NETNSA_FD, file.as_raw_fd().cast_unsigned()),
        };
        let mut number = None;
        let question = |sequence| message::get_namespace(sequence, attribute, value);
        self.ask(question, RTM_NEWNSID, |body| number = message::namespace(body))?;
        Ok(number)
    }

    /// Passes on all events since the last call. Does not wait.
    ///
    /// # Errors
    /// The system's.
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

    /// Sends a question and hands on the bodies of its answers. What is left of an earlier question is passed over.
    fn ask(
        &mut self,
        question: impl FnOnce(u32) -> Vec<u8>,
        kind: u16,
        mut found: impl FnMut(&[u8]),
    ) -> io::Result<End> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let question = question(sequence);
        retry_on_intr(|| send(&self.questions, &question, SendFlags::empty()))?;
        let mut end = End::Consistent;
        loop {
            let datagram = receive(self.questions.as_fd(), &mut self.buffer, RecvFlags::empty())?;
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    end = End::Interrupted;
                }
                if message.kind == kind {
                    found(message.body);
                }
                if let Some(outcome) = ended(message) {
                    return outcome.map(|()| end);
                }
            }
        }
    }
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It is all of one moment.
    Consistent,
    /// Something changed meanwhile, and may be missing.
    Interrupted,
}

/// Returns whether a message is the last of its answer, and how it ends.
fn ended(message: Message<'_>) -> Option<io::Result<()>> {
    // A dump that fails midway has the error in its last message.
    if matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
        return Some(message::errno(message.body).map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code))));
    }
    (message.flags & NLM_F_MULTI == 0).then_some(Ok(()))
}

/// Receives the next datagram, however large: what does not fit would be lost.
fn receive<'b>(socket: BorrowedFd<'_>, buffer: &'b mut Vec<u8>, flags: RecvFlags) -> Result<&'b [u8], Errno> {
    let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = retry_on_intr(|| recv(socket, &mut [0_u8; 0], peek))?;
    // One link with a great many names is larger than what the kernel puts together by itself.
    if length > buffer.len() {
        buffer.resize(length.next_power_of_two().min(MAX_BUFFER_BYTES), 0);
    }
    let (_, length) = retry_on_intr(|| recv(socket, buffer.as_mut_slice(), flags | RecvFlags::TRUNC))?;
    buffer.get(..length).ok_or(Errno::MSGSIZE)
}

fn route() -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0, which is what none means.
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

    /// Returns a socket whose other end plays the kernel: it answers each question with these datagrams, sequence
    /// number put in.
    fn played(answers: Vec<Vec<Vec<u8>>>) -> Netlink {
        let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (questions, kernel) = pair(SocketType::SEQPACKET);
        set_socket_send_buffer_size(&kernel, 4 << 20).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let mut question = [0; 256];
                recv(&kernel, &mut question, RecvFlags::empty()).unwrap();
                for mut datagram in answer {
                    let mut at = 0;
                    while at < datagram.len() {
                        datagram[at + 8..at + 12].copy_from_slice(&question[8..12]);
                        let length = u32::from_ne_bytes(datagram[at..at + 4].try_into().unwrap());
                        at += usize::try_from(length).unwrap().next_multiple_of(4);
                    }
                    send(&kernel, &datagram, SendFlags::empty()).unwrap();
                }
            }
        });
        let (events, _) = pair(SocketType::DGRAM);
        Netlink { questions, events, buffer: vec![0; super::BUFFER_BYTES], sequence: 0 }
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
    fn errors_are_the_kernel_s_and_the_next_question_is_answered() {
        let mut netlink = Netlink::open(None).unwrap();
        let error = netlink.link(i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NODEV.raw_os_error()));
        assert!(netlink.link(1).unwrap().is_some());
        assert!(netlink.namespace(Target::Process(i32::MAX.cast_unsigned())).is_err());
        assert!(netlink.events(|_| {}).is_ok());
    }
}
