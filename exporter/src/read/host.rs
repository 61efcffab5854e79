//! The host as a whole: `/proc/stat`, `/proc/meminfo` and `/proc/pressure`, for what the root cgroup has no file for; and the
//! machine's facts.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use procfs::{CpuInfo, FromRead as _, FromReadSI as _, KernelStats, current_system_info};
use tracing::debug;

use super::format::{lines, number, psi, split_once, words};
use crate::metrics::HostFact;

/// Interfaces of the host that carry other interfaces' traffic once more, or none of their own.
const VIRTUAL: [&str; 24] = [
    "lo",
    "veth",
    "docker",
    "br-",
    "virbr",
    "vmbr",
    "cni",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "podman",
    "nerdctl",
    "kube",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "dummy",
    "ifb",
    "vxlan",
    "gre",
    "sit",
    "macv",
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
        // The host's, where we may look into its root; else ours, which is none in our own image; a capture's host is another one.
        let ours = |_| if procfs == Path::new("/proc") { std::fs::read("/etc/os-release") } else { Ok(Vec::new()) };
        let release = std::fs::read(procfs.join("1/root/etc/os-release")).or_else(ours).unwrap_or_default();
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
    memory: HashMap<String, u64>,
}

impl HostFacts {
    /// Reads `stat` and `meminfo`.
    #[must_use]
    pub fn read(procfs: &Path) -> Self {
        let file = |name: &str| procfs.join(name);
        let stats = KernelStats::from_file(file("stat"), current_system_info()).ok();
        Self { procfs: procfs.to_owned(), stats, memory: meminfo(&std::fs::read(file("meminfo")).unwrap_or_default()) }
    }

    /// Size of memory and of swap, in bytes.
    #[must_use]
    pub fn machine_memory(&self) -> (Option<u64>, Option<u64>) {
        (self.memory("MemTotal"), self.memory("SwapTotal"))
    }

    /// A fact with its decimal exponent: 2 for ticks, 6 for microseconds.
    #[must_use]
    pub fn get(&self, fact: HostFact) -> Option<(u64, u8)> {
        let total = self.stats.as_ref().map(|stats| &stats.total);
        match fact {
            HostFact::None | HostFact::Cgroup | HostFact::Interface(_) => None,
            HostFact::CpuUser => total.map(|total| (total.user + total.nice, 2)),
            HostFact::CpuSystem => total.map(|total| (kernel_ticks(total), 2)),
            HostFact::CpuBusy => total.map(|total| (total.user + total.nice + kernel_ticks(total), 2)),
            HostFact::MemoryUsed => Some((self.used("MemTotal", "MemFree")?, 0)),
            HostFact::MemoryWorkingSet => {
                Some((self.used("MemTotal", "MemFree")?.saturating_sub(self.memory("Inactive(file)")?), 0))
            }
            HostFact::SwapUsed => Some((self.used("SwapTotal", "SwapFree")?, 0)),
            HostFact::Meminfo(key) => Some((self.memory(key)?, 0)),
            HostFact::Pressure(file, line) => self.pressure(file, line).map(|total| (total, 6)),
        }
    }

    fn memory(&self, key: &str) -> Option<u64> {
        self.memory.get(key).copied()
    }

