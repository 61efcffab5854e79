//! What all programs share on the kernel's side: atomic operations, reading of kernel memory, finding of slots and
//! entries, the licence.
//!
//! The compiler offers no atomic read-modify-write for this machine, though it has had the instructions since Linux 5.12;
//! so they stand here as assembly.

use core::arch::asm;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::maps::{Array, HashMap};

use crate::cgroup::Way;
use crate::latency::{Histogram, Scale};
use crate::slots::{CPUS, ELSEWHERE, MADE, Parts, REFUSED, WAYS};

/// Adds to a map value that others may be adding to.
///
/// # Safety
/// `counter` is an aligned `u64` of a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, by: u64) {
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by) }
}

/// Puts `new` where `old` is, and tells what was there.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn exchange_if(place: *mut u64, old: u64, new: u64) -> u64 {
    let seen;
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe {
        asm!("r0 = cmpxchg_64({place} + 0, r0, {new})", place = in(reg) place, new = in(reg) new, inout("r0") old => seen);
    }
    seen
}

/// Loads a member of one of the kernel's objects.
///
/// # Safety
/// `object` is one that the verifier knows the type of, and a `T` is at `offset` in it.
#[inline(always)]
pub unsafe fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: as the caller promises. Volatile, so that it stays one load of this size.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

/// The id of a cgroup.
///
/// # Safety
/// `cgroup` is one that the verifier knows the type of, and `way` is that of the running kernel.
#[inline(always)]
pub unsafe fn id(cgroup: *const u8, way: Way) -> u64 {
    // SAFETY: as the caller promises.
    unsafe {
        let node: *const u8 = load(cgroup, way.kn);
        load(node, way.kn_id)
    }
}

/// The part of a table that this CPU counts in.
#[inline(always)]
pub fn part(parts: *const Parts) -> u32 {
    // SAFETY: a helper without conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if cpu >= CPUS as u32 {
        return ELSEWHERE.into();
    }
    // SAFETY: read-only data of the object, which has this many. Volatile, as user space has changed it since it was compiled.
    u32::from(unsafe { parts.cast::<u16>().add(cpu as usize).read_volatile() })
}

/// The first slot of a set that `is_mine` accepts.
#[inline(always)]
pub fn slot<S>(table: &Array<S>, set: u32, is_mine: impl Fn(*mut S) -> bool) -> Option<*mut S> {
    let mut way = 0;
    while way < WAYS {
        if let Some(slot) = table.get_ptr_mut(set + way)
            && is_mine(slot)
        {
            return Some(slot);
        }
        way += 1;
    }
    None
}

/// The entry of a map that all CPUs share; a new one begins as `nothing`. None where the map is full. Both are counted.
#[inline(always)]
pub fn entry<K, V>(map: &HashMap<K, V>, key: &K, nothing: &V, counts: &Array<u64>) -> Option<*mut V> {
    let count = |which| {
        if let Some(counter) = counts.get_ptr_mut(which) {
            // SAFETY: a map value.
            unsafe { add(counter, 1) };
        }
    };
    // Two CPUs may meet it at once: one of them makes it, both find it.
    if map.get_ptr_mut(key).is_none() && map.insert(key, nothing, u64::from(BPF_NOEXIST)).is_ok() {
        count(MADE);
    }
    let found = map.get_ptr_mut(key);
    if found.is_none() {
        count(REFUSED);
    }
    found
}

/// Adds a latency to a histogram that others may be adding to.
///
/// # Safety
/// The histogram is aligned, and part of a map value.
#[inline(always)]
pub unsafe fn observe(histogram: *mut Histogram, scale: Scale, latency_ns: u64) {
    let bucket = scale.bucket(latency_ns);
    // SAFETY: as the caller promises; the bucket is one of the histogram's.
    unsafe {
        add(&raw mut (*histogram).sum_ns, latency_ns);
        add((&raw mut (*histogram).buckets).cast::<u64>().add(bucket), 1);
    }
}

/// The kernel lends some of its functions to programs under the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
