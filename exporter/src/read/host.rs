//! The host as a whole: the values for which the root cgroup has no file, from `/proc`; and what a procfs shows.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::diskstats::HostDisks;
use crate::discover::unescape;
use crate::metrics::{DiskField, HostFact, MachineFact, SelfMetrics};
use crate::name::Moment;
use crate::read::files::format::{lines, number, psi, words};
use crate::read::files::open_files::{count_malformed, reason};
use crate::read::files::proc_text::{BUSY_WORDS, cpu_ticks, meminfo, mounts};

/// Reads a file of procfs. Returns an empty text if there is none or it cannot be read; the latter is counted.
pub(super) fn read(procfs: &Path, name: &str, self_metrics: &SelfMetrics) -> Vec<u8> {
    std::fs::read(procfs.join(name)).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            self_metrics.count_read_error(name, reason(&error));
        }
        Vec::new()
    })
}

/// The files of procfs that are needed for the host's values.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each file")]
pub struct HostFiles {
    stat: bool,
    meminfo: bool,
    vmstat: bool,
    diskstats: bool,
}

impl HostFiles {
    /// All files.
    pub const ALL: Self = Self { stat: true, meminfo: true, vmstat: true, diskstats: true };

    /// Adds the file that a fact comes from.
    #[must_use]
    pub fn with(mut self, fact: HostFact) -> Self {
        match fact {
            HostFact::CpuBusy | HostFact::CpuUser | HostFact::CpuSystem | HostFact::Boot => self.stat = true,
            HostFact::MemoryUsed
            | HostFact::MemoryWorkingSet
            | HostFact::SwapUsed
            | HostFact::KernelMemory
            | HostFact::Meminfo(_) => self.meminfo = true,
            HostFact::Vmstat(_) => self.vmstat = true,
            HostFact::Disk(_) => self.diskstats = true,
            HostFact::None
            | HostFact::Now
            | HostFact::Cgroup
            | HostFact::Filesystems
            | HostFact::Pressure(..)
            | HostFact::Threads
            | HostFact::Interface(_) => {}
        }
        self
    }

    /// Adds the file that a fact of the machine comes from.
    #[must_use]
    pub fn with_machine(mut self, fact: MachineFact) -> Self {
        self.meminfo |= matches!(fact, MachineFact::Memory | MachineFact::Swap);
        self
    }
}

/// Facts of the host as a whole, from `/proc`.
#[derive(Debug, Default)]
pub struct HostFacts {
    /// Procfs of the containers' host; none if that is another machine.
    procfs: Option<PathBuf>,
    cpu: CpuTime,
    memory: HashMap<String, u64>,
    /// Text of `/proc/vmstat`, of which only a few keys are needed.
    vmstat: Vec<u8>,
    disks: HostDisks,
    /// Time of boot in seconds since 1970.
    boot: Option<u64>,
    now_ms: Option<u64>,
}

/// Busy time of all CPUs in ticks, as of the last reading.
#[derive(Debug, Default)]
struct CpuTime {
    /// In the order of [`BUSY_WORDS`].
    ticks: [u64; BUSY_WORDS.len()],
    /// Whether the last reading had user, nice and system time. The others may be absent.
    is_known: bool,
}

/// Number of ticks by which a counter of `/proc/stat` may fall without a reset. The kernel corrects counters by single ticks.
const CORRECTION_TICKS: u64 = 100;

impl CpuTime {
    /// Stores a reading. A counter that is absent, or that the kernel has corrected downwards, keeps its value.
    fn update(&mut self, read: [Option<u64>; BUSY_WORDS.len()]) {
        self.is_known = read.iter().take(3).all(Option::is_some);
        let fall = |(ticks, read): (&u64, &Option<u64>)| read.map_or(0, |read| ticks.saturating_sub(read));
        if self.ticks.iter().zip(&read).map(fall).any(|fall| fall > CORRECTION_TICKS) {
            self.ticks = [0; BUSY_WORDS.len()];
        }
        for (ticks, read) in self.ticks.iter_mut().zip(read) {
            *ticks = read.unwrap_or(0).max(*ticks);
        }
    }

    fn user(&self) -> Option<u64> {
        let [user, nice, ..] = self.ticks;
        self.is_known.then(|| user.saturating_add(nice))
    }

    fn system(&self) -> Option<u64> {
        let [_, _, system, irq, softirq] = self.ticks;
        self.is_known.then(|| system.saturating_add(irq).saturating_add(softirq))
    }

    fn busy(&self) -> Option<u64> {
        Some(self.user()?.saturating_add(self.system()?))
    }
}

