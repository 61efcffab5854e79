//! Drops the privileges that this process does not need while serving: capabilities, access to files, and system calls.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | what the configuration needs while serving, and the order in which the parts are entered |
//! | `capabilities` | finds the capabilities that serving needs and drops all others |
//! | `landlock` | restricts the reachable files, ports and processes |
//! | `seccomp`, `syscalls` | restrict the system calls |
//! | `walker` | confines the disk walker, which lists layers |
//!
//! The sandbox applies to the thread that enters it and to threads that it starts later, so it is entered before any
//! other thread starts. A refused action returns an error and kills nothing, so that a forgotten call costs a value and
//! not the program. Builds with debug assertions end at an unknown call, so that tests find it.

mod capabilities;
mod landlock;
mod seccomp;
mod syscalls;
mod walker;

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, set_no_new_privs};

pub use self::walker::{Confinement, confine_walker};
use crate::config::{Config, DockerEndpoint, FeatureMode};
use crate::metrics::{Collector, SelfMetrics};

/// Directories of kernel files, beside the roots that flags name. sysfs is not listed as a whole, because it holds
/// debugfs, tracefs and firmware.
const KERNEL: [&str; 6] = ["/proc", "/sys/devices", "/sys/class", "/sys/block", "/sys/dev", "/sys/kernel/mm"];

/// Accesses that must stay possible while serving.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Directories and files to read, with everything below.
    read: Vec<PathBuf>,
    /// Directories to read that are visible only with the right to trace the host's first process, from inside a
    /// container.
    traced: Vec<PathBuf>,
    procfs: PathBuf,
    /// The engines' sockets that have a path.
    sockets: Vec<PathBuf>,
    /// The engines' ports.
    ports: Vec<u16>,
    /// Whether an engine's host name has to be resolved for each connection.
    resolver: bool,
    /// Whether descriptors of other processes are listed, which takes the right to trace them.
    descriptors: bool,
    /// Whether tables of eBPF programs are read.
    bpf: bool,
}

impl Needs {
    /// Returns the needs of a configuration; `bpf` if eBPF programs run.
    #[must_use]
    pub fn of(config: &Config, bpf: bool) -> Self {
        let mut read: Vec<PathBuf> = KERNEL.iter().map(PathBuf::from).collect();
        read.push(config.cgroup_root.clone());
        read.push(config.procfs_root.clone());
        // These identify the host's network interfaces.
        let traced = ["1/root/sys/class", "1/root/sys/devices"].map(|path| config.procfs_root.join(path)).to_vec();
        read.extend(config.web.iter().flat_map(|web| web.directories()));
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for engine in &config.docker {
            match engine {
                DockerEndpoint::Unix(path) => sockets.push(path.clone()),
                DockerEndpoint::Tcp(tcp) => addresses.push(tcp),
                DockerEndpoint::Tls { address: tls, certificates } => {
                    addresses.push(tls);
                    read.push(certificates.clone());
                }
            }
        }
        let (hosts, ports): (Vec<_>, Vec<_>) =
            addresses.into_iter().filter_map(|address| address.rsplit_once(':')).unzip();
        let is_name = |host: &&str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err();
        let resolver = hosts.iter().any(is_name);
        if resolver {
            read.extend(["/etc", "/run/systemd/resolve"].map(PathBuf::from));
        }
        Self {
            read,
            traced,
            procfs: config.procfs_root.clone(),
            sockets,
            ports: ports.into_iter().filter_map(|port| port.parse().ok()).collect(),
            resolver,
            descriptors: config.collectors.has(Collector::Process),
            bpf,
        }
    }

    /// Adds a file or directory to read, by the given path and by the path with its links resolved.
    #[must_use]
    pub fn and_read(mut self, path: &Path) -> Self {
        self.read.push(path.to_owned());
        self
    }

    /// Returns the existing paths to read, as given and with links resolved. A listed directory covers files that are
    /// later renamed into it.
    fn readable(&self) -> impl Iterator<Item = PathBuf> {
        self.read.iter().flat_map(|path| {
            let resolved = path.canonicalize().ok().filter(|resolved| resolved != path);
            [Some(path.clone()).filter(|path| path.exists()), resolved].into_iter().flatten()
        })
    }
}

