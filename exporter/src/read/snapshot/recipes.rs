//! What the values of the kernel's files are made of: for each file and key, the number of a snapshot and how the kernel
//! writes it into the file.
//!
//! A file is served by snapshots only if all that is wanted of it can be: what has no recipe here is read.

use crate::discover::Version;
use crate::ebpf::{Number, Wanted};
use crate::metrics::Collector;
use crate::read::plan::{Format, PlannedFile};

/// How a value comes out of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recipe {
    /// The number as it is.
    Count(Number),
    /// A number of pages, written in bytes.
    Pages(Number),
    /// A number of nanoseconds, written in microseconds.
    Microseconds(Number),
    /// User or system time of v2 in microseconds, until the cgroup has run since its file was read.
    Share(Part),
    /// Time on CPUs of v1 in nanoseconds.
    AllCpus,
    /// User or system time of v1 in ticks, likewise.
    Ticks(Part),
    /// A counter behind `memory.stat`, by its place among the keys that are followed.
    Stat(usize),
    /// A column of the devices' table.
    Device(Column),
    /// The same on v1, where a snapshot tells no more than that a cgroup has used no device: else the file is read.
    NoDevice,
    /// Asked for only where another key is not there, which it is wherever snapshots can be taken.
    Spare,
}

/// User or system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    User,
    System,
}

/// Which counter of a device; the number is that of the operation: read, written, discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Bytes(usize),
    Operations(usize),
}

use Recipe::{AllCpus, Count, Device, Microseconds, NoDevice, Pages, Share, Spare, Ticks};

