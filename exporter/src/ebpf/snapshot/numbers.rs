//! The counters that are copied, by the names of the kernel's structures.
//!
//! Offsets come from the running kernel's types. If this kernel does not have the member of a number, the number is
//! absent, and the file that shows it is read instead.

use exporter_ebpf::snapshot::{CPUS, CpusPlan, DevicesPlan, ITSELF, Pointer, STATS, StatsPlan};

use crate::ebpf::btf::Types;
use crate::metrics::Controller;

/// An object of the kernel that belongs to a cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Object {
    /// The cgroup itself.
    Cgroup,
    /// Its pressure (`psi_group`).
    Pressure,
    /// Its state in a controller (`cgroup_subsys_state`).
    Css(Controller),
}

const CPU: Object = Object::Css(Controller::Cpu);
const MEMORY: Object = Object::Css(Controller::Memory);
const PIDS: Object = Object::Css(Controller::Pids);
const IO: Object = Object::Css(Controller::Io);

impl Object {
    /// Returns whether the object is a state in a controller. A cgroup has none if the controller is not enabled.
    pub(super) fn is_css(self) -> bool {
        matches!(self, Self::Css(_))
    }

    /// Returns the offset of the pointer to the object in `struct cgroup`.
    pub(super) fn in_cgroup(self, types: &Types) -> Option<u32> {
        match self {
            Self::Cgroup => Some(ITSELF),
            Self::Pressure => types.offset("cgroup", "psi"),
            Self::Css(controller) => Some(types.offset("cgroup", "subsys")? + 8 * number(controller, types)?),
        }
    }
}

/// Returns the index of the word of a `css_set` that points to the state in a controller.
pub(super) fn word_in_set(controller: Controller, types: &Types) -> Option<u32> {
    Some(types.offset("css_set", "subsys")? / 8 + number(controller, types)?)
}

/// Returns the running kernel's number of a controller.
fn number(controller: Controller, types: &Types) -> Option<u32> {
    let name = match controller {
        Controller::Cpu => "cpu_cgrp_id",
        Controller::Cpuacct => "cpuacct_cgrp_id",
        Controller::Memory => "memory_cgrp_id",
        Controller::Io => "io_cgrp_id",
        Controller::Pids => "pids_cgrp_id",
        Controller::Hugetlb | Controller::Core => return None,
    };
    u32::try_from(types.enumerator("cgroup_subsys_id", name)?).ok()
}

/// A member of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member {
    structure: &'static str,
    path: &'static str,
    /// The enumeration and the enumerator that is the index of an element, if the member is an array.
    element: Option<(&'static str, &'static str)>,
}

/// Returns a member by its structure and path.
const fn member(structure: &'static str, path: &'static str) -> Member {
    Member { structure, path, element: None }
}

impl Member {
    /// Returns an element of the member, which is an array.
    const fn at(self, enumeration: &'static str, value: &'static str) -> Self {
        Self { element: Some((enumeration, value)), ..self }
    }

    /// Returns the offset in the structure; none if this kernel does not have the member.
    fn offset(self, types: &Types) -> Option<u32> {
        let first = types.offset(self.structure, self.path)?;
        let Some((enumeration, value)) = self.element else { return Some(first) };
        Some(first + 8 * u32::try_from(types.enumerator(enumeration, value)?).ok()?)
    }
}

