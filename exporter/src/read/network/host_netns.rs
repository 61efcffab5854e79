//! Opens sockets in the host's network namespace, from any namespace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::read::host::is_of_host;
use crate::read::network::netlink::{Netlink, Target};
use crate::read::process::Process;

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
    /// Returns the label value under which it is counted.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NotHost { .. } | Self::OtherPids { .. } => "foreign",
            Self::Unreadable { source, .. } | Self::Outside { source, .. } | Self::Socket { source } => {
                crate::read::files::open_files::reason(source)
            }
        }
    }
}

/// Returns whether the links of the host of this procfs can be dumped: tries it.
///
/// # Errors
/// Why they cannot be dumped.
pub fn can_dump_links(procfs: &Path) -> Result<(), LinkError> {
    let mut host = Host::open(procfs)?;
    host.netlink.counters(|_, _| ()).map_err(|source| LinkError::Socket { source })
}

/// Sockets in the host's namespace.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) netlink: Netlink,
    /// Whether the procfs shows the process numbers of our pid namespace.
    has_our_pids: bool,
}

impl Host {
    pub(crate) fn open(procfs: &Path) -> Result<Self, LinkError> {
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

    /// Returns the id by which the host's namespace knows that of a process: by the process number, or by a file, which
    /// takes the right to trace the process.
    pub(crate) fn namespace_of(&mut self, process: &Process) -> io::Result<Option<i32>> {
        if !self.has_our_pids {
            return self.netlink.namespace(Target::File(&process.open_file("ns/net")?));
        }
        let number = self.netlink.namespace(Target::Process(process.pid))?;
        // The process can still be read, so it had not ended and its number was its own when the kernel answered.
        process.open_file("net/dev").map(|_| number)
    }
}

/// Returns the inode of a namespace's `net/dev`, which identifies the namespace and takes no right to trace the
/// process.
fn identity(net_dev: &Path) -> Result<u64, LinkError> {
    let unreadable = |source| LinkError::Unreadable { path: net_dev.to_owned(), source };
    let metadata = File::open(net_dev).and_then(|file| file.metadata()).map_err(unreadable)?;
    Ok(metadata.ino())
}

/// Returns whether this procfs shows the numbers of our own pid namespace: `NSpid` has one for each namespace from
/// there down to ours.
fn has_our_pids(procfs: &Path) -> bool {
    let status = fs::read(procfs.join("self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
}