    fn used(&self, total: &str, free: &str) -> Option<u64> {
        Some(self.memory(total)?.saturating_sub(self.memory(free)?))
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

/// `KEY: VALUE kB` lines, in bytes. Not by the procfs crate: it refuses the whole file where one key is missing, as under
/// LXCFS and gVisor.
fn meminfo(text: &[u8]) -> HashMap<String, u64> {
    let entry = |line| {
        let (key, value) = split_once(line, b':')?;
        let mut words = words(value);
        let number = number(words.next()?)?;
        let unit = if words.next() == Some(b"kB") { 1024 } else { 1 };
        Some((String::from_utf8_lossy(key).into_owned(), number.checked_mul(unit)?))
    };
    lines(text).filter_map(entry).collect()
}

/// Where a procfs tells of the host's interfaces, best first: beside its processes stand those of whoever reads it.
pub(super) const NET_DEV: [&str; 2] = ["1/net/dev", "net/dev"];

/// The host's `net/dev`. None where procfs shows the processes of another pid namespace: process 1 is not the host's there.
pub(super) fn interfaces(procfs: &Path) -> Option<Vec<u8>> {
    if is_live(procfs) && !is_host_s(procfs) {
        return None;
    }
    NET_DEV.into_iter().find_map(|name| std::fs::read(procfs.join(name)).ok())
}

/// Whether a procfs is the kernel's and not a capture.
fn is_live(procfs: &Path) -> bool {
    rustix::fs::statfs(procfs).is_ok_and(|statistics| statistics.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Whether a live procfs is that of the host's pid namespace: process 2 is the parent of the host's kernel threads, and no other
/// namespace has one.
pub(super) fn is_host_s(procfs: &Path) -> bool {
    std::fs::read(procfs.join("2/comm")).is_ok_and(|name| name.trim_ascii() == b"kthreadd")
}

/// Whether an interface of the host is one of its own, as far as its name tells: no bridge (`br0`, `lxdbr0`), and no VLAN
/// (`eth0.100`), whose traffic is that of the interface below.
#[must_use]
pub(super) fn is_physical(interface: &[u8]) -> bool {
    let stem = interface.trim_ascii_end();
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let is_bridge = stem.get(..stem.len() - digits).is_some_and(|stem| stem.ends_with(b"br"));
    let is_virtual = VIRTUAL.iter().any(|prefix| interface.starts_with(prefix.as_bytes()));
    !is_virtual && !is_bridge && !interface.contains(&b'.')
}

#[cfg(test)]
mod tests {
    use super::{HostFacts, Machine, is_physical, pretty_name};
    use crate::metrics::HostFact;

    #[test]
    fn the_host_s_own_interfaces_are_told_from_the_plumbing() {
        for name in ["eth0", "enp3s0", "wlan0", "bond0", "ens5", "brcm0", "ibr2x"] {
            assert!(is_physical(name.as_bytes()), "{name}");
        }
        for name in ["lo", "veth12ab", "docker0", "br-1234", "cni0", "br0", "br", "lxdbr0", "vmbr1", "eth0.100", "wg0"]
        {
            assert!(!is_physical(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn this_host_s_facts_are_plausible() {
        let facts = HostFacts::read("/proc".as_ref());
        let total = facts.machine_memory().0.unwrap();
        let (in_use, _) = facts.get(HostFact::MemoryUsed).unwrap();
        assert!(in_use > 0 && in_use < total);
        let (busy, _) = facts.get(HostFact::CpuBusy).unwrap();
        let (user, _) = facts.get(HostFact::CpuUser).unwrap();
        assert!(user <= busy);
        assert!(Machine::read("/proc".as_ref()).cores.unwrap() > 0);
    }

    #[test]
    fn a_meminfo_that_lacks_keys_still_gives_the_others() {
        let procfs = tempfile::tempdir().unwrap();
        std::fs::write(procfs.path().join("meminfo"), "MemTotal: 10 kB\nMemFree:   4 kB\nHugePages_Total: 3\nodd\n")
            .unwrap();
        let facts = HostFacts::read(procfs.path());
        assert_eq!(facts.machine_memory(), (Some(10_240), None));
        assert_eq!(facts.get(HostFact::MemoryUsed), Some((6_144, 0)));
        assert_eq!(facts.get(HostFact::MemoryWorkingSet), None);
        assert_eq!(facts.get(HostFact::SwapUsed), None);
    }

    #[test]
    fn a_capture_does_not_get_this_machine_s_system() {
        let procfs = tempfile::tempdir().unwrap();
        assert_eq!(Machine::read(procfs.path()).system, "");
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
