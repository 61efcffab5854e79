//! Derivations: for each key of a cgroup file, the kernel's counter behind it and how the kernel writes the counter into the file.
//!
//! A snapshot replaces a file only if each planned key of the file has a derivation.

use crate::discover::Version;
use crate::ebpf::{Number, TreeRequest};
use crate::metrics::Collector;
use crate::read::plan::{Format, PlannedFile};

/// How the value of a key follows from a copied counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Derivation {
    /// The counter unchanged.
    Count(Number),
    /// Pages, which the file has in bytes.
    Pages(Number),
    /// Nanoseconds, which the file has in microseconds.
    Microseconds(Number),
    /// User or system time of v2 in microseconds, as the file has last shown it. There is no value once the cgroup has run since.
    ScaledCpuTime(CpuMode),
    /// Time on all CPUs of v1 in nanoseconds.
    AllCpus,
    /// User or system time of v1 in ticks, as the file has last shown it.
    CpuTicks(CpuMode),
    /// An unnamed counter behind `memory.stat`, by the index of its key.
    Stat(usize),
    /// A column of the table of devices.
    Device(Column),
    /// A column of that table on v1, where a snapshot shows only whether a cgroup has used any device. If it has, the file is read.
    NoDevice,
    /// Not exposed on kernels with snapshots: the key replaces another one that older kernels lack.
    Unused,
}

/// User or system mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CpuMode {
    User,
    System,
}

/// Counter of a device, with the index of the operation: read, write, discard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Bytes(usize),
    Operations(usize),
}

use Derivation::{AllCpus, Count, CpuTicks, Device, Microseconds, NoDevice, Pages, ScaledCpuTime, Unused};

/// File, key (empty for a file of one number) and derivation on v2.
const V2: &[(&str, &str, Derivation)] = &[
    ("cpu.stat", "usage_usec", Microseconds(Number::Runtime)),
    ("cpu.stat", "user_usec", ScaledCpuTime(CpuMode::User)),
    ("cpu.stat", "system_usec", ScaledCpuTime(CpuMode::System)),
    ("cpu.stat", "nr_periods", Count(Number::Periods)),
    ("cpu.stat", "nr_throttled", Count(Number::Throttled)),
    ("cpu.stat", "throttled_usec", Microseconds(Number::ThrottledTime)),
    ("cpu.stat", "nr_bursts", Count(Number::Bursts)),
    ("cpu.stat", "burst_usec", Microseconds(Number::BurstTime)),
    ("memory.current", "", Pages(Number::MemoryUsage)),
    ("memory.peak", "", Pages(Number::MemoryPeak)),
    ("memory.swap.current", "", Pages(Number::SwapUsage)),
    // The parts of `kernel`, which replace it before Linux 5.18. All but `slab` are also families of `memory_detail`.
    ("memory.stat", "kernel_stack", Unused),
    ("memory.stat", "pagetables", Unused),
    ("memory.stat", "percpu", Unused),
    ("memory.stat", "slab", Unused),
    ("memory.events", "low", Count(Number::EventsLow)),
    ("memory.events", "high", Count(Number::EventsHigh)),
    ("memory.events", "max", Count(Number::EventsMax)),
    ("memory.events", "oom", Count(Number::EventsOom)),
    ("memory.events", "oom_kill", Count(Number::EventsOomKill)),
    ("memory.events", "oom_group_kill", Count(Number::EventsOomGroupKill)),
    ("pids.events", "max", Count(Number::TasksRefused)),
    ("io.stat", "rbytes", Device(Column::Bytes(0))),
    ("io.stat", "wbytes", Device(Column::Bytes(1))),
    ("io.stat", "dbytes", Device(Column::Bytes(2))),
    ("io.stat", "rios", Device(Column::Operations(0))),
    ("io.stat", "wios", Device(Column::Operations(1))),
    ("io.stat", "dios", Device(Column::Operations(2))),
];

