//! Finds the capabilities that serving needs, and drops all others.
//!
//! A short-lived thread without capabilities tries the accesses that the configuration needs. A failure shows that the
//! access takes a capability.

use std::fs::File;
use std::path::Path;
use std::thread;

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::Needs;
use crate::ebpf::may_use_loaded;

/// Returns the capabilities that this process has and that serving needs, and the reasons. `strict` leaves out
/// `CAP_SYS_PTRACE`.
pub(super) fn missed(needs: &Needs, strict: bool) -> (CapabilitySet, Vec<String>) {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    if held.is_empty() {
        return (held, Vec::new());
    }
    let tried = needs.clone();
    let trial = thread::Builder::new().name("trial".to_owned()).spawn(move || lacks(&tried));
    let [read, connect, processes, bpf] = trial.ok().and_then(|trial| trial.join().ok()).unwrap_or_default();
    // Engines that do not know CAP_BPF grant CAP_SYS_ADMIN for loading the programs.
    let tables = if held.contains(CapabilitySet::BPF) { CapabilitySet::BPF } else { CapabilitySet::SYS_ADMIN };
    let traces = held.contains(CapabilitySet::SYS_PTRACE);
    let tracing = |useful: CapabilitySet| if strict { CapabilitySet::empty() } else { useful };
    let descriptors = tracing(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH);
    let wanted = [
        (read, CapabilitySet::DAC_READ_SEARCH, "files that are read while serving belong to another user"),
        (connect, CapabilitySet::DAC_OVERRIDE, "the engine's socket belongs to another user"),
        (bpf, tables, "Linux before 5.19 lets nobody else read the tables of eBPF programs"),
        (traces && needs.descriptors, descriptors, DESCRIPTORS),
        (traces && processes, tracing(CapabilitySet::SYS_PTRACE), HIDDEN),
    ];
    let matters = |wanted: &CapabilitySet| wanted.is_empty() || held.intersects(*wanted);
    let wanted = wanted.into_iter().filter(|(is_wanted, wanted, _)| *is_wanted && matters(wanted));
    wanted.fold((CapabilitySet::empty(), Vec::new()), |(kept, mut reasons), (_, wanted, why)| {
        reasons.push(why.to_owned());
        (kept | held & wanted, reasons)
    })
}

const DESCRIPTORS: &str = "container_sockets of --collector.process takes the right to look into other processes: --sandbox=auto keeps it, \
                           without Landlock; to --sandbox=on container_sockets is missing";
const HIDDEN: &str = "procfs is mounted with hidepid=, and other users' processes are seen only with the right to look into them: \
                      --sandbox=auto keeps it, without Landlock; to --sandbox=on their values are missing";

/// Drops the capabilities of this thread. Returns whether it is then refused to read files, to connect to the engine's
/// socket, to see other users' processes, and to read eBPF tables.
fn lacks(needs: &Needs) -> [bool; 4] {
    let processes = sees_processes(&needs.procfs);
    let readable: Vec<_> = needs.readable().filter(|path| File::open(path).is_ok()).collect();
    if set_capabilities(None, none()).is_err() {
        return Default::default();
    }
    let is_denied = |path: &Path, access| rustix::fs::access(path, access) == Err(Errno::ACCESS);
    [
        readable.iter().any(|path| is_denied(path, Access::READ_OK)),
        needs.sockets.iter().any(|socket| is_denied(socket, Access::WRITE_OK)),
        processes && !sees_processes(&needs.procfs),
        needs.bpf && !may_use_loaded(),
    ]
}

/// Returns whether a procfs shows the init process.
fn sees_processes(procfs: &Path) -> bool {
    File::open(procfs.join("1/stat")).is_ok()
}

/// Drops all capabilities but `kept` permanently. Returns the remaining ones.
///
/// # Errors
/// The kernel refuses a call, which should not happen.
pub(super) fn keep(kept: CapabilitySet) -> Result<CapabilitySet, Errno> {
    let now = capabilities(None)?;
    // Without CAP_SETPCAP the bounding set cannot change, which no_new_privs makes harmless.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            if capability_is_in_bounding_set(capability) == Ok(true) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    _ = clear_ambient_capability_set();
    let kept = now.permitted & kept;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(kept)
}

fn none() -> CapabilitySets {
    let empty = CapabilitySet::empty();
    CapabilitySets { effective: empty, permitted: empty, inheritable: empty }
}

/// Formats a set: `none`, or `but for CAP_BPF and CAP_SYS_PTRACE`.
pub(super) fn names(set: CapabilitySet) -> String {
    let names: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { format!("but for {}", names.join(" and ")) }
}
