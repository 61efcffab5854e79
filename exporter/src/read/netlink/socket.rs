//! The sockets: one for questions, one for notices. Both stay in the namespace in which they were made.

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
    self, Counters, Link, Message, NETNSA_FD, NETNSA_PID, NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR, Notice, RTM_NEWLINK,
    RTM_NEWNSID, RTM_NEWSTATS, messages,
};

/// The kernel fills no more than this with one read of a dump.
const BUFFER_BYTES: usize = 32 * 1024;
/// Notices that may wait for the next scrape. What does not fit is noticed, and costs one look at every link.
const NOTICES_BYTES: usize = 512 * 1024;
/// Answers are there when the question has been sent; this only keeps an odd kernel from holding up a scrape.
const PATIENCE: Duration = Duration::from_secs(1);
/// `RTMGRP_LINK`.
const LINK_NOTICES: u32 = 1;

/// Sockets in one network namespace, and the buffer that all answers are read into.
#[derive(Debug)]
pub(in crate::read) struct Netlink {
    questions: OwnedFd,
    notices: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// A network namespace to ask for.
#[derive(Clone, Copy, Debug)]
pub(in crate::read) enum Target<'f> {
    /// That of a process, by its number in our own pid namespace.
    Process(u32),
    /// An open `/proc/PID/ns/net`.
    File(&'f File),
}

/// Whether all notices could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::read) enum Drained {
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
    pub(in crate::read) fn open(namespace: Option<File>) -> io::Result<Self> {
        let Some(namespace) = namespace else { return Self::here() };
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Self::here()
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn(inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the sockets panicked")))
    }

    fn here() -> io::Result<Self> {
        let (questions, notices) = (route()?, route()?);
        bind(&questions, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&questions, Timeout::Recv, Some(PATIENCE))?;
        // More than the host's limit takes CAP_NET_ADMIN; less will do.
        set_socket_recv_buffer_size_force(&notices, NOTICES_BYTES)
            .or_else(|_| set_socket_recv_buffer_size(&notices, NOTICES_BYTES))?;
        bind(&notices, &SocketAddrNetlink::new(0, LINK_NOTICES))?;
        Ok(Self { questions, notices, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// The counters of every link, in one dump.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::read) fn counters(&mut self, mut found: impl FnMut(u32, Counters)) -> io::Result<()> {
        self.ask(message::dump_counters, RTM_NEWSTATS, |body| {
            if let Some((index, counters)) = message::counters(body) {
                found(index, counters);
            }
        })
    }

    /// Every link.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::read) fn links(&mut self, mut found: impl FnMut(Link)) -> io::Result<()> {
        self.ask(message::dump_links, RTM_NEWLINK, |body| message::link(body).into_iter().for_each(&mut found))
    }

    /// One link as it is now.
    ///
    /// # Errors
    /// The system's: `ENODEV` where there is none of this number.
    pub(in crate::read) fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut link = None;
        self.ask(|sequence| message::get_link(sequence, index), RTM_NEWLINK, |body| link = message::link(body))?;
        Ok(link)
    }

    /// The number that the sockets' namespace has for another one; none as long as nothing of it reaches there.
    ///
    /// # Errors
    /// The system's: `ESRCH` for a process that has ended.
    pub(in crate::read) fn namespace(&mut self, target: Target<'_>) -> io::Result<Option<i32>> {
        let (attribute, value) = match target {
            Target::Process(pid) => (NETNSA_PID, pid),
            Target::File(file) => (NETNSA_FD, file.as_raw_fd().cast_unsigned()),
        };
        let mut number = None;
        let question = |sequence| message::get_namespace(sequence, attribute, value);
        self.ask(question, RTM_NEWNSID, |body| number = message::namespace(body))?;
        Ok(number)
    }

    /// Everything that was told since the last time. Does not wait.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::read) fn notices(&mut self, mut found: impl FnMut(Notice)) -> io::Result<Drained> {
        let mut drained = Drained::Whole;
        loop {
            match receive(self.notices.as_fd(), &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(datagram) => messages(datagram).filter_map(message::notice).for_each(&mut found),
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
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let question = question(sequence);
        retry_on_intr(|| send(&self.questions, &question, SendFlags::empty()))?;
        loop {
            let datagram = receive(self.questions.as_fd(), &mut self.buffer, RecvFlags::empty())?;
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                if message.kind == kind {
                    found(message.body);
                }
                if let Some(end) = ended(message) {
                    return end;
                }
            }
        }
    }
}

/// Whether a message is the last of its answer, and how it ends.
fn ended(message: Message<'_>) -> Option<io::Result<()>> {
    // A dump that fails on its way says so in the message that ends it.
    if matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
        return Some(message::errno(message.body).map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code))));
    }
    (message.flags & NLM_F_MULTI == 0).then_some(Ok(()))
}

fn receive<'b>(socket: BorrowedFd<'_>, buffer: &'b mut Vec<u8>, flags: RecvFlags) -> Result<&'b [u8], Errno> {
    let (_, length) = retry_on_intr(|| recv(socket, buffer.as_mut_slice(), flags | RecvFlags::TRUNC))?;
    // One link with a great many virtual functions can be larger than what the kernel puts together by itself.
    if length > buffer.len() {
        buffer.resize(length.next_power_of_two(), 0);
        return Err(Errno::MSGSIZE);
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

fn route() -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0, which is what none means.
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Netlink, Target};

    /// Numbers of the interfaces of our own namespace, as sysfs has them.
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
        netlink.links(|link| links.push(link.index)).unwrap();
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
        let mut lo = 0;
        netlink.links(|link| lo = if lo == 0 { link.index } else { lo.min(link.index) }).unwrap();
        netlink.counters(|index, counters| ours = if index == lo { Some(counters) } else { ours }).unwrap();
        let (ours, after) = (ours.unwrap(), names.map(number));
        for place in 0..names.len() {
            assert!((before[place]..=after[place]).contains(&ours[place]), "{place}: {before:?} {ours:?} {after:?}");
        }
    }

    #[test]
    fn errors_are_the_kernel_s_and_the_next_question_is_answered() {
        let mut netlink = Netlink::open(None).unwrap();
        let error = netlink.link(i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NODEV.raw_os_error()));
        assert!(netlink.link(1).unwrap().is_some());
        assert!(netlink.namespace(Target::Process(i32::MAX.cast_unsigned())).is_err());
        assert!(netlink.notices(|_| {}).is_ok());
    }
}