impl HostFacts {
    /// Returns the facts that this procfs shows, without values until [`HostFacts::refresh`].
    #[must_use]
    pub fn new(procfs: Option<PathBuf>) -> Self {
        Self { procfs, ..Self::default() }
    }

    /// Reads these files. Failures and malformed lines are counted.
    pub fn refresh(&mut self, files: HostFiles, self_metrics: &SelfMetrics) {
        let Some(procfs) = &self.procfs else { return };
        if files.stat {
            let text = read(procfs, "stat", self_metrics);
            self.boot = lines(&text).find_map(|line| line.strip_prefix(b"btime ")).and_then(number);
            let (ticks, malformed) = cpu_ticks(&text);
            count_malformed("stat", malformed, self_metrics);
            self.cpu.update(ticks);
        }
        self.now_ms = Some(Moment::now().wall_ms());
        self.vmstat.clear();
        if files.vmstat {
            self.vmstat = read(procfs, "vmstat", self_metrics);
        }
        if files.diskstats {
            let malformed = self.disks.update(&read(procfs, "diskstats", self_metrics), self_metrics);
            count_malformed("diskstats", malformed, self_metrics);
        }
        if !files.meminfo {
            return;
        }
        self.memory.clear();
        let Self { memory, .. } = self;
        let malformed = meminfo(&read(procfs, "meminfo", self_metrics), |key, bytes| {
            memory.insert(String::from_utf8_lossy(key).into_owned(), bytes);
        });
        count_malformed("meminfo", malformed, self_metrics);
    }

    /// Returns the sizes of memory and swap in bytes.
    #[must_use]
    pub fn machine_memory(&self) -> (Option<u64>, Option<u64>) {
        (self.memory("MemTotal"), self.memory("SwapTotal"))
    }

    /// Returns a fact and its decimal exponent: 2 for ticks, 3 for milliseconds, 6 for microseconds.
    #[must_use]
    pub fn get(&self, fact: HostFact) -> Option<(u64, u8)> {
        match fact {
            HostFact::None
            | HostFact::Cgroup
            | HostFact::Filesystems
            | HostFact::Threads
            | HostFact::Interface(_)
            | HostFact::Disk(_) => None,
            HostFact::Vmstat(keys) => Some((self.vmstat(keys)?, 0)),
            HostFact::KernelMemory => {
                let parts = ["KernelStack", "PageTables", "Percpu", "Slab"].map(|key| self.memory(key));
                Some((parts.into_iter().flatten().reduce(u64::saturating_add)?, 0))
            }
            HostFact::Boot => Some((self.boot?, 0)),
            HostFact::Now => Some((self.now_ms?, 3)),
            HostFact::CpuUser => Some((self.cpu.user()?, 2)),
            HostFact::CpuSystem => Some((self.cpu.system()?, 2)),
            HostFact::CpuBusy => Some((self.cpu.busy()?, 2)),
            HostFact::MemoryUsed => Some((self.used("MemTotal", "MemFree")?, 0)),
            HostFact::MemoryWorkingSet => {
                Some((self.used("MemTotal", "MemFree")?.saturating_sub(self.memory("Inactive(file)")?), 0))
            }
            HostFact::SwapUsed => Some((self.used("SwapTotal", "SwapFree")?, 0)),
            HostFact::Meminfo(key) => Some((self.memory(key)?, 0)),
            HostFact::Pressure(file, line) => self.pressure(file, line).map(|total| (total, 6)),
        }
    }

    /// Returns a counter of each disk, with the label of the disk and the decimal exponent.
    pub fn disks(&self, field: DiskField) -> impl Iterator<Item = (&str, u64, u8)> {
        self.disks.values(field)
    }

    /// Returns the sum of these keys.
    fn vmstat(&self, keys: &[&str]) -> Option<u64> {
        let value = |line: &[u8]| {
            let mut words = words(line);
            let key = words.next()?;
            keys.iter().any(|wanted| wanted.as_bytes() == key).then(|| words.next().and_then(number))?
        };
        lines(&self.vmstat).filter_map(value).reduce(u64::saturating_add)
    }

    fn memory(&self, key: &str) -> Option<u64> {
        self.memory.get(key).copied()
    }

    fn used(&self, total: &str, free: &str) -> Option<u64> {
        Some(self.memory(total)?.saturating_sub(self.memory(free)?))
    }

