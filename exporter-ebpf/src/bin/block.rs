//! Counts the block I/O of every cgroup at the completion of each request: bytes, operations and latency, by device and
//! operation.
//!
//! The owner is the cgroup that the request's data blocks are charged to: who did direct I/O, who read a page in, and on
//! cgroup v2 also who made a page dirty that is written back later. A request has one owner: since Linux 5.13 the kernel
//! merges nothing across cgroups.
//!
//! A request that completes in parts is one operation, at its last part. A flush is counted when the request that asked
//! for it ends; the kernel's own request to the device, which may serve many of them, has no owner.
//!
//! Where a count goes: to the entry's slot; where both slots of its set belong to others, to a hash map; where that is
//! full, nowhere, and this is counted.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::BtfTracePointContext;
use exporter_ebpf::block::{Counters, FREE, Key, Layout, Offsets, Operation, Slot, Subject, TAKEN, WAYS};
use exporter_ebpf::kernel;
use exporter_ebpf::latency::{BUCKETS, Histogram, Scale};

/// Shape of `BLOCK_SLOTS`, set by user space before loading. The verifier sees constants.
#[unsafe(no_mangle)]
static BLOCK_LAYOUT: Layout = Layout { set_bits: 1, shard_mask: 0 };
/// Set by user space before loading.
#[unsafe(no_mangle)]
static BLOCK_OFFSETS: Offsets = Offsets {
    request_queue: 0,
    request_flags: 0,
    request_length: 0,
    request_bio: 0,
    request_made: 0,
    request_started: 0,
    queue_disk: 0,
    disk_major: 0,
    disk_minor: 0,
    bio_group: 0,
    group_blkcg: 0,
    blkcg_cgroup: 0,
    cgroup_kn: 0,
    kn_id: 0,
};

/// The table of slots; user space sizes it to `BLOCK_LAYOUT` and maps it into its memory.
#[map]
static BLOCK_SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// What found no slot.
#[map]
static BLOCK_OVERFLOW: HashMap<Key, Counters> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Completions that found the map full, too.
#[map]
static BLOCK_REFUSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Numbers of `enum req_op`, the same since Linux 4.10.
const WRITE: u32 = 1;
const DISCARD: u32 = 3;
/// From here on (`REQ_OP_DRV_IN`) drivers talk to their devices.
const FIRST_OF_DRIVERS: u32 = 32;
const OPERATION_MASK: u32 = 0xff;

