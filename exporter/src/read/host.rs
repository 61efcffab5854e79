//! The host as a whole: `/proc/stat`, `/proc/meminfo` and `/proc/pressure`, for what the root cgroup has no file for; and the
//! machine's facts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use procfs::{CpuInfo, FromRead as _, FromReadSI as _, KernelStats, Meminfo, current_system_info};
use tracing::debug;

use super::format::psi;
use crate::metrics::HostFact;

/// Interfaces of the host that carry other interfaces' traffic once more, or none of their own.
const VIRTUAL: [&str; 20] = [
    "lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "cali", "cilium", "lxc", "podman", "nerdctl", "kube",
    "tun", "tap", "dummy", "ifb", "vxlan", "gre", "sit",
];

/// Facts that do not change while the program runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Logical CPUs.
    pub cores: Option<u64>,
    /// Physical cores.
    pub physical_cores: Option<u64>,
    /// CPU packages.
    pub sockets: Option<u64>,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of the host's `os-release`, as far as it can be seen.
    pub system: String,
}

impl Machine {
    /// Reads the facts.
    #[must_use]
    pub fn read(procfs: &Path) -> Self {
        let mut machine = Self { kernel: first_line(&procfs.join("sys/kernel/osrelease")), ..Self::default() };
        // The host's, where we may look into its root; else ours, which is none in our own image.
        let release = std::fs::read(procfs.join("1/root/etc/os-release"))
            .or_else(|_| std::fs::read("/etc/os-release"))
            .unwrap_or_default();
        machine.system = pretty_name(&String::from_utf8_lossy(&release));
        match CpuInfo::from_file(procfs.join("cpuinfo")) {
            Ok(info) => machine.count(&info),
            Err(error) => debug!(%error, "cpuinfo cannot be read: no machine_cpu_* metrics"),
        }
        machine
    }

    fn count(&mut self, info: &CpuInfo) {
        let field = |cpu: usize, name: &str| info.get_field(cpu, name).map(str::to_owned);
        let cores = info.num_cores();
        self.cores = Some(cores as u64);
        let packages: HashSet<_> = (0..cores).filter_map(|cpu| field(cpu, "physical id")).collect();
        let physical: HashSet<_> =
            (0..cores).filter_map(|cpu| Some((field(cpu, "physical id")?, field(cpu, "core id")?))).collect();
        self.sockets = (!packages.is_empty()).then_some(packages.len() as u64);
        self.physical_cores = (!physical.is_empty()).then_some(physical.len() as u64);
    }
}

fn first_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

fn pretty_name(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// What `/proc` says of the host in one scrape. Read on demand, each file at most once.
#[derive(Debug, Default)]
pub struct HostFacts {
    procfs: PathBuf,
    stats: Option<KernelStats>,
    memory: Option<Meminfo>,
}

impl HostFacts {
    /// Reads `stat` and `meminfo`.
    #[must_use]
    pub fn read(procfs: &Path) -> Self {
        let file = |name: &str| procfs.join(name);
        let stats = KernelStats::from_file(file("stat"), current_system_info()).ok();
        Self { procfs: procfs.to_owned(), stats, memory: Meminfo::from_file(file("meminfo")).ok() }
    }

    /// Size of memory and of swap, in bytes.
    #[must_use]
    pub fn machine_memory(&self) -> Option<(u64, u64)> {
        self.memory.as_ref().map(|memory| (memory.mem_total, memory.swap_total))
    }

    /// A fact with its decimal exponent: 2 for ticks, 6 for microseconds.
    #[must_use]
    pub fn get(&self, fact: HostFact) -> Option<(u64, u8)> {
        let memory = self.memory.as_ref();
        let total = self.stats.as_ref().map(|stats| &stats.total);
        match fact {
            HostFact::None | HostFact::Cgroup | HostFact::Interface(_) => None,
            HostFact::CpuUser => total.map(|total| (total.user + total.nice, 2)),
            HostFact::CpuSystem => total.map(|total| (kernel_ticks(total), 2)),
            HostFact::CpuBusy => total.map(|total| (total.user + total.nice + kernel_ticks(total), 2)),
            HostFact::MemoryUsed => memory.map(|memory| (used(memory), 0)),
            HostFact::MemoryWorkingSet => {
                memory.and_then(|memory| Some((used(memory).saturating_sub(memory.inactive_file?), 0)))
            }
            HostFact::SwapUsed => memory.map(|memory| (memory.swap_total.saturating_sub(memory.swap_free), 0)),
            HostFact::Meminfo(key) => memory.and_then(|memory| Some((meminfo(memory, key)?, 0))),
            HostFact::Pressure(file, line) => self.pressure(file, line).map(|total| (total, 6)),
        }
    }

    fn pressure(&self, file: &str, line: &str) -> Option<u64> {
        let text = std::fs::read(self.procfs.join("pressure").join(file)).ok()?;
        let mut total = None;
        psi(&text, &[line], |_, value| total = Some(value));
        total
    }
}

fn kernel_ticks(total: &procfs::CpuTime) -> u64 {
    let interrupts = total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
    total.system + interrupts + total.steal.unwrap_or(0)
}

fn used(memory: &Meminfo) -> u64 {
    memory.mem_total.saturating_sub(memory.mem_free)
}

fn meminfo(memory: &Meminfo, key: &str) -> Option<u64> {
    match key {
        "AnonPages" => memory.anon_pages,
        "Cached" => Some(memory.cached),
        "Mapped" => Some(memory.mapped),
        _ => None,
    }
}

/// Whether an interface of the host is one of its own, as far as its name tells.
#[must_use]
pub(super) fn is_physical(interface: &[u8]) -> bool {
    !VIRTUAL.iter().any(|prefix| interface.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{HostFacts, Machine, is_physical, pretty_name};
    use crate::metrics::HostFact;

    #[test]
    fn the_host_s_own_interfaces_are_told_from_the_plumbing() {
        for name in ["eth0", "enp3s0", "wlan0", "bond0", "ens5"] {
            assert!(is_physical(name.as_bytes()), "{name}");
        }
        for name in ["lo", "veth12ab", "docker0", "br-1234", "cni0"] {
            assert!(!is_physical(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn this_host_s_facts_are_plausible() {
        let facts = HostFacts::read("/proc".as_ref());
        let (total, _) = facts.machine_memory().unwrap();
        let (in_use, _) = facts.get(HostFact::MemoryUsed).unwrap();
        assert!(in_use > 0 && in_use < total);
        let (busy, _) = facts.get(HostFact::CpuBusy).unwrap();
        let (user, _) = facts.get(HostFact::CpuUser).unwrap();
        assert!(user <= busy);
        assert!(Machine::read("/proc".as_ref()).cores.unwrap() > 0);
    }

    #[test]
    fn without_proc_there_are_no_facts() {
        let facts = HostFacts::read("/does/not/exist".as_ref());
        assert_eq!(facts.get(HostFact::MemoryUsed), None);
        assert_eq!(facts.get(HostFact::Pressure("cpu", "some")), None);
    }

    #[test]
    fn the_system_s_name_is_found() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }
}
