//! Counts the block I/O of every cgroup at the completion of each request: bytes, operations and latency, by device and
//! operation.
//!
//! A request counts for the cgroup that its data blocks are charged to: the one that did direct I/O, the one that read a page
//! in, and on cgroup v2 also the one that dirtied a page which is written back later. There is one such cgroup: since Linux
//! 5.13 the kernel merges no requests across cgroups.
//!
//! A request that completes in parts counts as one operation, at its last part. A flush counts when the request that asked
//! for it ends; the kernel's own request to the device, which may serve many flushes, belongs to no cgroup.
//!
//! A count goes to the slot of its key. Where other keys hold both slots of the set, it goes to a hash map; where that is
//! full, the event is counted as refused.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::BtfTracePointContext;
use exporter_ebpf::block::{Counters, DeviceOp, Key, Offsets, Operation, Slot};
use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::kernel;
use exporter_ebpf::latency::{BUCKETS, Histogram, Scale};
use exporter_ebpf::owners::{Ancestors, OWNERS};
use exporter_ebpf::slots::{COUNTS, FREE, Layout, TAKEN, hash_combine};

/// Shape of `BLOCK_SLOTS`, with a power of two of shards. User space sets it before loading; the verifier sees constants.
#[unsafe(no_mangle)]
static BLOCK_LAYOUT: Layout = Layout { shards: 1, set_bits: 1 };
/// Set by user space before loading.
#[unsafe(no_mangle)]
static BLOCK_OFFSETS: Offsets = Offsets {
    request_queue: 0,
    request_flags: 0,
    request_state: 0,
    request_timed: 0,
    request_length: 0,
    request_bio: 0,
    request_made: 0,
    request_started: 0,
    queue_disk: 0,
    disk_major: 0,
    disk_minor: 0,
    bio_group: 0,
    group_blkcg: 0,
    blkcg_serial: 0,
    blkcg_cgroup: 0,
    id_offsets: CgroupIdOffsets::UNSET,
};

/// The table of slots; user space sizes it to `BLOCK_LAYOUT` and maps it into its memory.
#[map]
static BLOCK_SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Entries that found no slot.
#[map]
static BLOCK_OVERFLOW: HashMap<Key, Counters> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Completions that found the overflow map full, too, and entries made in it.
#[map]
static BLOCK_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// Containers and the cgroups that hold them, written by user space.
#[map]
static BLOCK_OWNERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Number of entries charged to each payer.
#[map]
static BLOCK_CHARGES: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Owners of the nested cgroups that have entries.
#[map]
static BLOCK_MEMBERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Set by user space before loading.
#[unsafe(no_mangle)]
static BLOCK_ANCESTORS: Ancestors = Ancestors::UNSET;

/// Numbers of `enum req_op`, the same since Linux 4.10.
const WRITE: u32 = 1;
const DISCARD: u32 = 3;
/// From here on (`REQ_OP_DRV_IN`) drivers talk to their devices.
const FIRST_OF_DRIVERS: u32 = 32;
const OPERATION_MASK: u32 = 0xff;

/// Latency of a request that is not complete yet. A number instead of an [`Option`], because half of an empty option is
/// uninitialised, which the verifier does not let pass to another function.
const UNFINISHED: u64 = u64::MAX;
/// Latency of a request that the kernel keeps no statistics of.
const UNTIMED: u64 = u64::MAX - 1;

/// Factor of the quota: a cgroup has an entry for each device and operation. Other tables pass their number of shards.
const QUOTA_SHARDS: u32 = 16;

const ZERO: Counters = Counters { bytes: 0, latency: Histogram { sum_ns: 0, buckets: [0; BUCKETS] }, untimed: 0 };

