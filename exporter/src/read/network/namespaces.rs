//! Network namespaces: which container reports each, and how the host's is entered.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::read::files::open_files::reason;
use crate::read::host::is_of_host;
use crate::read::network::netlink::{Netlink, Target};
use crate::read::process::{NetnsId, Process, host_namespace};

/// How long an interface of the host after those of containers may stay unnoticed.
pub(super) const FULL_READ_INTERVAL: Duration = Duration::from_mins(1);

/// The network namespaces of the current pass.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// The namespace of the host.
    pub(super) host: Option<NetnsId>,
    /// The container that reports each namespace.
    pub(super) reporters: HashMap<NetnsId, Reporter>,
    pub(super) pass: u64,
    /// Whether a process of a container other than ours could be opened in this pass.
    pub(crate) host_pidns_visible: bool,
    /// Whether this pass reads only some containers.
    pub(crate) is_partial: bool,
}

/// The container that reports a network namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter {
    /// The pass in which it last reported; the other fields belong to that pass.
    pub(super) pass: u64,
    pub(super) index: usize,
    pub(super) generation: u64,
    pub(super) pid: u32,
    /// Generation of the first container that has reported the namespace, while it exists. A process that enters another
    /// container's namespace later does not take over its interfaces.
    pub(super) first: u64,
    /// The pass since which that container reports it.
    pub(super) first_since: u64,
}

/// What is known of the host's own interfaces in its `net/dev`. Usually they come before the ends of the containers' interfaces,
/// which are not needed and take the kernel a millisecond per thousand to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostInterfaces {
    pub(super) count: usize,
    /// Whether all of them are within the first page.
    pub(super) are_first: bool,
    /// When the whole file is read again.
    pub(super) due: Instant,
}

impl Namespaces {
    /// Begins a pass over this many containers; without a procfs no networks are read.
    pub(crate) fn begin(&mut self, procfs: Option<&Path>, live: bool, containers: usize) {
        self.pass += 1;
        if self.reporters.len() > 2 * containers + 64 {
            let pass = self.pass;
            self.reporters.retain(|_, reporter| reporter.pass + 1 >= pass);
        }
        self.host_pidns_visible = false;
        // The host's namespace never changes. If it cannot be read now, for example without a free descriptor, the known one
        // is used.
        if let Some(procfs) = procfs {
            self.host = host_namespace(procfs, live).or(self.host.filter(|_| live));
        }
    }

    /// Ends an unfinished pass: namespaces that were first seen in it do not have a first reporter yet.
    pub(crate) fn unsettle(&mut self) {
        for reporter in self.reporters.values_mut().filter(|reporter| reporter.first_since == self.pass) {
            reporter.first_since += 1;
        }
    }

    /// Records that a process could be opened.
    pub(crate) fn record_process(&mut self, process: Option<&Process>) {
        // Reading our own number is a system call, so it is not read for each container.
        self.host_pidns_visible =
            self.host_pidns_visible || process.is_some_and(|process| process.pid != std::process::id());
    }
}

/// Why the host's links cannot be dumped.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The procfs does not show the host's processes.
    #[error("{} shows no kernel threads: it is not the host's, whose network namespace is not known then (--pid=host)", .procfs.display())]
    NotHost {
        /// The procfs.
        procfs: PathBuf,
    },
    /// A file of the host's namespace cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The procfs shows other process numbers than those of our pid namespace.
    #[error(
        "processes of {} have other numbers in our own pid namespace (--pid=host, or --cap-add=SYS_PTRACE)", .procfs.display()
    )]
    OtherPids {
        /// The procfs.
        procfs: PathBuf,
    },
    /// The host's namespace is not ours and cannot be entered.
    #[error(
        "we are in a network namespace of our own, and {} cannot be entered: {source} (--network=host, or --cap-add=SYS_ADMIN \
         with --cap-add=SYS_PTRACE)", .path.display()
    )]
    Outside {
        /// The namespace.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The socket cannot be opened.
    #[error("a route netlink socket cannot be made: {source}")]
    Socket {
        /// The system's error.
        source: io::Error,
    },
}

impl LinkError {
    /// Returns the label value under which the error is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotHost { .. } | Self::OtherPids { .. } => "foreign",
            Self::Unreadable { source, .. } | Self::Outside { source, .. } | Self::Socket { source } => reason(source),
        }
    }
}

/// Dumps the links of the host that a procfs shows once, to find out whether that is possible.
///
/// # Errors
/// Why the links cannot be dumped.
pub fn can_dump_links(procfs: &Path) -> Result<(), LinkError> {
    let mut host = HostNetns::open(procfs)?;
    host.netlink.counters(|_, _| ()).map_err(|source| LinkError::Socket { source })
}

/// Sockets in the host's network namespace.
#[derive(Debug)]
pub(super) struct HostNetns {
    pub(super) netlink: Netlink,
    /// Whether procfs shows the process numbers of our own pid namespace.
    has_our_pids: bool,
}

impl HostNetns {
    /// Opens the sockets, from whichever network namespace we are in.
    pub(super) fn open(procfs: &Path) -> Result<Self, LinkError> {
        if !is_of_host(procfs) {
            return Err(LinkError::NotHost { procfs: procfs.to_owned() });
        }
        let path = procfs.join("1/ns/net");
        let has_our_pids = has_our_pids(procfs);
        if !has_our_pids && fs::read_link(&path).is_err() {
            return Err(LinkError::OtherPids { procfs: procfs.to_owned() });
        }
        let is_ours = identity(&procfs.join("1/net/dev"))? == identity(&procfs.join("self/net/dev"))?;
        let netlink = if is_ours {
            Netlink::open(None).map_err(|source| LinkError::Socket { source })?
        } else {
            let outside = |source| LinkError::Outside { path: path.clone(), source };
            Netlink::open(Some(File::open(&path).map_err(outside)?)).map_err(outside)?
        };
        Ok(Self { netlink, has_our_pids })
    }

    /// Returns the id that the host's namespace has for that of a process (`nsid`). The kernel is asked by the process number,
    /// or by a file, which needs the right to trace the process.
    pub(super) fn nsid_of(&mut self, process: &Process) -> io::Result<Option<i32>> {
        if !self.has_our_pids {
            return self.netlink.nsid(Target::File(&process.open_file("ns/net")?));
        }
        let nsid = self.netlink.nsid(Target::Process(process.pid))?;
        // The process can still be read, so that it had not ended, and the number was its own, when the kernel answered.
        process.open_file("net/dev").map(|_| nsid)
    }
}

/// Returns the inode of a `net/dev`, which identifies its namespace. Reading it needs no right to trace the process.
fn identity(net_dev: &Path) -> Result<u64, LinkError> {
    let unreadable = |source| LinkError::Unreadable { path: net_dev.to_owned(), source };
    let metadata = File::open(net_dev).and_then(|file| file.metadata()).map_err(unreadable)?;
    Ok(metadata.ino())
}

/// Returns whether procfs shows the process numbers of our own pid namespace. `NSpid` has a number for each namespace from that
/// of procfs down to ours.
fn has_our_pids(procfs: &Path) -> bool {
    let status = fs::read(procfs.join("self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
}
