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

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::BtfTracePointContext;
use exporter_ebpf::block::{Counters, Key, Offsets, Operation, Slot, Subject};
use exporter_ebpf::cgroup::Way;
use exporter_ebpf::kernel;
use exporter_ebpf::latency::{BUCKETS, Histogram, Scale};
use exporter_ebpf::owners::{Ancestors, OWNERS};
use exporter_ebpf::slots::{COUNTS, FREE, Layout, TAKEN, joined};

/// Shape of `BLOCK_SLOTS`, set by user space before loading; a power of two parts. The verifier sees constants.
#[unsafe(no_mangle)]
static BLOCK_LAYOUT: Layout = Layout { parts: 1, set_bits: 1 };
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
    way: Way::UNSET,
};

/// The table of slots; user space sizes it to `BLOCK_LAYOUT` and maps it into its memory.
#[map]
static BLOCK_SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// What found no slot.
#[map]
static BLOCK_OVERFLOW: HashMap<Key, Counters> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Completions that found the map full, too, and entries of it that were made.
#[map]
static BLOCK_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// Containers and the cgroups that they are in, told by user space.
#[map]
static BLOCK_OWNERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Entries by who pays for them.
#[map]
static BLOCK_PAID: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Owners of nested cgroups that have entries.
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

/// The latency of a request of which a part is still to come. A number and no [`Option`]: half of that would be undefined,
/// which the verifier does not let pass to another function.
const UNFINISHED: u64 = u64::MAX;
/// The latency of a request of which the kernel keeps no statistics.
const UNTIMED: u64 = u64::MAX - 1;

/// A cgroup has entries for each device and operation: as many are a container's as of so many parts of other tables.
const PARTS: u32 = 16;

const NOTHING: Counters = Counters { bytes: 0, latency: Histogram { sum_ns: 0, buckets: [0; BUCKETS] }, untimed: 0 };