/// Why `--sandbox=on` cannot be entered.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox=on: {0} (--sandbox=auto goes on with what there is)")]
pub struct SandboxError(String);

/// The parts of the sandbox that are in force.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Remaining capabilities, or why they could not be dropped.
    capabilities: Result<CapabilitySet, String>,
    /// The kinds of access that Landlock handles, or why it is not in force.
    landlock: Result<String, String>,
    /// Number of allowed system calls, or why they are not filtered.
    seccomp: Result<usize, String>,
    /// Options that keep parts of the sandbox open.
    reasons: Vec<String>,
}

impl Sandbox {
    /// Enters the sandbox with this thread and the threads that it starts later.
    ///
    /// # Errors
    /// The mode is `on`, and the kernel or the environment does not support a part.
    pub fn enter(mode: FeatureMode, needs: &Needs) -> Result<Self, SandboxError> {
        if mode == FeatureMode::Off {
            let off = || "--sandbox=off".to_owned();
            return Ok(Self {
                capabilities: Err(off()),
                landlock: Err(off()),
                seccomp: Err(off()),
                reasons: Vec::new(),
            });
        }
        let (kept, mut reasons) = capabilities::missed(needs, mode == FeatureMode::On);
        let traces = kept.contains(CapabilitySet::SYS_PTRACE);
        let roots = landlock::roots(needs);
        // rustix reads the page size from /proc/self/auxv, which a non-dumpable process can open only as root.
        _ = rustix::param::page_size();
        // A non-dumpable process hides its memory from other processes of the same user.
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let privileges = set_no_new_privs(true);
        let dropped = capabilities::keep(kept);
        let capabilities = hidden.and(privileges).and(dropped).map_err(|error| error.to_string());
        // A process in a Landlock domain cannot trace processes outside it.
        let landlock = if traces { Err(TRACES.to_owned()) } else { landlock::enter(needs, roots) };
        let seccomp = seccomp::enter(needs);
        if mode == FeatureMode::On {
            let failed = |what: &str, why: &String| SandboxError(format!("{what}: {why}"));
            capabilities.as_ref().map_err(|why| failed("capabilities", why))?;
            landlock.as_ref().map_err(|why| failed("Landlock", why))?;
            seccomp.as_ref().map_err(|why| failed("seccomp", why))?;
        }
        reasons.dedup();
        Ok(Self { capabilities, landlock, seccomp, reasons })
    }

    /// Returns whether the kernel and the environment support every part.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let traces = self.landlock.as_ref().is_err_and(|why| why == TRACES);
        self.capabilities.is_ok() && (self.landlock.is_ok() || traces) && self.seccomp.is_ok()
    }

    /// Returns the options that keep parts of the sandbox open.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Sets the exporter's own metric of the sandbox.
    pub fn publish(&self, self_metrics: &SelfMetrics) {
        let parts = [
            ("capabilities", self.capabilities.as_ref().is_ok_and(CapabilitySet::is_empty)),
            ("landlock", self.landlock.is_ok()),
            ("seccomp", self.seccomp.is_ok()),
        ];
        for (part, holds) in parts {
            self_metrics.sandbox.with_label_values(&[part]).set(i64::from(holds));
        }
    }
}

const TRACES: &str = "left out, as it would forbid to look into other processes";

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.capabilities {
            Ok(kept) => write!(f, "capabilities {}", capabilities::names(*kept))?,
            Err(why) => write!(f, "capabilities not given up ({why})")?,
        }
        match &self.landlock {
            Ok(handled) => write!(f, ", Landlock {handled}")?,
            Err(why) => write!(f, ", no Landlock ({why})")?,
        }
        match &self.seccomp {
            Ok(calls) => write!(f, ", seccomp {calls} calls"),
            Err(why) => write!(f, ", no seccomp ({why})"),
        }
    }
}

#[cfg(test)]
mod tests;
