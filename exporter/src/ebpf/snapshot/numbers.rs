//! The counters that are copied: each once, by the names of the kernel's structures.
//!
//! Offsets come from the running kernel's types. A member that this kernel does not have makes a number absent, and the
//! file that shows it is read instead.

use exporter_ebpf::snapshot::ITSELF;

use crate::ebpf::btf::Types;
use crate::metrics::Controller;

/// An object that a cgroup points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Object {
    /// The cgroup itself.
    Cgroup,
    /// Its pressure.
    Pressure,
    /// Its state of a controller (`cgroup_subsys_state`).
    Css(Controller),
}

const CPU: Object = Object::Css(Controller::Cpu);
const MEMORY: Object = Object::Css(Controller::Memory);
const PIDS: Object = Object::Css(Controller::Pids);
const IO: Object = Object::Css(Controller::Io);

impl Object {
    /// Returns whether it is a controller's, which may not be enabled in a cgroup.
    pub(super) fn is_css(self) -> bool {
        matches!(self, Self::Css(_))
    }

    /// Offset of the pointer to it in `struct cgroup`.
    pub(super) fn in_cgroup(self, types: &Types) -> Option<u32> {
        match self {
            Self::Cgroup => Some(ITSELF),
            Self::Pressure => types.offset("cgroup", "psi"),
            Self::Css(controller) => Some(types.offset("cgroup", "subsys")? + 8 * number(controller, types)?),
        }
    }
}

/// Index of the word of a `css_set` that points to the state of a controller.
pub(super) fn in_set(controller: Controller, types: &Types) -> Option<u32> {
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
    /// Of an array the element, by an enumerator of the kernel.
    element: Option<(&'static str, &'static str)>,
}

const fn member(structure: &'static str, path: &'static str) -> Member {
    Member { structure, path, element: None }
}

impl Member {
    const fn at(self, enumeration: &'static str, value: &'static str) -> Self {
        Self { element: Some((enumeration, value)), ..self }
    }

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
            /// How many there are.
            pub(super) const COUNT: usize = [$(Self::$variant),*].len();

            /// Returns the object that it is a member of.
            pub(super) const fn object(self) -> Object {
                match self { $(Self::$variant => $object,)* }
            }

            /// Returns its size in bytes.
            pub(super) const fn size(self) -> u8 {
                match self { $(Self::$variant => $size,)* }
            }

            /// Returns the names that kernels have had for it, the newest first.
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
    /// CPU time in nanoseconds (v2), exact.
    Runtime Object::Cgroup, 8, member("cgroup", "bstat.cputime.sum_exec_runtime");
    /// User time as the file last showed it.
    ShownUser Object::Cgroup, 8, member("cgroup", "prev_cputime.utime");
    /// System time as the file last showed it.
    ShownSystem Object::Cgroup, 8, member("cgroup", "prev_cputime.stime");
    /// CFS periods.
    Periods CPU, 4, bandwidth("cfs_bandwidth.nr_periods");
    /// Throttled ones.
    Throttled CPU, 4, bandwidth("cfs_bandwidth.nr_throttled");
    /// Time throttled, in nanoseconds.
    ThrottledTime CPU, 8, bandwidth("cfs_bandwidth.throttled_time");
    /// Periods with a burst.
    Bursts CPU, 4, bandwidth("cfs_bandwidth.nr_burst");
    /// Time over the quota, in nanoseconds.
    BurstTime CPU, 8, bandwidth("cfs_bandwidth.burst_time");
    /// Memory in pages.
    MemoryUsage MEMORY, 8, memory("memory.usage");
    /// Its highest value, in pages.
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
    /// `memory.oom_control` `oom_kill` (v1): of the cgroup alone.
    OomKills MEMORY, 8, memory("memory_events_local").at("memcg_memory_event", "MEMCG_OOM_KILL");
    /// Tasks.
    Tasks PIDS, 8, member("pids_cgroup", "counter");
    /// `pids.events` `max` (v2): since Linux 6.11 with those of the cgroups below.
    TasksRefused PIDS, 8,
        member("pids_cgroup", "events").at("pidcg_event", "PIDCG_MAX") => member("pids_cgroup", "events_limit");
    /// `pids.events` `max` (v1): forks of the cgroup's own tasks.
    ForksFailed PIDS, 8,
        member("pids_cgroup", "events_local").at("pidcg_event", "PIDCG_FORKFAIL") => member("pids_cgroup", "events_limit");
    /// The first of the devices that it has used: 0 where it has used none (v1).
    FirstDevice IO, 8, member("blkcg", "blkg_list");
    /// Whether pressure is accounted: a cgroup's `cgroup.pressure` switches it off, and its files away (Linux 6.1).
    PressureOn Object::Pressure, 1, member("psi_group", "enabled");
    /// Pressure, in nanoseconds.
    IoWaiting Object::Pressure, 8, pressure("PSI_IO_SOME");
    /// Pressure, in nanoseconds.
    IoStalled Object::Pressure, 8, pressure("PSI_IO_FULL");
    /// Pressure, in nanoseconds.
    MemoryWaiting Object::Pressure, 8, pressure("PSI_MEM_SOME");
    /// Pressure, in nanoseconds.
    MemoryStalled Object::Pressure, 8, pressure("PSI_MEM_FULL");
    /// Pressure, in nanoseconds.
    CpuWaiting Object::Pressure, 8, pressure("PSI_CPU_SOME");
    /// Pressure, in nanoseconds.
    CpuStalled Object::Pressure, 8, pressure("PSI_CPU_FULL");
}

impl Number {
    /// Returns whether it stands still while pressure is not accounted.
    pub(crate) fn is_pressure(self) -> bool {
        self.object() == Object::Pressure && self != Self::PressureOn
    }

    /// Returns its offset in its object; none where this kernel does not have it.
    pub(super) fn offset(self, types: &Types) -> Option<u32> {
        self.members().iter().find_map(|member| member.offset(types))
    }
}

/// A limit of a cgroup. A copy shows that it has changed; its value comes from its file.
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

/// Offsets of the limits of an object.
pub(super) fn limits(object: Object, types: &Types) -> impl Iterator<Item = u32> {
    LIMITS.iter().filter(move |limit| limit.object == object).filter_map(|limit| limit.member.offset(types))
}