/// File, key (empty for a file of one number) and recipe, on v2.
const V2: &[(&str, &str, Recipe)] = &[
    ("cpu.stat", "usage_usec", Microseconds(Number::Runtime)),
    ("cpu.stat", "user_usec", Share(Part::User)),
    ("cpu.stat", "system_usec", Share(Part::System)),
    ("cpu.stat", "nr_periods", Count(Number::Periods)),
    ("cpu.stat", "nr_throttled", Count(Number::Throttled)),
    ("cpu.stat", "throttled_usec", Microseconds(Number::ThrottledTime)),
    ("cpu.stat", "nr_bursts", Count(Number::Bursts)),
    ("cpu.stat", "burst_usec", Microseconds(Number::BurstTime)),
    ("memory.current", "", Pages(Number::MemoryUsage)),
    ("memory.peak", "", Pages(Number::MemoryPeak)),
    ("memory.swap.current", "", Pages(Number::SwapUsage)),
    // The parts of `kernel`, which `memory.stat` has had since Linux 5.18. All but `slab` are families of `memory_detail`, too.
    ("memory.stat", "kernel_stack", Spare),
    ("memory.stat", "pagetables", Spare),
    ("memory.stat", "percpu", Spare),
    ("memory.stat", "slab", Spare),
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

/// The same on v1.
const V1: &[(&str, &str, Recipe)] = &[
    ("cpuacct.usage", "", AllCpus),
    ("cpuacct.stat", "user", Ticks(Part::User)),
    ("cpuacct.stat", "system", Ticks(Part::System)),
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

/// On both.
const ALIKE: &[(&str, &str, Recipe)] = &[
    ("pids.current", "", Count(Number::Tasks)),
    ("io.pressure", "some", Microseconds(Number::IoWaiting)),
    ("io.pressure", "full", Microseconds(Number::IoStalled)),
    ("memory.pressure", "some", Microseconds(Number::MemoryWaiting)),
    ("memory.pressure", "full", Microseconds(Number::MemoryStalled)),
    ("cpu.pressure", "some", Microseconds(Number::CpuWaiting)),
    ("cpu.pressure", "full", Microseconds(Number::CpuStalled)),
];

/// The recipe of a key. Those of `memory.stat` are found out on the running kernel: `follow` takes one in and gives its place.
pub(super) fn recipe(
    version: Version,
    file: &PlannedFile,
    key: &'static str,
    follow: &mut impl FnMut(&'static str) -> usize,
) -> Option<Recipe> {
    if version == Version::V1 && file.format == Format::Operations {
        return Some(NoDevice);
    }
    let own = if version == Version::V2 { V2 } else { V1 };
    let known = own.iter().chain(ALIKE).find(|(name, of, _)| *name == file.name && *of == key);
    let is_exposed = file.collectors.has(Collector::MemoryDetail) && key != "slab";
    if let Some((.., recipe)) = known.filter(|(.., recipe)| *recipe != Spare || !is_exposed) {
        return Some(*recipe);
    }
    // On v1 only these keys count what is below, too.
    let is_stat = file.name == "memory.stat" && (version == Version::V2 || key.starts_with("total_"));
    (is_stat && file.format == Format::Flat).then(|| Recipe::Stat(follow(key)))
}

/// Whether the keys of a file are of a table and not of slots: all of them are, or none.
pub(super) fn are_of_devices(keys: &[(u16, Recipe)]) -> bool {
    matches!(keys.first(), Some((_, Device(_) | NoDevice)))
}

impl Recipe {
    /// Adds what it takes to what is wanted of its tree.
    pub(super) fn ask(self, version: Version, wanted: &mut Wanted) {
        let mut number = |number: Number| {
            if !wanted.numbers.contains(&number) {
                wanted.numbers.push(number);
            }
        };
        let mut flush = None;
        match self {
            Count(one) | Pages(one) => number(one),
            Microseconds(one) => {
                number(one);
                if one.is_pressure() {
                    number(Number::PressureOn);
                }
                flush = (one == Number::Runtime).then_some("cpu.stat");
            }
            Share(_) => {
                use Number::{Runtime, ShownSystem, ShownUser};
                [Runtime, ShownUser, ShownSystem].into_iter().for_each(number);
                flush = Some("cpu.stat");
            }
            AllCpus => wanted.cpus = true,
            Ticks(_) => {
                [Number::ShownUser, Number::ShownSystem].into_iter().for_each(number);
                wanted.cpus = true;
            }
            Self::Stat(_) => {
                wanted.stats = true;
                flush = Some("memory.stat");
            }
            Device(_) => {
                wanted.devices = version == Version::V2;
                flush = Some("io.stat");
            }
            NoDevice => number(Number::FirstDevice),
            Spare => {}
        }
        if let Some(file) = flush.filter(|file| !wanted.flushes.contains(file)) {
            wanted.flushes.push(file);
        }
    }

    /// Whether its file is read again and again: whenever the cgroup has run.
    pub(super) fn is_file_s_own(self) -> bool {
        matches!(self, Share(_) | Ticks(_))
    }

    /// Whether the value may fall: between two readings it may then have been anything.
    pub(super) fn is_gauge(self) -> bool {
        matches!(
            self,
            Pages(Number::MemoryUsage | Number::SwapUsage | Number::KernelUsage) | Count(Number::Tasks) | Self::Stat(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Recipe, Version, recipe};
    use crate::metrics::{Collector, CollectorSet};
    use crate::read::plan::{Format, PlannedFile};

    #[test]
    fn parts_of_kernel_memory_are_spare_unless_they_are_exposed() {
        let recipes = |collectors| {
            let file = PlannedFile {
                tree: "/".into(),
                name: "memory.stat".into(),
                fallback: None,
                format: Format::Flat,
                keys: Vec::new(),
                targets: Vec::new(),
                divisor: 1,
                collectors,
                is_alternative: false,
            };
            ["kernel_stack", "pagetables", "percpu", "slab"].map(|key| recipe(Version::V2, &file, key, &mut |_| 7))
        };
        let memory = CollectorSet::EMPTY.with(Collector::Memory);
        assert_eq!(recipes(memory), [Some(Recipe::Spare); 4]);
        let (stat, spare) = (Some(Recipe::Stat(7)), Some(Recipe::Spare));
        assert_eq!(recipes(memory.with(Collector::MemoryDetail)), [stat, stat, stat, spare]);
    }
}