/// File, key and derivation on v1.
const V1: &[(&str, &str, Derivation)] = &[
    ("cpuacct.usage", "", AllCpus),
    ("cpuacct.stat", "user", CpuTicks(CpuMode::User)),
    ("cpuacct.stat", "system", CpuTicks(CpuMode::System)),
    ("cpu.stat", "nr_periods", Count(Number::Periods)),
    ("cpu.stat", "nr_throttled", Count(Number::Throttled)),
    ("cpu.stat", "throttled_time", Count(Number::ThrottledTime)),
    ("cpu.stat", "nr_bursts", Count(Number::Bursts)),
    ("cpu.stat", "burst_time", Count(Number::BurstTime)),
    ("memory.usage_in_bytes", "", Pages(Number::MemoryUsage)),
    ("memory.max_usage_in_bytes", "", Pages(Number::MemoryPeak)),
    ("memory.failcnt", "", Count(Number::MemoryFailures)),
    ("memory.kmem.usage_in_bytes", "", Pages(Number::KernelUsage)),
    ("memory.oom_control", "oom_kill", Count(Number::OomKills)),
    ("pids.events", "max", Count(Number::ForksFailed)),
];

/// File, key and derivation on both versions.
const BOTH: &[(&str, &str, Derivation)] = &[
    ("pids.current", "", Count(Number::Tasks)),
    ("io.pressure", "some", Microseconds(Number::IoWaiting)),
    ("io.pressure", "full", Microseconds(Number::IoStalled)),
    ("memory.pressure", "some", Microseconds(Number::MemoryWaiting)),
    ("memory.pressure", "full", Microseconds(Number::MemoryStalled)),
    ("cpu.pressure", "some", Microseconds(Number::CpuWaiting)),
    ("cpu.pressure", "full", Microseconds(Number::CpuStalled)),
];

/// Returns the derivation of a key; none if the file has to be read. Adds keys of `memory.stat` without a named counter to
/// `stat_keys`.
pub(super) fn derivation(
    version: Version,
    file: &PlannedFile,
    key: &'static str,
    stat_keys: &mut Vec<&'static str>,
) -> Option<Derivation> {
    if version == Version::V1 && file.format == Format::Operations {
        return Some(NoDevice);
    }
    let own = if version == Version::V2 { V2 } else { V1 };
    let known = own.iter().chain(BOTH).find(|(name, of, _)| *name == file.name && *of == key);
    let is_exposed = file.collectors.has(Collector::MemoryDetail) && key != "slab";
    if let Some((.., derivation)) = known.filter(|(.., derivation)| *derivation != Unused || !is_exposed) {
        return Some(*derivation);
    }
    // On v1 only keys with this prefix include the cgroups below.
    let is_stat = file.name == "memory.stat" && (version == Version::V2 || key.starts_with("total_"));
    (is_stat && file.format == Format::Flat).then(|| {
        let known = stat_keys.iter().position(|known| *known == key);
        Derivation::Stat(known.unwrap_or_else(|| {
            stat_keys.push(key);
            stat_keys.len() - 1
        }))
    })
}

/// Returns whether the keys of a file fill the table of devices and not slots. All keys of a file do, or none.
pub(super) fn fill_device_table(keys: &[(u16, Derivation)]) -> bool {
    matches!(keys.first(), Some((_, Device(_) | NoDevice)))
}

impl Derivation {
    /// Adds the counters that the derivation needs to the request for its tree.
    pub(super) fn require(self, version: Version, request: &mut TreeRequest) {
        let flushed = match self {
            Microseconds(Number::Runtime) | ScaledCpuTime(_) => Some("cpu.stat"),
            Self::Stat(_) => Some("memory.stat"),
            Device(_) => Some("io.stat"),
            _ => None,
        };
        request.flushes.extend(flushed.filter(|file| !request.flushes.contains(file)));
        request.cpus |= matches!(self, AllCpus | CpuTicks(_));
        request.stats |= matches!(self, Self::Stat(_));
        request.devices |= matches!(self, Device(_)) && version == Version::V2;
        let numbers: &[Number] = match &self {
            Microseconds(number) if number.is_pressure() => &[*number, Number::PressureOn],
            Count(number) | Pages(number) | Microseconds(number) => std::slice::from_ref(number),
            ScaledCpuTime(_) => &[Number::Runtime, Number::ShownUser, Number::ShownSystem],
            CpuTicks(_) => &[Number::ShownUser, Number::ShownSystem],
            NoDevice => &[Number::FirstDevice],
            AllCpus | Self::Stat(_) | Device(_) | Unused => &[],
        };
        for number in numbers {
            if !request.numbers.contains(number) {
                request.numbers.push(*number);
            }
        }
    }