macro_rules! numbers {
    ($($(#[$about:meta])* $variant:ident $object:expr, $size:literal, $($member:expr)=>+;)*) => {
        /// A number of a cgroup.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Number { $($(#[$about])* $variant,)* }

        impl Number {
            /// Number of variants.
            pub(super) const COUNT: usize = [$(Self::$variant),*].len();

            /// Returns the object that the number is a member of.
            pub(super) const fn object(self) -> Object {
                match self { $(Self::$variant => $object,)* }
            }

            /// Returns the size of the number in bytes.
            pub(super) const fn size(self) -> u8 {
                match self { $(Self::$variant => $size,)* }
            }

            /// Returns the members that have been the number in kernels so far, the newest first.
            fn members(self) -> &'static [Member] {
                match self { $(Self::$variant => const { &[$($member),+] },)* }
            }
        }
    };
}

const fn bandwidth(path: &'static str) -> Member {
    member("task_group", path)
}

const fn memory(path: &'static str) -> Member {
    member("mem_cgroup", path)
}

const fn event(name: &'static str) -> Member {
    memory("memory_events").at("memcg_memory_event", name)
}

const fn pressure(name: &'static str) -> Member {
    member("psi_group", "total").at("psi_states", name)
}

numbers! {
    /// CPU time in nanoseconds (v2).
    Runtime Object::Cgroup, 8, member("cgroup", "bstat.cputime.sum_exec_runtime");
    /// User time in nanoseconds, as `cpu.stat` last showed it.
    ShownUser Object::Cgroup, 8, member("cgroup", "prev_cputime.utime");
    /// System time in nanoseconds, as `cpu.stat` last showed it.
    ShownSystem Object::Cgroup, 8, member("cgroup", "prev_cputime.stime");
    /// CFS periods.
    Periods CPU, 4, bandwidth("cfs_bandwidth.nr_periods");
    /// Throttled CFS periods.
    Throttled CPU, 4, bandwidth("cfs_bandwidth.nr_throttled");
    /// Time throttled, in nanoseconds.
    ThrottledTime CPU, 8, bandwidth("cfs_bandwidth.throttled_time");
    /// CFS periods with a burst.
    Bursts CPU, 4, bandwidth("cfs_bandwidth.nr_burst");
    /// Time over the quota, in nanoseconds.
    BurstTime CPU, 8, bandwidth("cfs_bandwidth.burst_time");
    /// Memory in pages.
    MemoryUsage MEMORY, 8, memory("memory.usage");
    /// Highest value of memory, in pages.
    MemoryPeak MEMORY, 8, memory("memory.watermark");
    /// Times that usage hit the limit (v1).
    MemoryFailures MEMORY, 8, memory("memory.failcnt");
    /// Swap in pages (v2).
    SwapUsage MEMORY, 8, memory("swap.usage");
    /// Kernel memory in pages (v1).
    KernelUsage MEMORY, 8, memory("kmem.usage");
    /// `memory.events` `low`.
    EventsLow MEMORY, 8, event("MEMCG_LOW");
    /// `memory.events` `high`.
    EventsHigh MEMORY, 8, event("MEMCG_HIGH");
    /// `memory.events` `max`.
    EventsMax MEMORY, 8, event("MEMCG_MAX");
    /// `memory.events` `oom`.
    EventsOom MEMORY, 8, event("MEMCG_OOM");
    /// `memory.events` `oom_kill`.
    EventsOomKill MEMORY, 8, event("MEMCG_OOM_KILL");
    /// `memory.events` `oom_group_kill`.
    EventsOomGroupKill MEMORY, 8, event("MEMCG_OOM_GROUP_KILL");
    /// `memory.oom_control` `oom_kill` (v1), of the cgroup without those below.
    OomKills MEMORY, 8, memory("memory_events_local").at("memcg_memory_event", "MEMCG_OOM_KILL");
    /// Tasks.
    Tasks PIDS, 8, member("pids_cgroup", "counter");
    /// `pids.events` `max` (v2). Since Linux 6.11 it includes the cgroups below.
    TasksRefused PIDS, 8,
        member("pids_cgroup", "events").at("pidcg_event", "PIDCG_MAX") => member("pids_cgroup", "events_limit");
    /// `pids.events` `max` (v1): failed forks of the cgroup's own tasks.
    ForksFailed PIDS, 8,
        member("pids_cgroup", "events_local").at("pidcg_event", "PIDCG_FORKFAIL") => member("pids_cgroup", "events_limit");
    /// Pointer to the first device that the cgroup has used; 0 if it has used none (v1).
    FirstDevice IO, 8, member("blkcg", "blkg_list");
    /// Whether pressure is counted. `cgroup.pressure` of a cgroup switches it off and removes the files (Linux 6.1).
    PressureOn Object::Pressure, 1, member("psi_group", "enabled");
    /// `some` of `io.pressure`, in nanoseconds.
    IoWaiting Object::Pressure, 8, pressure("PSI_IO_SOME");
    /// `full` of `io.pressure`, in nanoseconds.
    IoStalled Object::Pressure, 8, pressure("PSI_IO_FULL");
    /// `some` of `memory.pressure`, in nanoseconds.
    MemoryWaiting Object::Pressure, 8, pressure("PSI_MEM_SOME");
    /// `full` of `memory.pressure`, in nanoseconds.
    MemoryStalled Object::Pressure, 8, pressure("PSI_MEM_FULL");
    /// `some` of `cpu.pressure`, in nanoseconds.
    CpuWaiting Object::Pressure, 8, pressure("PSI_CPU_SOME");
    /// `full` of `cpu.pressure`, in nanoseconds.
    CpuStalled Object::Pressure, 8, pressure("PSI_CPU_FULL");
}

impl Number {
    /// Returns whether the number does not change while pressure is not counted.
    pub(crate) fn is_pressure(self) -> bool {
        self.object() == Object::Pressure && self != Self::PressureOn
    }

    /// Returns the offset of the number in its object; none if this kernel does not have it.
    pub(super) fn offset(self, types: &Types) -> Option<u32> {
        self.members().iter().find_map(|member| member.offset(types))
    }
}

/// A limit of a cgroup. A copy shows only that limits have changed. Their values are read from files.
struct LimitMember {
    object: Object,
    member: Member,
}

/// The limits that are watched.
const LIMITS: &[LimitMember] = &[
    LimitMember { object: CPU, member: bandwidth("cfs_bandwidth.quota") },
    LimitMember { object: CPU, member: bandwidth("cfs_bandwidth.period") },
    LimitMember { object: CPU, member: bandwidth("shares") },
    LimitMember { object: MEMORY, member: memory("memory.max") },
    LimitMember { object: MEMORY, member: memory("memory.high") },
    LimitMember { object: MEMORY, member: memory("memory.low") },
    LimitMember { object: MEMORY, member: memory("memory.min") },
    LimitMember { object: MEMORY, member: memory("soft_limit") },
    LimitMember { object: MEMORY, member: memory("swap.max") },
    LimitMember { object: PIDS, member: member("pids_cgroup", "limit") },
];

/// Returns the offsets of the limits in an object.
pub(super) fn limits(object: Object, types: &Types) -> impl Iterator<Item = u32> {
    LIMITS.iter().filter(move |limit| limit.object == object).filter_map(|limit| limit.member.offset(types))
}

/// Returns where the counters behind `memory.stat` are. Those that include the cgroups below come first in their
/// structure, before those of the cgroup alone, and those that are still to be added up.
pub(super) fn stats_plan(pointer: Pointer, types: &Types) -> Option<StatsPlan> {
    let ends = ["state_local", "state_pending"].into_iter().filter_map(|name| types.offset("memcg_vmstats", name));
    let bytes = ends.min()?.min(8 * u32::try_from(STATS).ok()?);
    Some(StatsPlan { pointer, vmstats: types.offset("mem_cgroup", "vmstats")?, bytes })
}

/// Returns where the CPU time of v1 is, for `count` CPUs, and the word `to` that it is copied to.
pub(super) fn cpus_plan(pointer: Pointer, types: &Types, count: usize, to: usize) -> Option<CpusPlan> {
    Some(CpusPlan {
        pointer,
        usage: types.offset("cpuacct", "cpuusage")?,
        count: u32::try_from(count).ok().filter(|_| (1..=CPUS).contains(&count))?,
        to: u32::try_from(to).ok()?,
    })
}

/// Returns where the block I/O of v2 is.
pub(super) fn devices_plan(pointer: Pointer, types: &Types) -> Option<DevicesPlan> {
    Some(DevicesPlan {
        pointer,
        list: types.offset("blkcg", "blkg_list")?,
        node: types.offset("blkcg_gq", "blkcg_node")?,
        online: types.offset("blkcg_gq", "online")?,
        counters: types.offset("blkcg_gq", "iostat.cur")?,
        queue: types.offset("blkcg_gq", "q")?,
        disk: types.offset("request_queue", "disk")?,
        major: types.offset("gendisk", "major")?,
        minor: types.offset("gendisk", "first_minor")?,
    })
}
