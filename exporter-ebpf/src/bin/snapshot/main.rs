//! Copies the counters of every cgroup below one into records that user space reads without a system call: what a scrape
//! needs of all containers, in one run.
//!
//! Which counters, and where the kernel keeps them, says the plan (`exporter_ebpf::snapshot`). The kernel holds its
//! lock on cgroups while an iterator runs, so that none comes or goes meanwhile; counters go on.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

mod cgroups;
mod devices;
mod plan;

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_map_lookup_percpu_elem, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use exporter_ebpf::kernel;
use exporter_ebpf::snapshot::{
    CPUS, Context, Devices, HAS, HAS_CPUS, HAS_STATS, ID, LAST_CPU, LIMITS, MAP_WORDS, NONE, OBJECTS, Record,
    SPAN_WORDS, SPANS, STATS, Stats, WORDS,
};

use cgroups::Cgroups;
use devices::copy_devices;
use plan::{plan, pointer};

/// How many cgroups were met since user space last wrote 0 there: more than there are records where these ran out.
#[map]
static SNAPSHOT_MET: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The records. User space gives these three room for the same number of cgroups, or one entry where they are not wanted.
#[map]
static SNAPSHOT_RECORDS: Array<Record> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_DEVICES: Array<Devices> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What a CPU's own copy of a variable is away from the address that all share, of each CPU that counts, then
/// [`LAST_CPU`]; see `snapshot_cpus`.
#[map]
static SNAPSHOT_CPUS: Array<u64> = Array::with_max_entries(CPUS as u32, BPF_F_MMAPABLE);
/// A variable of which each CPU has its own.
#[map]
static SNAPSHOT_PROBE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// How the kernel describes that one, the address that all share included.
#[map]
static SNAPSHOT_PROBE_MAP: Array<[u64; MAP_WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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
        let Some(record) = SNAPSHOT_RECORDS.get_ptr_mut(place as u32) else { return 0 };
        let record = record.cast::<u64>();
        // Its id is far away, and does not change: it is looked up where another cgroup was the last time.
        let serial: u64 = kernel::load(cgroup, plan!(itself) + plan!(serial));
        if *record.add(ID + 1) != serial {
            *record.add(ID) = kernel::id(cgroup, plan!(way));
            *record.add(ID + 1) = serial;
        }
        // Made in place: as a value that is handed on, it would be on the stack twice, which is small.
        let mut cgroups = Cgroups { walked: cgroup, set: MaybeUninit::uninit(), others: MaybeUninit::uninit() };
        cgroups.find_others(record);
        let mut has = copy_spans(&cgroups, record);
        if plan!(cpus.pointer.at) != NONE {
            has |= copy_cpus(&cgroups, record);
        }
        if plan!(stats.pointer.at) != NONE
            && let Some(stats) = SNAPSHOT_STATS.get_ptr_mut(place as u32)
        {
            has |= copy_stats(&cgroups, stats);
        }
        if plan!(devices.pointer.at) != NONE
            && let Some(devices) = SNAPSHOT_DEVICES.get_ptr_mut(place as u32)
        {
            has |= copy_devices(&cgroups, devices);
        }
        *record.add(HAS) = has;
    }
    0
}

/// The words of the plan. Gives which objects there are.
#[inline(always)]
unsafe fn copy_spans(cgroups: &Cgroups, record: *mut u64) -> u64 {
    let (mut objects, mut limits) = (0, 0_u64);
    let mut span = 0;
    let mut which = 0;
    while which < OBJECTS {
        let pointer = pointer!(objects[which]);
        let end = span + plan!(objects[which].spans) as usize;
        if pointer.at != NONE {
            // SAFETY: as the plan says.
            let object = unsafe { cgroups.object(pointer) };
            if object != 0 {
                objects |= 1 << which;
            }
            while span < end && span < SPANS {
                let from = object + plan!(spans[span].offset) as usize;
                let words = plan!(spans[span].words) as usize;
                let to = plan!(spans[span].to) as usize;
                if object != 0 && words <= SPAN_WORDS {
                    // SAFETY: reads into a local variable or the record; a bad address gives an error and zeroes.
                    unsafe {
                        if to == 0 {
                            let mut values = MaybeUninit::<[u64; SPAN_WORDS]>::uninit();
                            read(values.as_mut_ptr(), 8 * words as u32, from);
                            let mut word = 0;
                            while word < words {
                                limits = limits.rotate_left(7) ^ values.as_ptr().cast::<u64>().add(word).read();
                                word += 1;
                            }
                        } else if to + words <= WORDS {
                            read(record.add(to), 8 * words as u32, from);
                        }
                    }
                }
                span += 1;
            }
        }
        which += 1;
    }
    // SAFETY: a word of the record.
    unsafe { *record.add(LIMITS) = limits };
    objects
}

/// `cpuacct.usage`: each CPU has its own.
#[inline(always)]
unsafe fn copy_cpus(cgroups: &Cgroups, record: *mut u64) -> u64 {
    let (count, to) = (plan!(cpus.count), plan!(cpus.to) as usize);
    // SAFETY: as the plan says; reads into local variables, and a bad address gives an error and zeroes.
    unsafe {
        let object = cgroups.object(pointer!(cpus));
        if object == 0 || to >= WORDS {
            return 0;
        }
        let mut usages = 0_usize;
        read(&raw mut usages, 8, object + plan!(cpus.usage) as usize);
        let mut sum = 0_u64;
        let mut cpu = 0;
        while cpu < count && cpu < CPUS as u32 {
            let Some(base) = SNAPSHOT_CPUS.get_ptr(cpu) else { break };
            if *base == LAST_CPU {
                break;
            }
            let mut ran = 0_u64;
            read(&raw mut ran, 8, usages.wrapping_add(*base as usize));
            sum += ran;
            cpu += 1;
        }
        *record.add(to) = sum;
        HAS_CPUS
    }
}

/// The counters behind `memory.stat`.
#[inline(always)]
unsafe fn copy_stats(cgroups: &Cgroups, stats: *mut Stats) -> u64 {
    let bytes = plan!(stats.bytes);
    // SAFETY: as the plan says; reads no more than the map value takes.
    unsafe {
        let object = cgroups.object(pointer!(stats));
        if object == 0 || bytes > (STATS * 8) as u32 {
            return 0;
        }
        let mut from = 0_usize;
        read(&raw mut from, 8, object + plan!(stats.vmstats) as usize);
        read(stats, bytes, from);
        HAS_STATS
    }
}

/// Copies from an address that may be bad.
///
/// # Safety
/// `to` takes `size` bytes.
#[inline(always)]
pub(crate) unsafe fn read<T>(to: *mut T, size: u32, from: usize) {
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
