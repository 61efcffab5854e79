//! From the numbers that are wanted of a tree to the plan that its program follows: offsets from the running kernel's types.

use exporter_ebpf::snapshot::{
    CPUS, CpusPlan, DevicesPlan, FIRST_NUMBER, LINE_WORDS, Member, NONE, NUMBERS, Object as KernelObject, Plan, STATS,
    StatsPlan,
};

use super::numbers::{LIMITS, Number, Object};
use crate::ebpf::btf::Types;
use crate::ebpf::facts::Obstacle;

/// What is wanted of the cgroups of one tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Numbers.
    pub(crate) numbers: Vec<Number>,
    /// The counters behind `memory.stat`.
    pub(crate) stats: bool,
    /// CPU time of v1.
    pub(crate) cpus: bool,
    /// Block I/O of v2.
    pub(crate) devices: bool,
    /// Files of a parent whose reading has the kernel add up what is below it.
    pub(crate) flushes: Vec<&'static str>,
}

/// What the program of one tree copies, and where it puts it.
#[derive(Clone, Debug)]
pub(super) struct TreePlan {
    pub(super) kernel: Plan,
    pub(super) flushes: Vec<&'static str>,
    /// Where each CPU has its own copies of variables; empty where that is not wanted.
    pub(super) cpus: Vec<u64>,
    /// Of each number the bit of its object and its place in the record; none where it is not there.
    places: [Option<(u8, u8)>; Number::COUNT],
    numbers: usize,
    stats: usize,
}

impl TreePlan {
    /// Looks up what is wanted. Numbers that this kernel does not have are left out.
    ///
    /// # Errors
    /// The kernel's types do not tell the way to a cgroup's id.
    pub(super) fn new(wanted: &Wanted, types: &Types, cpus: &[u64]) -> Result<Self, Obstacle> {
        let missing = || {
            Obstacle::new(
                "this kernel's types do not tell where a cgroup's id is",
                "please report it with the kernel's version",
            )
        };
        let way = |structure, path| types.offset(structure, path).ok_or_else(missing);
        let mut plan = Self {
            kernel: Plan {
                flags: way("cgroup_subsys_state", "flags")?,
                kn: way("cgroup", "kn")?,
                kn_id: way("kernfs_node", "id")?,
                ..Plan::NOTHING
            },
            flushes: wanted.flushes.clone(),
            cpus: Vec::new(),
            places: [None; Number::COUNT],
            numbers: 0,
            stats: 0,
        };
        plan.add_numbers(wanted, types);
        if wanted.stats
            && let Some((stats, words)) = stats_plan(types)
        {
            (plan.kernel.stats, plan.stats) = (stats, words);
        }
        if wanted.devices
            && let Some(devices) = devices_plan(types)
        {
            plan.kernel.devices = devices;
        }
        if wanted.cpus
            && plan.numbers + 3 <= NUMBERS
            && let Some(told) = cpus_plan(types, cpus.len())
        {
            plan.kernel.cpus = told;
            plan.cpus = cpus.to_vec();
        }
        let numbers = plan.numbers + if plan.cpus.is_empty() { 0 } else { 3 };
        plan.kernel.lines = u32::try_from((FIRST_NUMBER + numbers).div_ceil(LINE_WORDS)).unwrap_or(1);
        Ok(plan)
    }

    fn add_numbers(&mut self, wanted: &Wanted, types: &Types) {
        let mut objects: Vec<Object> = Vec::new();
        for number in &wanted.numbers {
            if !objects.contains(&number.object()) {
                objects.push(number.object());
            }
        }
        let mut next = 0;
        for (bit, (object, place)) in objects.into_iter().zip(&mut self.kernel.objects).enumerate() {
            let Some(pointer) = object.pointer(types) else { continue };
            let mut members = 0;
            let mut add = |member: Member| {
                let Some(room) = self.kernel.members.get_mut(next) else { return false };
                *room = member;
                (next, members) = (next + 1, members + 1);
                true
            };
            for number in wanted.numbers.iter().filter(|number| number.object() == object) {
                let Some(offset) = number.offset(types).filter(|_| self.numbers < NUMBERS) else { continue };
                if add(Member { offset, size: number.size(), is_limit: 0 })
                    && let Some(room) = self.places.get_mut(*number as usize)
                {
                    *room = u8::try_from(bit).ok().zip(u8::try_from(self.numbers).ok());
                    self.numbers += 1;
                }
            }
            for limit in LIMITS.iter().filter(|limit| limit.object == object) {
                if let Some(offset) = limit.offset(types) {
                    add(Member { offset, size: 8, is_limit: 1 });
                }
            }
            *place = KernelObject { pointer, members, is_part: u16::from(object.is_part()) };
        }
    }

    /// Object and place of a number.
    pub(super) fn place(&self, number: Number) -> Option<(u8, usize)> {
        self.places.get(number as usize).copied().flatten().map(|(object, place)| (object, usize::from(place)))
    }

    /// Words of a record.
    pub(super) fn record_words(&self) -> usize {
        LINE_WORDS * self.kernel.lines as usize
    }

    /// Place of the first of the numbers of all CPUs.
    pub(super) fn cpus_place(&self) -> Option<usize> {
        (self.kernel.cpus.pointer != NONE).then_some(self.numbers)
    }

    pub(super) fn has_stats(&self) -> bool {
        self.kernel.stats.pointer != NONE
    }

    pub(super) fn has_devices(&self) -> bool {
        self.kernel.devices.pointer != NONE
    }

    /// Number of counters behind `memory.stat`.
    pub(super) fn stats(&self) -> usize {
        self.stats
    }
}

/// The counters that count what is below, too: all of the structure before those of the cgroup alone and what is still to
/// be added up.
fn stats_plan(types: &Types) -> Option<(StatsPlan, usize)> {
    let ends = ["state_local", "state_pending"].into_iter().filter_map(|name| types.offset("memcg_vmstats", name));
    let bytes = ends.min()?.min(8 * u32::try_from(STATS).ok()?);
    let plan = StatsPlan {
        pointer: Object::Controller("memory_cgrp_id").pointer(types)?,
        vmstats: types.offset("mem_cgroup", "vmstats")?,
        bytes,
    };
    Some((plan, usize::try_from(bytes / 8).ok()?))
}

fn cpus_plan(types: &Types, count: usize) -> Option<CpusPlan> {
    Some(CpusPlan {
        pointer: Object::Controller("cpuacct_cgrp_id").pointer(types)?,
        usage: types.offset("cpuacct", "cpuusage")?,
        stat: types.offset("cpuacct", "cpustat")?,
        count: u32::try_from(count).ok().filter(|_| (1..=CPUS).contains(&count))?,
    })
}

fn devices_plan(types: &Types) -> Option<DevicesPlan> {
    Some(DevicesPlan {
        pointer: Object::Controller("io_cgrp_id").pointer(types)?,
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