    fn pressure(&self, file: &str, line: &str) -> Option<u64> {
        let text = std::fs::read(self.procfs.as_ref()?.join("pressure").join(file)).ok()?;
        let mut total = None;
        psi(&text, &[line], |_, value| total = Some(value));
        total
    }
}

/// Files of a procfs with the host's interfaces, best first. `net/dev` has the interfaces of the reading process.
pub(super) const NET_DEV: [&str; 2] = ["1/net/dev", "net/dev"];

/// Reads the host's `net/dev`. None if procfs is that of another pid namespace, where process 1 is not the host's.
pub(super) fn interfaces(procfs: &Path) -> Option<Vec<u8>> {
    if is_live(procfs) && !is_of_host(procfs) {
        return None;
    }
    NET_DEV.into_iter().find_map(|name| std::fs::read(procfs.join(name)).ok())
}

/// Returns whether a procfs is the kernel's, and not a capture.
pub(super) fn is_live(procfs: &Path) -> bool {
    rustix::fs::statfs(procfs).is_ok_and(|statistics| statistics.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Returns whether a live procfs is that of the host's pid namespace: process 2 is the parent of the kernel threads, which no other
/// namespace has.
pub(super) fn is_of_host(procfs: &Path) -> bool {
    std::fs::read(procfs.join("2/comm")).is_ok_and(|name| name.trim_ascii() == b"kthreadd")
}

/// Returns whether a procfs, and the process lists of cgroup v1, show the processes of all containers: in the host's pid namespace,
/// and in a capture, which is not `live`.
#[must_use]
pub fn shows_all_processes(procfs: &Path, live: bool) -> bool {
    !live || is_of_host(procfs)
}

/// The options of a procfs that hides the processes of other users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenProcesses {
    /// Value of `hidepid=`.
    hidepid: String,
    /// Value of `gid=`: the group to which the processes are shown.
    gid: Option<String>,
}

impl HiddenProcesses {
    /// Reads the options of the procfs at this path. None if it hides nothing.
    #[must_use]
    pub fn of(procfs: &Path) -> Option<Self> {
        let point = procfs.canonicalize().ok()?;
        let text = ["/proc/self/mountinfo".into(), procfs.join("self/mountinfo")]
            .iter()
            .find_map(|path| std::fs::read(path).ok())?;
        Self::parse(&text, &point)
    }

    fn parse(mountinfo: &[u8], point: &Path) -> Option<Self> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut found = None;
        // Of several mounts on one point the last hides the others.
        mounts(mountinfo, |mount| {
            if unescape(mount.point) == point.as_os_str().as_encoded_bytes() {
                let hidepid = mount.option("hidepid").filter(|value| !matches!(*value, b"0" | b"off"));
                found = hidepid.map(|value| Self { hidepid: text(value), gid: mount.option("gid").map(text) });
            }
        });
        found
    }

    /// Returns what the user can do to let the exporter see the processes.
    #[must_use]
    pub fn hint(&self) -> String {
        const CAPABILITY: &str =
            "give the exporter CAP_SYS_PTRACE (--cap-add=SYS_PTRACE, AmbientCapabilities= of a service)";
        match &self.gid {
            // The kernel does not ask for the group in this mode.
            _ if matches!(&*self.hidepid, "4" | "ptraceable") => CAPABILITY.to_owned(),
            Some(gid) => format!("{CAPABILITY}, or run it in group {gid}, which the mount's gid= names"),
            None => format!("{CAPABILITY}, or mount /proc with gid=GROUP and run it in that group"),
        }
    }
}

impl std::fmt::Display for HiddenProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mounted with hidepid={}", self.hidepid)
    }
}

#[cfg(test)]
mod tests {
    use super::{HiddenProcesses, HostFacts, HostFiles};
    use crate::metrics::{HostFact, SelfMetrics};
    use crate::read::machine::Machine;

    fn facts(procfs: &std::path::Path) -> (HostFacts, SelfMetrics) {
        let (mut facts, self_metrics) = (HostFacts::new(Some(procfs.to_owned())), SelfMetrics::new().unwrap());
        facts.refresh(HostFiles::ALL, &self_metrics);
        (facts, self_metrics)
    }

    fn errors(self_metrics: &SelfMetrics, file: &str) -> u64 {
        self_metrics.read_errors.with_label_values(&[file, "malformed"]).get()
    }