/// Loads the offset of a member where it is used: all of them together need more registers than there are. Volatile, because
/// user space changes this read-only data after compilation.
macro_rules! offset {
    ($($member:tt)+) => {
        (&raw const BLOCK_OFFSETS.$($member)+).read_volatile()
    };
}

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`
///
/// After tens of microseconds of waiting for a disk, most of the data that leads from a request to its cgroup has left the
/// cache, and so has most of this program: memory access is what it costs. Hence the order: the loads that lead to the
/// cgroup come first, because each needs the one before, and other loads overlap with them. The clock comes last, because
/// reading it waits for every load before it.
#[btf_tracepoint(function = "block_rq_complete")]
fn block_complete(context: BtfTracePointContext) -> i32 {
    let request: *const u8 = context.arg(0);
    let bytes: u32 = context.arg(2);
    // SAFETY: the kernel's own objects, as the tracepoint's type says; the verifier checks each step.
    let (blkcg, serial, flags, length) = unsafe {
        let blkcg = blkcg(request);
        let serial: u64 = kernel::load(blkcg, offset!(blkcg_serial));
        let (flags, length): (u32, u32) =
            (kernel::load(request, offset!(request_flags)), kernel::load(request, offset!(request_length)));
        (blkcg, serial, flags, length)
    };
    let Some(operation) = operation(flags & OPERATION_MASK, bytes) else { return 0 };
    // SAFETY: as above.
    let device_op = unsafe {
        let queue: *const u8 = kernel::load(request, offset!(request_queue));
        let disk: *const u8 = kernel::load(queue, offset!(queue_disk));
        DeviceOp::new(kernel::load(disk, offset!(disk_major)), kernel::load(disk, offset!(disk_minor)), operation)
    };
    if serial == FREE {
        return 0;
    }
    // SAFETY: read-only data of the object, and a helper without conditions.
    let (layout, cpu) = unsafe { (addr_of!(BLOCK_LAYOUT).read_volatile(), bpf_get_smp_processor_id()) };
    let set = layout.set(cpu & (layout.shards - 1), hash_combine(serial, device_op.0));
    let slot = kernel::slot(&BLOCK_SLOTS, set, |slot| is_held(slot, serial, device_op));
    // The rest of the request follows with its next completion, and is not an operation of its own.
    // SAFETY: as above.
    let latency = if bytes < length { UNFINISHED } else { unsafe { age(request) } };
    match slot {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => add(unsafe { &raw mut (*slot).counters }, bytes, latency),
        None => count_without_slot(blkcg, device_op, bytes, latency),
    }
    0
}

/// Counts for a cgroup that has no slot for this device and operation, or none yet.
#[inline(never)]
fn count_without_slot(blkcg: *const u8, device_op: DeviceOp, bytes: u32, latency: u64) {
    // SAFETY: the kernel's own object and its offsets, and read-only data of the object.
    let (cgroup, id, id_offsets, layout, at) = unsafe {
        let cgroup: *const u8 = kernel::load(blkcg, offset!(blkcg_cgroup));
        let id_offsets = CgroupIdOffsets { kn: offset!(id_offsets.kn), kn_id: offset!(id_offsets.kn_id) };
        (
            cgroup,
            kernel::id(cgroup, id_offsets),
            id_offsets,
            addr_of!(BLOCK_LAYOUT).read_volatile(),
            addr_of!(BLOCK_ANCESTORS).read_volatile(),
        )
    };
    let mut key = Key { cgroup: id, device_op };
    if BLOCK_OVERFLOW.get_ptr(&key).is_none() {
        let owners = kernel::Owners {
            owners: &BLOCK_OWNERS,
            charges: &BLOCK_CHARGES,
            members: &BLOCK_MEMBERS,
            shards: QUOTA_SHARDS,
            has_many: true,
        };
        // SAFETY: the kernel's own object, and its offsets.
        let search = owners.search(|level| unsafe { kernel::ancestor(cgroup, level, at, id_offsets) });
        key.cgroup = owners.admit(id, search);
        if key.cgroup == 0 {
            kernel::refuse(&BLOCK_COUNTS);
            return;
        }
        // The owner's serial number is not at hand here, so its entry goes to the overflow map.
        if key.cgroup != id {
            if BLOCK_OVERFLOW.get_ptr(&key).is_none() && !owners.charge_own(key.cgroup, search.payer) {
                kernel::refuse(&BLOCK_COUNTS);
                return;
            }
        } else {
            // SAFETY: the kernel's own object, and a helper without conditions.
            let (serial, cpu): (u64, u32) =
                unsafe { (kernel::load(blkcg, offset!(blkcg_serial)), bpf_get_smp_processor_id()) };
            let set = layout.set(cpu & (layout.shards - 1), hash_combine(serial, device_op.0));
            if let Some(slot) = kernel::slot(&BLOCK_SLOTS, set, |slot| is_mine(slot, serial, device_op, blkcg)) {
                // SAFETY: a map value, valid while the program runs.
                add(unsafe { &raw mut (*slot).counters }, bytes, latency);
                return;
            }
        }
    }
    if let Some(counters) = kernel::entry(&BLOCK_OVERFLOW, &key, &ZERO, &BLOCK_COUNTS) {
        add(counters, bytes, latency);
    }
}

/// Returns whether this cgroup, device and operation hold the slot.
#[inline(always)]
fn is_held(slot: *mut Slot, serial: u64, device_op: DeviceOp) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    unsafe {
        (&raw mut (*slot).state).read_volatile() == serial && (&raw mut (*slot).device_op).read_volatile() == device_op
    }
}

/// Returns the kind of operation that a request counts as, if any. A write without data is the end of a flush.
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

/// Returns the `blkcg` of the cgroup that the request's first data block is charged to, null without one. A null pointer in
/// between reads as null.
///
/// # Safety
/// `request` is the kernel's.
#[inline(always)]
unsafe fn blkcg(request: *const u8) -> *const u8 {
    // SAFETY: as the caller promises; the verifier checks each step.
    unsafe {
        let bio: *const u8 = kernel::load(request, offset!(request_bio));
        let group: *const u8 = kernel::load(bio, offset!(bio_group));
        kernel::load(group, offset!(group_blkcg))
    }
}

/// Returns the id of the cgroup of a `blkcg`.
///
/// # Safety
/// `blkcg` is the kernel's.
#[inline(always)]
unsafe fn cgroup(blkcg: *const u8) -> u64 {
    // SAFETY: as the caller promises; the verifier checks each step.
    unsafe {
        let cgroup: *const u8 = kernel::load(blkcg, offset!(blkcg_cgroup));
        kernel::id(cgroup, offset!(id_offsets))
    }
}

/// Returns the nanoseconds since the device got the request, or since the request was made where the device never got it (an
/// empty flush). Where statistics are switched off, an I/O scheduler may still set one of the two times: it is ignored.
///
/// # Safety
/// `request` is the kernel's.
#[inline(always)]
unsafe fn age(request: *const u8) -> u64 {
    // SAFETY: as the caller promises; the verifier checks each step.
    if unsafe { kernel::load::<u32>(request, offset!(request_state)) & offset!(request_timed) } == 0 {
        return UNTIMED;
    }
    // SAFETY: as above.
    let (started, made): (u64, u64) =
        unsafe { (kernel::load(request, offset!(request_started)), kernel::load(request, offset!(request_made))) };
    let from = if started == 0 { made } else { started };
    // SAFETY: has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if from == 0 {
        return UNTIMED;
    }
    if now < from { 0 } else { now - from }
}

/// Returns whether this cgroup, device and operation hold the slot; takes it where it is free.
#[inline(always)]
fn is_mine(slot: *mut Slot, serial: u64, device_op: DeviceOp, blkcg: *const u8) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    let (state, holder) =
        unsafe { ((&raw mut (*slot).state).read_volatile(), (&raw mut (*slot).device_op).read_volatile()) };
    // While another CPU fills the slot in, this may read 0, which is no device and operation.
    if state == serial { holder == device_op } else { state == FREE && claim(slot, serial, device_op, blkcg) }
}

/// Takes a free slot. Not inlined, because this is rare and the common path stays short.
#[inline(never)]
fn claim(slot: *mut Slot, serial: u64, device_op: DeviceOp, blkcg: *const u8) -> bool {
    // SAFETY: parts of a map value, aligned, and the kernel's own object. The exchanges order the writes between them.
    unsafe {
        let state = &raw mut (*slot).state;
        if kernel::compare_exchange(state, FREE, TAKEN) != FREE {
            return false;
        }
        (&raw mut (*slot).device_op).write_volatile(device_op);
        (&raw mut (*slot).cgroup).write_volatile(cgroup(blkcg));
        kernel::compare_exchange(state, TAKEN, serial);
    }
    true
}

#[inline(always)]
fn add(counters: *mut Counters, bytes: u32, latency: u64) {
    // SAFETY: parts of a map value, aligned.
    unsafe {
        kernel::add(&raw mut (*counters).bytes, u64::from(bytes));
        match latency {
            UNFINISHED => {}
            UNTIMED => kernel::add(&raw mut (*counters).untimed, 1),
            latency => kernel::observe(&raw mut (*counters).latency, Scale::DISK, latency),
        }
    }
}
