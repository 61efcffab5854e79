//! Copies the counters of every cgroup below one into records that user space reads without a system call: what a scrape
//! needs of all containers, in one run.
//!
//! Which counters, and where the kernel keeps them, says the plan (`exporter_ebpf::snapshot`). The kernel holds its
//! lock on cgroups while an iterator runs, so that none comes or goes meanwhile; counters go on.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ffi::c_void;
use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_map_lookup_percpu_elem, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use exporter_ebpf::kernel;
use exporter_ebpf::snapshot::{
    CPUS, CpusPlan, DEVICES, Devices, DevicesPlan, FIRST_NUMBER, HAS, HAS_CPUS, HAS_DEVICES, HAS_STATS, ID, ITSELF,
    LIMITS, LINE_WORDS, Line, MAP_WORDS, MEMBERS, NONE, NUMBERS, OBJECTS, Plan, STATS, Stats, StatsPlan,
};

/// Set by user space before loading.
#[unsafe(no_mangle)]
static SNAPSHOT_PLAN: Plan = Plan::NOTHING;

/// How many cgroups were met since user space last wrote 0 there: more than there are records where these ran out.
#[map]
static SNAPSHOT_MET: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The records, line by line. User space gives these three room for the same number of cgroups, or one entry where they are
/// not wanted.
#[map]
static SNAPSHOT_RECORDS: Array<Line> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_DEVICES: Array<Devices> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What a CPU's own copy of a variable is away from the address that all share; see `snapshot_cpus`.
#[map]
static SNAPSHOT_CPUS: Array<u64> = Array::with_max_entries(CPUS as u32, BPF_F_MMAPABLE);
/// A variable of which each CPU has its own.
#[map]
static SNAPSHOT_PROBE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// How the kernel describes that one, the address that all share included.
#[map]
static SNAPSHOT_PROBE_MAP: Array<[u64; MAP_WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `struct bpf_iter__cgroup`
#[repr(C)]
pub struct Context {
    meta: *const u8,
    cgroup: *const u8,
}

/// A member of the plan, which the verifier then knows.
macro_rules! plan {
    ($($member:tt)*) => {
        constant(addr_of!(SNAPSHOT_PLAN.$($member)*))
    };
}

#[inline(always)]
fn constant<T: Copy>(member: *const T) -> T {
    // SAFETY: read-only data of the object. Volatile, as user space replaces it.
    unsafe { member.read_volatile() }
}

/// `CSS_VISIBLE` of a controller's part of a cgroup: one that is not enabled here may be kept for another that needs it, as
/// memory is for block I/O, and has no files.
const VISIBLE: u32 = 1 << 3;

/// A controller's part of a cgroup; 0 where it is not enabled.
#[inline(always)]
unsafe fn part(cgroup: *const u8, pointer: u32) -> usize {
    // SAFETY: as the plan says; reads into a local variable, and a bad address gives an error and zeroes.
    unsafe {
        let part = kernel::load::<usize>(cgroup, pointer);
        let mut flags = 0_u32;
        if part != 0 {
            read(&raw mut flags, 4, part + plan!(flags) as usize);
        }
        if flags & VISIBLE == 0 { 0 } else { part }
    }
}

/// For each cgroup, and once more without one at the end.
#[unsafe(link_section = "iter/cgroup")]
#[unsafe(no_mangle)]
extern "C" fn snapshot(context: *const Context) -> i32 {
    // SAFETY: the kernel's own objects, as the iterator's type says; the verifier checks each step.
    unsafe {
        let cgroup = (*context).cgroup;
        if cgroup.is_null() {
            return 0;
        }
        let Some(met) = SNAPSHOT_MET.get_ptr_mut(0) else { return 0 };
        let place = *met;
        *met = place + 1;
        let record = Record { first: place as u32 * plan!(lines) };
        if SNAPSHOT_RECORDS.get_ptr_mut(record.first).is_none() {
            return 0;
        }
        let node: *const u8 = kernel::load(cgroup, plan!(kn));
        record.put(ID, kernel::load(node, plan!(kn_id)));
        let (used, mut has) = copy_members(cgroup, record);
        if plan!(cpus.pointer) != NONE {
            has |= copy_cpus(cgroup, record, used);
        }
        if plan!(stats.pointer) != NONE
            && let Some(stats) = SNAPSHOT_STATS.get_ptr_mut(place as u32)
        {
            has |= copy_stats(cgroup, stats);
        }
        if plan!(devices.pointer) != NONE
            && let Some(devices) = SNAPSHOT_DEVICES.get_ptr_mut(place as u32)
        {
            has |= copy_devices(cgroup, devices);
        }
        record.put(HAS, has);
    }
    0
}

/// Where a cgroup's record is.
#[derive(Clone, Copy)]
struct Record {
    first: u32,
}

impl Record {
    /// Writes a word of it.
    #[inline(always)]
    fn put(self, word: usize, value: u64) {
        if let Some(line) = SNAPSHOT_RECORDS.get_ptr_mut(self.first + (word / LINE_WORDS) as u32) {
            // SAFETY: a map value, and a place in it.
            unsafe { *line.cast::<u64>().add(word % LINE_WORDS) = value };
        }
    }
}

/// The members of the plan. Gives the number of those that were copied, and which objects there are.
#[inline(always)]
unsafe fn copy_members(cgroup: *const u8, record: Record) -> (usize, u64) {
    let (mut objects, mut limits) = (0, 0_u64);
    let (mut member, mut number) = (0, 0);
    let mut which = 0;
    while which < OBJECTS {
        let pointer = plan!(objects[which].pointer);
        let end = member + plan!(objects[which].members) as usize;
        if pointer != NONE {
            // SAFETY: as the plan says; a pointer is checked before it is followed.
            let object = match plan!(objects[which].is_part) {
                _ if pointer == ITSELF => cgroup as usize,
                0 => unsafe { kernel::load::<usize>(cgroup, pointer) },
                _ => unsafe { part(cgroup, pointer) },
            };
            if object != 0 {
                objects |= 1 << which;
            }
            while member < end && member < MEMBERS {
                let mut value = 0_u64;
                let from = object + plan!(members[member].offset) as usize;
                if object != 0 {
                    // SAFETY: reads into a local variable; a bad address gives an error and zeroes.
                    unsafe { read(&raw mut value, plan!(members[member].size) as u32, from) };
                }
                if plan!(members[member].is_limit) != 0 {
                    limits = limits.rotate_left(7) ^ value;
                } else if number < NUMBERS {
                    record.put(FIRST_NUMBER + number, value);
                    number += 1;
                }
                member += 1;
            }
        }
        which += 1;
    }
    record.put(LIMITS, limits);
    (number, objects)
}

/// `cpuacct.usage` and what `cpuacct.stat` is made of: each CPU has its own.
#[inline(always)]
unsafe fn copy_cpus(cgroup: *const u8, record: Record, first: usize) -> u64 {
    let CpusPlan { pointer, usage, stat, count } = plan!(cpus);
    // SAFETY: as the plan says; reads into local variables, and a bad address gives an error and zeroes.
    unsafe {
        let object = part(cgroup, pointer);
        if object == 0 || first > NUMBERS - 3 {
            return 0;
        }
        let (mut usages, mut stats) = (0_usize, 0_usize);
        read(&raw mut usages, 8, object + usage as usize);
        read(&raw mut stats, 8, object + stat as usize);
        let mut sums = [0_u64; 3];
        let mut cpu = 0;
        while cpu < count && cpu < CPUS as u32 {
            let Some(base) = SNAPSHOT_CPUS.get_ptr(cpu) else { break };
            let base = *base as usize;
            let mut ran = 0_u64;
            // User, nice, system, softirq, irq (`enum cpu_usage_stat`).
            let mut times = [0_u64; 5];
            read(&raw mut ran, 8, usages.wrapping_add(base));
            read(&raw mut times, 40, stats.wrapping_add(base));
            sums[0] += ran;
            sums[1] += times[0] + times[1];
            sums[2] += times[2] + times[3] + times[4];
            cpu += 1;
        }
        record.put(FIRST_NUMBER + first, sums[0]);
        record.put(FIRST_NUMBER + first + 1, sums[1]);
        record.put(FIRST_NUMBER + first + 2, sums[2]);
        HAS_CPUS
    }
}

/// The counters behind `memory.stat`.
#[inline(always)]
unsafe fn copy_stats(cgroup: *const u8, stats: *mut Stats) -> u64 {
    let StatsPlan { pointer, vmstats, bytes } = plan!(stats);
    // SAFETY: as the plan says; reads no more than the map value takes.
    unsafe {
        let object = part(cgroup, pointer);
        if object == 0 || bytes > (STATS * 8) as u32 {
            return 0;
        }
        let mut from = 0_usize;
        read(&raw mut from, 8, object + vmstats as usize);
        read(stats, bytes, from);
        HAS_STATS
    }
}

/// Block I/O of v2: the list of the devices that the cgroup has used.
#[inline(always)]
unsafe fn copy_devices(cgroup: *const u8, devices: *mut Devices) -> u64 {
    let plan: DevicesPlan = plan!(devices);
    // SAFETY: as the plan says; reads no more than the places they go to, and a bad address gives an error and zeroes.
    unsafe {
        let object = part(cgroup, plan.pointer);
        if object == 0 {
            return 0;
        }
        let mut node = 0_usize;
        read(&raw mut node, 8, object + plan.list as usize);
        let (mut used, mut seen) = (0_usize, 0);
        // A group of a device that is going away is not shown.
        while node != 0 && used < DEVICES && seen < 2 * DEVICES {
            seen += 1;
            let group = node - plan.node as usize;
            let mut online = 0_u8;
            read(&raw mut online, 1, group + plan.online as usize);
            if online != 0 {
                let device = &raw mut (*devices).devices[used];
                (*device).number = number(&plan, group);
                read(&raw mut (*device).bytes, 48, group + plan.counters as usize);
                used += 1;
            }
            read(&raw mut node, 8, node);
        }
        // Where there are more, more than fit says so.
        (*devices).used = if node == 0 { used as u64 } else { DEVICES as u64 + 1 };
        HAS_DEVICES
    }
}

/// The device that the I/O of a group goes to; 0 where it has none any more.
#[inline(always)]
unsafe fn number(plan: &DevicesPlan, group: usize) -> u64 {
    let (mut queue, mut disk, mut major, mut minor) = (0_usize, 0_usize, 0_u32, 0_u32);
    // SAFETY: reads into local variables; a bad address gives an error and zeroes.
    unsafe {
        read(&raw mut queue, 8, group + plan.queue as usize);
        read(&raw mut disk, 8, queue + plan.disk as usize);
        read(&raw mut major, 4, disk + plan.major as usize);
        read(&raw mut minor, 4, disk + plan.minor as usize);
    }
    u64::from(major) << 32 | u64::from(minor)
}

/// Copies from an address that may be bad.
///
/// # Safety
/// `to` takes `size` bytes.
#[inline(always)]
unsafe fn read<T>(to: *mut T, size: u32, from: usize) {
    // SAFETY: as the caller promises; the verifier checks it, too.
    unsafe { bpf_probe_read_kernel(to.cast::<c_void>(), size, from as *const c_void) };
}

/// Tells where each CPU's copies of variables are, which no kernel's types say: by a variable of our own, of which both the
/// address that all share and each CPU's are to be had. Run once, before the snapshots of v1's CPU time are loaded.
#[unsafe(link_section = "iter/cgroup")]
#[unsafe(no_mangle)]
extern "C" fn snapshot_cpus(_: *const Context) -> i32 {
    let map = (&raw const SNAPSHOT_PROBE).cast_mut().cast::<c_void>();
    if let Some(description) = SNAPSHOT_PROBE_MAP.get_ptr_mut(0) {
        // SAFETY: a map value of this size, and an address that may be bad.
        unsafe { bpf_probe_read_kernel(description.cast(), (MAP_WORDS * 8) as u32, map) };
    }
    let mut cpu = 0;
    while cpu < CPUS as u32 {
        // SAFETY: a map, and a key of its.
        let place = unsafe { bpf_map_lookup_percpu_elem(map, (&raw const FIRST).cast(), cpu) };
        if place.is_null() {
            break;
        }
        if let Some(told) = SNAPSHOT_CPUS.get_ptr_mut(cpu) {
            // SAFETY: a map value.
            unsafe { *told = place as u64 };
        }
        cpu += 1;
    }
    0
}

static FIRST: u32 = 0;