    #[test]
    fn this_host_s_facts_are_plausible() {
        let (facts, self_metrics) = facts("/proc".as_ref());
        let total = facts.machine_memory().0.unwrap();
        let (in_use, _) = facts.get(HostFact::MemoryUsed).unwrap();
        assert!(in_use > 0 && in_use < total);
        let (busy, _) = facts.get(HostFact::CpuBusy).unwrap();
        let (user, _) = facts.get(HostFact::CpuUser).unwrap();
        assert!(user <= busy);
        let machine = Machine::read("/proc".as_ref(), &self_metrics);
        assert_eq!(machine.cores, std::thread::available_parallelism().ok().map(|cpus| cpus.get() as u64));
        assert_eq!(["stat", "meminfo", "cpuinfo"].map(|file| errors(&self_metrics, file)), [0; 3]);
    }

    #[test]
    fn a_meminfo_that_lacks_keys_still_gives_the_others() {
        let procfs = tempfile::tempdir().unwrap();
        std::fs::write(procfs.path().join("meminfo"), "MemTotal: 10 kB\nMemFree:   4 kB\nHugePages_Total: 3\nodd\n")
            .unwrap();
        let (facts, self_metrics) = facts(procfs.path());
        assert_eq!(facts.machine_memory(), (Some(10_240), None));
        assert_eq!(facts.get(HostFact::MemoryUsed), Some((6_144, 0)));
        assert_eq!(facts.get(HostFact::MemoryWorkingSet), None);
        assert_eq!(facts.get(HostFact::SwapUsed), None);
        assert_eq!(errors(&self_metrics, "meminfo"), 1);
    }

    #[test]
    fn cpu_time_needs_three_words_and_never_falls() {
        let procfs = tempfile::tempdir().unwrap();
        let (mut facts, self_metrics) = facts(procfs.path());
        let mut read = |stat: &str| {
            std::fs::write(procfs.path().join("stat"), stat).unwrap();
            facts.refresh(HostFiles::ALL, &self_metrics);
            [HostFact::CpuBusy, HostFact::CpuUser, HostFact::CpuSystem]
                .map(|fact| facts.get(fact).map(|(ticks, _)| ticks))
        };
        let ticks = |busy, user, system| [Some(busy), Some(user), Some(system)];
        assert_eq!(read("cpu  1000 1 500\n"), ticks(1501, 1001, 500));
        // Neither idle time, nor steal, nor guest time, which user time contains.
        assert_eq!(read("cpu  1000 1 500 90000 10 4 20 777 888 999\nctxt x\n"), ticks(1525, 1001, 524));
        // The kernel corrects itself; a word is missing, or negative.
        assert_eq!(read("cpu  999 1 500 89999 9 4 19 777 888 999\n"), ticks(1525, 1001, 524));
        assert_eq!(read("cpu  1000 1 501 90000 10 18446744073709551615\n"), ticks(1526, 1001, 525));
        assert_eq!(errors(&self_metrics, "stat"), 1);
        assert_eq!(read("cpu  1000 x 501\n"), [None; 3]);
        assert_eq!(read("ctxt 1\n"), [None; 3]);
        assert_eq!(errors(&self_metrics, "stat"), 3);
        // Another kernel's, as after a guest was moved to another host.
        assert_eq!(read("cpu  10 0 5 0 0 0 0 0 0 0\n"), ticks(15, 10, 5));
    }

    #[test]
    fn a_procfs_that_hides_processes_is_reported_with_a_hint() {
        let parse = |options: &str| {
            let text = format!(
                "1 0 0:5 / /proc rw - proc proc rw,hidepid=1\nodd\n22 1 0:21 / /proc rw - proc proc {options}\n"
            );
            HiddenProcesses::parse(text.as_bytes(), "/proc".as_ref())
        };
        for options in ["rw", "rw,hidepid=0", "rw,gid=7,hidepid=off"] {
            assert_eq!(parse(options), None, "{options}");
        }
        let hidden = parse("rw,gid=1234,hidepid=invisible").unwrap();
        assert_eq!(hidden.to_string(), "mounted with hidepid=invisible");
        assert!(hidden.hint().contains("CAP_SYS_PTRACE") && hidden.hint().contains("group 1234"), "{}", hidden.hint());
        assert!(parse("rw,hidepid=2").unwrap().hint().contains("gid="));
        assert!(!parse("rw,gid=7,hidepid=ptraceable").unwrap().hint().contains("group"));
    }

    #[test]
    fn without_proc_there_are_no_facts() {
        let (facts, self_metrics) = facts("/does/not/exist".as_ref());
        assert_eq!(facts.get(HostFact::MemoryUsed), None);
        assert_eq!(facts.get(HostFact::Pressure("cpu", "some")), None);
        assert_eq!(errors(&self_metrics, "stat"), 0);
    }
}
