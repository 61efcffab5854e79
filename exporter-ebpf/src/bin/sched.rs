//! Measures how long the tasks of every cgroup wait for a CPU. At each context switch the kernel still knows since when the
//! next task has been runnable, so that one hook is enough and no map of start times is needed.
//!
//! `/proc/PID/schedstat` sums up the same time. A latency goes to the CPU's own slot of the cgroup. Where other cgroups hold
//! both slots of the set, it goes to a hash map that all CPUs share; where that is full, it is counted as refused.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::BtfTracePointContext;
use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::kernel;
use exporter_ebpf::latency::{BUCKETS, Histogram, Scale};
use exporter_ebpf::owners::{Ancestors, OWNERS};
use exporter_ebpf::sched::{Offsets, Slot};
use exporter_ebpf::slots::{COUNTS, CPUS, CpuShards, FREE, Layout};

/// Shape of `SCHED_SLOTS`, set by user space before loading. The verifier sees constants.
#[unsafe(no_mangle)]
static SCHED_LAYOUT: Layout = Layout { shards: 1, set_bits: 1 };
/// The shard of each CPU, set by user space before loading.
#[unsafe(no_mangle)]
static SCHED_SHARDS: CpuShards = [0; CPUS];
/// Set by user space before loading.
#[unsafe(no_mangle)]
static SCHED_OFFSETS: Offsets = Offsets {
    task_queued: 0,
    task_queue: 0,
    queue_rq: 0,
    rq_clock: 0,
    task_cgroups: 0,
    set_cgroup: 0,
    id_offsets: CgroupIdOffsets::UNSET,
};

/// The table of slots; user space sizes it to `SCHED_LAYOUT` and maps it into its memory.
#[map]
static SCHED_SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Entries that found no slot, by cgroup.
#[map]
static SCHED_OVERFLOW: HashMap<u64, Histogram> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Switches that found the overflow map full, too, and entries made in it.
#[map]
static SCHED_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// Containers and the cgroups that hold them, written by user space.
#[map]
static SCHED_OWNERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Number of entries charged to each payer.
#[map]
static SCHED_CHARGES: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Owners of the nested cgroups that have entries.
#[map]
static SCHED_MEMBERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Set by user space before loading.
#[unsafe(no_mangle)]
static SCHED_ANCESTORS: Ancestors = Ancestors::UNSET;

const ZERO: Histogram = Histogram { sum_ns: 0, buckets: [0; BUCKETS] };

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`
#[btf_tracepoint(function = "sched_switch")]
fn sched_latency(context: BtfTracePointContext) -> i32 {
    let next: *const u8 = context.arg(2);
    // SAFETY: the kernel's own objects, as the tracepoint's type says; the verifier checks each step.
    let (cgroup, id, latency) = unsafe {
        let offsets = addr_of!(SCHED_OFFSETS).read_volatile();
        let queued: u64 = kernel::load(next, offsets.task_queued);
        // The idle task never waits.
        if queued == 0 {
            return 0;
        }
        let queue: *const u8 = kernel::load(next, offsets.task_queue);
        let rq: *const u8 = kernel::load(queue, offsets.queue_rq);
        let now: u64 = kernel::load(rq, offsets.rq_clock);
        let set: *const u8 = kernel::load(next, offsets.task_cgroups);
        let cgroup: *const u8 = kernel::load(set, offsets.set_cgroup);
        (cgroup, kernel::id(cgroup, offsets.id_offsets), now.wrapping_sub(queued))
    };
    // The clocks of CPUs differ a little, so that a task which has just moved may appear to run before it was queued.
    let latency = if latency > i64::MAX as u64 { 0 } else { latency };
    // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
    let layout = unsafe { addr_of!(SCHED_LAYOUT).read_volatile() };
    let shard = kernel::shard(addr_of!(SCHED_SHARDS));
    match kernel::slot(&SCHED_SLOTS, layout.set(shard, id), |slot| is_held(slot, id)) {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => add(unsafe { &raw mut (*slot).latency }, latency),
        None => count_without_slot(cgroup, id, shard, latency),
    }
    0
}

/// Counts for a cgroup that has no slot, or none yet.
#[inline(never)]
fn count_without_slot(cgroup: *const u8, id: u64, shard: u32, latency: u64) {
    let mut name = id;
    if SCHED_OVERFLOW.get_ptr(&id).is_none() {
        // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
        let (layout, at, id_offsets) = unsafe {
            let (kn, kn_id) = (
                (&raw const SCHED_OFFSETS.id_offsets.kn).read_volatile(),
                (&raw const SCHED_OFFSETS.id_offsets.kn_id).read_volatile(),
            );
            (
                addr_of!(SCHED_LAYOUT).read_volatile(),
                addr_of!(SCHED_ANCESTORS).read_volatile(),
                CgroupIdOffsets { kn, kn_id },
            )
        };
        let owners = kernel::Owners {
            owners: &SCHED_OWNERS,
            charges: &SCHED_CHARGES,
            members: &SCHED_MEMBERS,
            shards: layout.shards,
            has_many: false,
        };
        // SAFETY: the kernel's own object, and its offsets.
        name = owners.admit(id, owners.search(|level| unsafe { kernel::ancestor(cgroup, level, at, id_offsets) }));
        if name == 0 {
            kernel::refuse(&SCHED_COUNTS);
            return;
        }
        if let Some(slot) = kernel::slot(&SCHED_SLOTS, layout.set(shard, name), |slot| is_mine(slot, name)) {
            // SAFETY: a map value, valid while the program runs.
            add(unsafe { &raw mut (*slot).latency }, latency);
            return;
        }
    }
    if let Some(histogram) = kernel::entry(&SCHED_OVERFLOW, &name, &ZERO, &SCHED_COUNTS) {
        // SAFETY: a map value.
        unsafe { kernel::observe(histogram, Scale::RUN_QUEUE, latency) };
    }
}

/// Returns whether this cgroup holds the slot.
#[inline(always)]
fn is_held(slot: *mut Slot, cgroup: u64) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as user space changes it.
    unsafe { (&raw mut (*slot).state).read_volatile() == cgroup }
}

/// Returns whether this cgroup holds the slot; takes it where it is free.
#[inline(always)]
fn is_mine(slot: *mut Slot, cgroup: u64) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as user space changes it.
    let state = unsafe { &raw mut (*slot).state };
    match unsafe { state.read_volatile() } {
        known if known == cgroup => true,
        FREE => {
            // SAFETY: as above; only this CPU takes slots of its shard.
            unsafe { state.write_volatile(cgroup) };
            true
        }
        _ => false,
    }
}

/// Adds to a slot of this CPU.
#[inline(always)]
fn add(histogram: *mut Histogram, latency: u64) {
    // SAFETY: parts of a map value, aligned; the bucket is one of the histogram's. Volatile, as user space reads them.
    unsafe {
        let sum = &raw mut (*histogram).sum_ns;
        sum.write_volatile(sum.read_volatile() + latency);
        let bucket = (&raw mut (*histogram).buckets).cast::<u64>().add(Scale::RUN_QUEUE.bucket(latency));
        bucket.write_volatile(bucket.read_volatile() + 1);
    }
}