    /// Returns whether the file is read each time the cgroup has run, and so stays open.
    pub(super) fn is_read_after_run(self) -> bool {
        matches!(self, ScaledCpuTime(_) | CpuTicks(_))
    }

    /// Returns whether the value may decrease, so that it may have had any value between two different readings.
    pub(super) fn is_gauge(self) -> bool {
        matches!(
            self,
            Pages(Number::MemoryUsage | Number::SwapUsage | Number::KernelUsage) | Count(Number::Tasks) | Self::Stat(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Derivation, Version, derivation};
    use crate::discover::Hierarchy;
    use crate::metrics::{Collector, CollectorSet, DOCKER_STATS_FAMILIES, FAMILIES, FamilySet};
    use crate::read::plan::planner::for_cgroups;
    use crate::read::plan::{Format, PlannedFile};
    use crate::read::sample::MAX_SLOTS;

    /// Files that are always read, and why.
    const READ: &[(&str, &str)] = &[
        ("cpuacct.usage_percpu", "a value for each CPU"),
        ("cpuacct.usage_percpu_sys", "a value for each CPU"),
        ("cpuacct.usage_percpu_user", "a value for each CPU"),
        ("memory.numa_stat", "a value for each node"),
    ];

    fn planned(files: &[(&str, &str)]) -> Vec<PlannedFile> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        let all = Collector::ALL.iter().fold(CollectorSet::EMPTY, |all, collector| all.with(*collector));
        let both_schemas = FamilySet::of(FAMILIES, all).union(FamilySet::of(DOCKER_STATS_FAMILIES, all));
        let page_sizes = ["64KB", "2MB", "32MB", "1GB", "16GB"].map(str::to_owned);
        let slots = for_cgroups(&hierarchy, &page_sizes, both_schemas).0.slots;
        assert!(slots <= MAX_SLOTS, "{slots} slots: raise MAX_SLOTS");
        for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, all)).0.files
    }

    fn underived(version: Version, files: &[PlannedFile]) -> Vec<String> {
        let keys = files.iter().flat_map(|file| file.keys.iter().map(move |key| (file, *key)));
        let is_read = |file: &PlannedFile| READ.iter().any(|(name, _)| *name == file.name);
        keys.filter(|(file, key)| !is_read(file) && derivation(version, file, key, &mut Vec::new()).is_none())
            .map(|(file, key)| format!("{} {key}", file.name))
            .collect()
    }

    #[test]
    fn every_key_has_a_derivation() {
        let v2 = planned(&[("cgroup.controllers", "cpu io memory pids\n")]);
        let trees = ["blkio", "cpu,cpuacct", "memory", "pids"];
        let v1: Vec<(String, &str)> = trees
            .iter()
            .flat_map(|tree| [(format!("{tree}/tasks"), "1\n"), (format!("{tree}/release_agent"), "\n")])
            .collect();
        let v1 = planned(&v1.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
        assert!(v1.len() > 10 && v2.len() > 8, "{} files on v1, {} on v2", v1.len(), v2.len());
        for (version, files) in [(Version::V1, v1), (Version::V2, v2)] {
            assert_eq!(
                underived(version, &files),
                [""; 0],
                "{version:?}: without a derivation the whole file is read for each container. Add a line to V1, V2 or BOTH in \
                 read/snapshot/derivations.rs, with its Number in ebpf/snapshot/numbers.rs; a file that is to be read goes into READ"
            );
        }
    }

    #[test]
    fn parts_of_kernel_memory_are_unused_unless_they_are_exposed() {
        let derivations = |collectors| {
            let file = PlannedFile {
                tree: "/".into(),
                name: "memory.stat".into(),
                fallback: None,
                format: Format::Flat,
                keys: Vec::new(),
                targets: Vec::new(),
                divisor: 1,
                collectors,
                families: FamilySet::ALL,
                is_alternative: false,
            };
            let mut stat_keys = Vec::new();
            ["kernel_stack", "pagetables", "percpu", "slab"]
                .map(|key| derivation(Version::V2, &file, key, &mut stat_keys))
        };
        let memory = CollectorSet::EMPTY.with(Collector::Memory);
        assert_eq!(derivations(memory), [Some(Derivation::Unused); 4]);
        let stat = |index| Some(Derivation::Stat(index));
        let expected = [stat(0), stat(1), stat(2), Some(Derivation::Unused)];
        assert_eq!(derivations(memory.with(Collector::MemoryDetail)), expected);
    }
}
