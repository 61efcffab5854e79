//! Network namespaces of the containers, and which container reports each.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::read::process::{NetnsId, Process, host_namespace};

/// Network namespaces seen in the current pass.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// The namespace of the host.
    pub(super) host: Option<NetnsId>,
    /// Which container reports a namespace.
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
    /// The container that was the first to report the namespace, while it exists, and the pass since which it does. A
    /// process that enters another container's namespace later does not take over its interfaces.
    pub(super) first: u64,
    pub(super) first_since: u64,
}

/// State of the host's own interfaces. They are usually the first in its `net/dev`, before those of containers, which
/// are not needed and take the kernel a millisecond per thousand to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostInterfaces {
    pub(super) count: usize,
    pub(super) are_first: bool,
    /// When the whole file is read again.
    pub(super) due: Instant,
}

/// How long an interface of the host after those of containers may stay unnoticed.
pub(super) const FULL_READ_INTERVAL: Duration = Duration::from_mins(1);

impl Namespaces {
    /// Begins a pass over this many containers; without a procfs no networks are read.
    pub(crate) fn begin(&mut self, procfs: Option<&Path>, live: bool, containers: usize) {
        self.pass += 1;
        if self.reporters.len() > 2 * containers + 64 {
            let pass = self.pass;
            self.reporters.retain(|_, reporter| reporter.pass + 1 >= pass);
        }
        self.host_pidns_visible = false;
        // The host's namespace never changes: if it cannot be read now, as without a free descriptor, the known one is
        // used.
        if let Some(procfs) = procfs {
            self.host = host_namespace(procfs, live).or(self.host.filter(|_| live));
        }
    }

    /// Ends a pass early: the first reporter of a namespace is not known.
    pub(crate) fn unsettle(&mut self) {
        for reporter in self.reporters.values_mut().filter(|reporter| reporter.first_since == self.pass) {
            reporter.first_since += 1;
        }
    }

    /// Records that a process could be opened.
    pub(crate) fn record_process(&mut self, process: Option<&Process>) {
        // Our own number takes a system call, so it is not read for each container.
        self.host_pidns_visible =
            self.host_pidns_visible || process.is_some_and(|process| process.pid != std::process::id());
    }
}
