//! Network namespaces of the containers, and which container reports each.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::read::process::{NetworkNamespace, Process, host_namespace};

/// The namespaces met in a pass.
#[derive(Debug, Default)]
pub(in crate::read) struct Namespaces {
    /// The host's own.
    pub(super) host: Option<NetworkNamespace>,
    /// Which container reports a namespace.
    pub(super) reporters: HashMap<NetworkNamespace, Reporter>,
    pub(super) pass: u64,
    /// A process of another container than our own could be taken hold of in this pass.
    pub(in crate::read) visible: bool,
}

/// The container that reports a network namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter {
    /// The pass in which it was the one; what follows is of that pass.
    pub(super) pass: u64,
    pub(super) index: usize,
    pub(super) life: u64,
    pub(super) pid: u32,
    /// The container that reported the namespace in an earlier pass than all others, while it exists, and the pass from which on
    /// that is so. A process that enters another container's namespace later does not take that container's interfaces.
    pub(super) first: u64,
    pub(super) first_since: u64,
}

/// What is known of the host's own interfaces. Most often all of them stand at the beginning of its `net/dev`, before those that
/// containers have brought along: these take the kernel a millisecond per thousand to write, and nobody wants them.
#[derive(Clone, Copy, Debug)]
pub(in crate::read) struct HostInterfaces {
    pub(super) count: usize,
    pub(super) are_first: bool,
    /// When the whole file is looked at again.
    pub(super) due: Instant,
}

/// How long an interface of the host goes unnoticed that stands behind those of the containers.
pub(super) const LOOKED_THROUGH: Duration = Duration::from_mins(1);

impl Namespaces {
    /// Begins a pass over so many containers.
    pub(in crate::read) fn begin(&mut self, procfs: &Path, live: bool, containers: usize) {
        self.pass += 1;
        if self.reporters.len() > 2 * containers + 64 {
            let pass = self.pass;
            self.reporters.retain(|_, reporter| reporter.pass + 1 >= pass);
        }
        self.visible = false;
        // The host's stays the same: where it cannot be read now, for want of a descriptor say, the one that is known serves.
        self.host = host_namespace(procfs, live).or(self.host.filter(|_| live));
    }

    /// The pass ended early: who would have reported a namespace first is not known yet.
    pub(in crate::read) fn unsettle(&mut self) {
        for reporter in self.reporters.values_mut().filter(|reporter| reporter.first_since == self.pass) {
            reporter.first_since += 1;
        }
    }

    /// A process could be taken hold of.
    pub(in crate::read) fn see(&mut self, process: Option<&Process>) {
        // Who we are is a question to the kernel: not for each container.
        self.visible = self.visible || process.is_some_and(|process| process.pid != std::process::id());
    }
}