/// Where the running kernel has a member. Asked for where it is used: all at once are more than there are registers.
/// Volatile, as user space has changed this read-only data since it was compiled.
macro_rules! offset {
    ($($member:tt)+) => {
        (&raw const BLOCK_OFFSETS.$($member)+).read_volatile()
    };
}

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`
///
/// After tens of microseconds of waiting for a disk, little of what leads from a request to its cgroup is in the cache any
/// more, and little of this program: the price is that of memory. Hence the order. The way to the cgroup, where each load
/// needs the one before, comes first, and all else is done beside it; the clock comes last, as reading it waits for every
/// load before it.
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
    let subject = unsafe {
        let queue: *const u8 = kernel::load(request, offset!(request_queue));
        let disk: *const u8 = kernel::load(queue, offset!(queue_disk));
        Subject::new(kernel::load(disk, offset!(disk_major)), kernel::load(disk, offset!(disk_minor)), operation)
    };
    if serial == FREE {
        return 0;
    }
    // SAFETY: read-only data of the object, and a helper without conditions.
    let (layout, cpu) = unsafe { (addr_of!(BLOCK_LAYOUT).read_volatile(), bpf_get_smp_processor_id()) };
    let set = layout.set(cpu & (layout.parts - 1), joined(serial, subject.0));
    let found = kernel::slot(&BLOCK_SLOTS, set, |slot| is_held(slot, serial, subject));
    // What is left of the request comes with its next completion, and is no operation of its own.
    // SAFETY: as above.
    let latency = if bytes < length { UNFINISHED } else { unsafe { age(request) } };
    match found {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => add(unsafe { &raw mut (*slot).counters }, bytes, latency),
        None => without_slot(blkcg, subject, bytes, latency),
    }
    0
}

/// Counts for a cgroup that has no slot for this, or none yet.
#[inline(never)]
fn without_slot(blkcg: *const u8, subject: Subject, bytes: u32, latency: u64) {
    // SAFETY: the kernel's own object and its offsets, and read-only data of the object.
    let (cgroup, id, way, layout, at) = unsafe {
        let cgroup: *const u8 = kernel::load(blkcg, offset!(blkcg_cgroup));
        let way = Way { kn: offset!(way.kn), kn_id: offset!(way.kn_id) };
        (
            cgroup,
            kernel::id(cgroup, way),
            way,
            addr_of!(BLOCK_LAYOUT).read_volatile(),
            addr_of!(BLOCK_ANCESTORS).read_volatile(),
        )
    };
    let mut key = Key { cgroup: id, subject };
    if BLOCK_OVERFLOW.get_ptr(&key).is_none() {
        let owners = kernel::Owners {
            owners: &BLOCK_OWNERS,
            paid: &BLOCK_PAID,
            members: &BLOCK_MEMBERS,
            parts: PARTS,
            has_many: true,
        };
        // SAFETY: the kernel's own object, and its offsets.
        let search = owners.search(|level| unsafe { kernel::ancestor(cgroup, level, at, way) });
        key.cgroup = owners.admit(id, search);
        if key.cgroup == 0 {
            kernel::refuse(&BLOCK_COUNTS);
            return;
        }
        // What counts for its owner has no serial number of that here: it goes to the overflow map.
        if key.cgroup != id {
            if BLOCK_OVERFLOW.get_ptr(&key).is_none() && !owners.pay_own(key.cgroup, search.payer) {
                kernel::refuse(&BLOCK_COUNTS);
                return;
            }
        } else {
            // SAFETY: the kernel's own object, and a helper without conditions.
            let (serial, cpu): (u64, u32) =
                unsafe { (kernel::load(blkcg, offset!(blkcg_serial)), bpf_get_smp_processor_id()) };
            let set = layout.set(cpu & (layout.parts - 1), joined(serial, subject.0));
            if let Some(slot) = kernel::slot(&BLOCK_SLOTS, set, |slot| is_mine(slot, serial, subject, blkcg)) {
                // SAFETY: a map value, valid while the program runs.
                add(unsafe { &raw mut (*slot).counters }, bytes, latency);
                return;
            }
        }
    }
    if let Some(counters) = kernel::entry(&BLOCK_OVERFLOW, &key, &NOTHING, &BLOCK_COUNTS) {
        add(counters, bytes, latency);
    }
}

/// Whether the slot counts this.
#[inline(always)]
fn is_held(slot: *mut Slot, serial: u64, subject: Subject) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    unsafe {
        (&raw mut (*slot).state).read_volatile() == serial && (&raw mut (*slot).subject).read_volatile() == subject
    }
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

/// The part in the block controller of the cgroup that the first of the request's data blocks are charged to; null
/// without one. A null pointer on the way reads as null.
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

/// The id of its cgroup.
///
/// # Safety
/// `blkcg` is the kernel's.
#[inline(always)]
unsafe fn cgroup(blkcg: *const u8) -> u64 {
    // SAFETY: as the caller promises; the verifier checks each step.
    unsafe {
        let cgroup: *const u8 = kernel::load(blkcg, offset!(blkcg_cgroup));
        kernel::id(cgroup, offset!(way))
    }
}

/// Nanoseconds since the device got the request; since it was made, where it never got it (a flush of nothing). Without
/// statistics one of the two times may be there all the same, as for an I/O scheduler: whoever switched them off wants none.
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

/// Whether the slot counts this; a free one does from now on.
#[inline(always)]
fn is_mine(slot: *mut Slot, serial: u64, subject: Subject, blkcg: *const u8) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    let (state, of) = unsafe { ((&raw mut (*slot).state).read_volatile(), (&raw mut (*slot).subject).read_volatile()) };
    // A subject that another CPU has not yet got to see is 0, which is nobody's.
    if state == serial { of == subject } else { state == FREE && claim(slot, serial, subject, blkcg) }
}

/// Takes a free slot, once for each: apart, so that the way that is always gone is short.
#[inline(never)]
fn claim(slot: *mut Slot, serial: u64, subject: Subject, blkcg: *const u8) -> bool {
    // SAFETY: parts of a map value, aligned, and the kernel's own object. The exchanges order the writes between them.
    unsafe {
        let state = &raw mut (*slot).state;
        if kernel::exchange_if(state, FREE, TAKEN) != FREE {
            return false;
        }
        (&raw mut (*slot).subject).write_volatile(subject);
        (&raw mut (*slot).cgroup).write_volatile(cgroup(blkcg));
        kernel::exchange_if(state, TAKEN, serial);
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