const NOTHING: Counters = Counters { bytes: 0, latency: Histogram { sum_ns: 0, buckets: [0; BUCKETS] } };

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`
#[btf_tracepoint(function = "block_rq_complete")]
fn block_complete(context: BtfTracePointContext) -> i32 {
    let request: *const u8 = context.arg(0);
    let bytes: u32 = context.arg(2);
    // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
    let offsets = unsafe { addr_of!(BLOCK_OFFSETS).read_volatile() };
    // SAFETY: the kernel's own object, as the tracepoint's type says; the verifier checks each step.
    let (flags, length) = unsafe {
        (kernel::load::<u32>(request, offsets.request_flags), kernel::load::<u32>(request, offsets.request_length))
    };
    let Some(operation) = operation(flags & OPERATION_MASK, bytes) else { return 0 };
    // SAFETY: as above.
    let cgroup = unsafe { owner(request, &offsets) };
    if cgroup == FREE {
        return 0;
    }
    // SAFETY: as above.
    let subject = unsafe {
        let queue: *const u8 = kernel::load(request, offsets.request_queue);
        let disk: *const u8 = kernel::load(queue, offsets.queue_disk);
        Subject::new(kernel::load(disk, offsets.disk_major), kernel::load(disk, offsets.disk_minor), operation)
    };
    let key = Key { cgroup, subject };
    // What is left of the request comes with its next completion, and is no operation of its own.
    let latency = if bytes < length { None } else { Some(unsafe { age(request, &offsets) }) };
    match slot(key) {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => add(unsafe { &raw mut (*slot).counters }, bytes, latency),
        None => overflow(&key, bytes, latency),
    }
    0
}

/// What is counted of it, if anything. A write without data is the end of a flush.
#[inline(always)]
fn operation(number: u32, bytes: u32) -> Option<Operation> {
    match number {
        WRITE if bytes == 0 => Some(Operation::Flush),
        FIRST_OF_DRIVERS.. => None,
        _ if bytes == 0 => None,
        DISCARD => Some(Operation::Discard),
        // The lowest bit is the direction.
        number if number & 1 == 1 => Some(Operation::Write),
        _ => Some(Operation::Read),
    }
}

/// Id of the cgroup that the first of the request's data blocks are charged to; 0 without one. A null pointer on the way
/// reads as null.
///
/// # Safety
/// `request` is the kernel's.
#[inline(always)]
unsafe fn owner(request: *const u8, offsets: &Offsets) -> u64 {
    // SAFETY: as the caller promises; the verifier checks each step.
    unsafe {
        let bio: *const u8 = kernel::load(request, offsets.request_bio);
        let group: *const u8 = kernel::load(bio, offsets.bio_group);
        let blkcg: *const u8 = kernel::load(group, offsets.group_blkcg);
        let cgroup: *const u8 = kernel::load(blkcg, offsets.blkcg_cgroup);
        let node: *const u8 = kernel::load(cgroup, offsets.cgroup_kn);
        kernel::load(node, offsets.kn_id)
    }
}

/// Nanoseconds since the device got the request; since it was made, where it never got it (a flush of nothing).
///
/// # Safety
/// `request` is the kernel's.
#[inline(always)]
unsafe fn age(request: *const u8, offsets: &Offsets) -> u64 {
    // SAFETY: as the caller promises; the verifier checks each step.
    let (started, made): (u64, u64) =
        unsafe { (kernel::load(request, offsets.request_started), kernel::load(request, offsets.request_made)) };
    let from = if started == 0 { made } else { started };
    // SAFETY: has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // The kernel takes no times on queues that keep no statistics.
    if from == 0 || now < from { 0 } else { now - from }
}

/// The slot of an entry; a free one becomes its own.
#[inline(always)]
fn slot(key: Key) -> Option<*mut Slot> {
    // SAFETY: read-only data of the object, and a helper without conditions.
    let (layout, cpu) = unsafe { (addr_of!(BLOCK_LAYOUT).read_volatile(), bpf_get_smp_processor_id()) };
    let set = layout.set(cpu, key);
    let mut way = 0;
    while way < WAYS {
        if let Some(slot) = BLOCK_SLOTS.get_ptr_mut(set + way)
            && is_mine(slot, key)
        {
            return Some(slot);
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn is_mine(slot: *mut Slot, key: Key) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    let (owner, subject) = unsafe { (&raw mut (*slot).owner, &raw mut (*slot).subject) };
    match unsafe { owner.read_volatile() } {
        // A subject that another CPU has not yet got to see is 0, which is nobody's.
        known if known == key.cgroup => unsafe { subject.read_volatile() == key.subject },
        // SAFETY: part of a map value, aligned. The exchanges order the write between them.
        FREE => unsafe {
            if kernel::exchange_if(owner, FREE, TAKEN) != FREE {
                return false;
            }
            subject.write_volatile(key.subject);
            kernel::exchange_if(owner, TAKEN, key.cgroup);
            true
        },
        _ => false,
    }
}

#[inline(never)]
fn overflow(key: &Key, bytes: u32, latency: Option<u64>) {
    // Two CPUs may meet the entry at once: one of them makes it, both find it.
    if BLOCK_OVERFLOW.get_ptr_mut(key).is_none() {
        _ = BLOCK_OVERFLOW.insert(key, &NOTHING, u64::from(BPF_NOEXIST));
    }
    match BLOCK_OVERFLOW.get_ptr_mut(key) {
        Some(counters) => add(counters, bytes, latency),
        None => {
            if let Some(refused) = BLOCK_REFUSED.get_ptr_mut(0) {
                // SAFETY: a map value.
                unsafe { kernel::add(refused, 1) };
            }
        }
    }
}

#[inline(always)]
fn add(counters: *mut Counters, bytes: u32, latency: Option<u64>) {
    // SAFETY: parts of a map value, aligned; the bucket is one of the histogram's.
    unsafe {
        kernel::add(&raw mut (*counters).bytes, u64::from(bytes));
        if let Some(latency) = latency {
            kernel::add(&raw mut (*counters).latency.sum_ns, latency);
            let buckets = (&raw mut (*counters).latency.buckets).cast::<u64>();
            kernel::add(buckets.add(Scale::DISK.bucket(latency)), 1);
        }
    }
}
