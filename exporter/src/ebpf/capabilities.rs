//! Gives capabilities up once the programs run. What is loaded stays loaded; nobody who gets into this process later can
//! load more, or do anything else that only the start needed.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What is still of use while serving: others' files below `/proc` (`--collector.process`, `.disk`), the host's network
/// namespace, more open files, a port below 1024.
const NEEDED: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_RESOURCE);

/// What snapshots need when there are more cgroups than their tables have room for.
const FOR_SNAPSHOTS: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Keeps what serving needs, and snapshots where they are `wanted`, and drops the rest, for this thread and those that it will
/// start.
///
/// # Errors
/// The kernel refuses, which it has no reason to.
pub fn give_up_capabilities(snapshots: bool) -> io::Result<()> {
    let now = capabilities(None)?;
    let needed = if snapshots { NEEDED.union(FOR_SNAPSHOTS) } else { NEEDED };
    let kept = CapabilitySets {
        effective: now.effective & needed,
        permitted: now.permitted & needed,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, kept)?)
}
