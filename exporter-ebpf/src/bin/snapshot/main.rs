//! Copies the counters of every cgroup below a given one into records that user space reads without a system call: all that a
//! scrape needs of all containers, in one run.
//!
//! The plan (`exporter_ebpf::snapshot`) says which counters to copy and where the kernel keeps them. The kernel holds its lock
//! on cgroups while an iterator runs, so that no cgroup appears or disappears; counters continue to change.

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

/// Number of cgroups visited since user space last wrote 0. Exceeds the number of records where these ran out.
#[map]
static SNAPSHOT_VISITED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The records. User space sizes these three maps to the same number of cgroups, or to one entry where a map is not used.
#[map]
static SNAPSHOT_RECORDS: Array<Record> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SNAPSHOT_DEVICES: Array<Devices> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Offset of each CPU's copy of a per-CPU variable from the address that all CPUs share, ended by [`LAST_CPU`]. See
/// `snapshot_cpus`.
#[map]
static SNAPSHOT_CPUS: Array<u64> = Array::with_max_entries(CPUS as u32, BPF_F_MMAPABLE);
/// A per-CPU variable to measure the offsets with.
#[map]
static SNAPSHOT_PROBE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// A copy of the `struct bpf_map` of `SNAPSHOT_PROBE`, which holds the address that all CPUs share.
#[map]
static SNAPSHOT_PROBE_MAP: Array<[u64; MAP_WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Runs for each cgroup, and at the end once more without one.
#[unsafe(link_section = "iter/cgroup")]
#[unsafe(no_mangle)]
extern "C" fn snapshot(context: *const Context) -> i32 {
    // SAFETY: the kernel's own objects, as the iterator's type says; the verifier checks each step.
    unsafe {
        let cgroup = (*context).cgroup;
        if cgroup.is_null() {
            return 0;
        }
        let Some(visited) = SNAPSHOT_VISITED.get_ptr_mut(0) else { return 0 };
        let index = *visited;
        *visited = index + 1;
        let Some(record) = SNAPSHOT_RECORDS.get_ptr_mut(index as u32) else { return 0 };
        let record = record.cast::<u64>();
        // The id takes two more loads and never changes: it is looked up only if the record held another cgroup before.
        let serial: u64 = kernel::load(cgroup, plan!(itself) + plan!(serial));
        if *record.add(ID + 1) != serial {
            *record.add(ID) = kernel::id(cgroup, plan!(id_offsets));
            *record.add(ID + 1) = serial;
        }
        // Built in place: a constructor would put it on the stack twice, which is small.
        let mut cgroups = Cgroups { primary: cgroup, set: MaybeUninit::uninit(), others: MaybeUninit::uninit() };
        cgroups.find_others(record);
        let mut has = copy_spans(&cgroups, record);
        if plan!(cpus.pointer.at) != NONE {
            has |= copy_cpus(&cgroups, record);
        }
        if plan!(stats.pointer.at) != NONE
            && let Some(stats) = SNAPSHOT_STATS.get_ptr_mut(index as u32)
        {
            has |= copy_stats(&cgroups, stats);
        }
        if plan!(devices.pointer.at) != NONE
            && let Some(devices) = SNAPSHOT_DEVICES.get_ptr_mut(index as u32)
        {
            has |= copy_devices(&cgroups, devices);
        }
        *record.add(HAS) = has;
    }
    0
}

/// Copies the words that the plan lists. Returns a bit for each object that the cgroup has.
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

/// Sums up `cpuacct.usage` of all CPUs.
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

/// Copies the counters behind `memory.stat`.
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

/// Measures where each CPU keeps its copies of per-CPU variables, which BTF does not say: of a variable of our own, both the
/// address that all CPUs share and each CPU's address can be read. Runs once, before the snapshots of v1's CPU time are
/// loaded.
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
        // SAFETY: a map and one of its keys.
        let address = unsafe { bpf_map_lookup_percpu_elem(map, (&raw const FIRST).cast(), cpu) };
        if address.is_null() {
            break;
        }
        if let Some(base) = SNAPSHOT_CPUS.get_ptr_mut(cpu) {
            // SAFETY: a map value.
            unsafe { *base = address as u64 };
        }
        cpu += 1;
    }
    0
}

static FIRST: u32 = 0;
