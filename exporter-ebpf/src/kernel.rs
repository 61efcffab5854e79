//! What all programs share on the kernel's side: atomic operations, reading of kernel memory, finding of slots and
//! entries, the licence.
//!
//! The compiler offers no atomic read-modify-write for this machine, though it has had the instructions since Linux 5.12;
//! so they stand here as assembly.

use core::arch::asm;
use core::mem::size_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_kernel};
use aya_ebpf::maps::{Array, HashMap};

use crate::cgroup::Way;
use crate::latency::{Histogram, Scale};
use crate::owners::{Ancestors, LEVELS, STRANGERS, Search, bound, own_bound};
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

/// The maps by which a table is shared out among containers.
pub struct Owners<'a> {
    /// By cgroup: see [`crate::owners`].
    pub owners: &'a HashMap<u64, u64>,
    /// Entries by payer.
    pub paid: &'a HashMap<u64, u64>,
    /// The owner of each nested cgroup that has entries, for user space.
    pub members: &'a HashMap<u64, u64>,
    /// Parts of the table.
    pub parts: u32,
    /// Whether a container's own cgroup may have any number of entries, as for each device that it makes.
    pub has_many: bool,
}

impl Owners<'_> {
    /// Goes through a cgroup's ancestors; `ancestor` gives the id of that at a level, 0 where it has none there.
    #[inline(always)]
    pub fn search(&self, ancestor: impl Fn(u32) -> u64) -> Search {
        let mut search = Search::BEGIN;
        let mut level = 1;
        while level <= LEVELS {
            let id = ancestor(level);
            if id == 0 {
                break;
            }
            // SAFETY: a map value, valid while the program runs.
            let told = self.owners.get_ptr(&id).map_or(0, |told| unsafe { told.read_volatile() });
            search.step(id, told);
            level += 1;
        }
        search
    }

    /// Charges an entry of a container's own cgroup, unless it has so many.
    #[inline(always)]
    pub fn pay_own(&self, container: u64, payer: u64) -> bool {
        match payer {
            STRANGERS => self.pay(STRANGERS, bound(STRANGERS, self.parts)),
            payer => self.pay(container, own_bound(container, payer, self.parts)),
        }
    }

    /// Charges an entry to an account, unless that has so many. User space makes the account with the entry of the container.
    #[inline(always)]
    fn pay(&self, account: u64, bound: u64) -> bool {
        let Some(paid) = self.paid.get_ptr_mut(&account) else { return true };
        // SAFETY: a map value, valid while the program runs.
        unsafe {
            let is_in_bound = paid.read_volatile() < bound;
            if is_in_bound {
                add(paid, 1);
            }
            is_in_bound
        }
    }

    /// The cgroup in whose name a new entry for `leaf` is made, paid for: itself, or its owner. 0 where there is no room.
    #[inline(always)]
    pub fn admit(&self, leaf: u64, search: Search) -> u64 {
        let Search { owner, payer, .. } = search;
        let is_own = owner == 0 || owner == leaf;
        if is_own && payer != STRANGERS {
            if !self.has_many || self.pay_own(leaf, payer) {
                return leaf;
            }
            if leaf == payer {
                return 0;
            }
        }
        let otherwise = if is_own { 0 } else { owner };
        // User space makes the entry with that of the payer, and the strangers' once it has attached the program.
        let Some(paid) = self.paid.get_ptr_mut(&payer) else { return leaf };
        // SAFETY: a map value, valid while the program runs.
        if unsafe { paid.read_volatile() } >= bound(payer, self.parts) {
            return otherwise;
        }
        if !is_own && self.members.get_ptr(&leaf).is_none() && self.members.insert(&leaf, &owner, 0).is_err() {
            return otherwise;
        }
        // SAFETY: as above.
        unsafe { add(paid, 1) };
        leaf
    }
}

/// The id of a cgroup's ancestor at a level; 0 where it has none there.
///
/// # Safety
/// `cgroup` is the kernel's, and the offsets are those of the running kernel.
#[inline(always)]
pub unsafe fn ancestor(cgroup: *const u8, level: u32, at: Ancestors, way: Way) -> u64 {
    let (mut own_level, mut above, mut node, mut id) = (0_u32, 0_usize, 0_usize, 0_u64);
    let base = cgroup as usize;
    // SAFETY: reads into local variables; a bad address gives an error and zeroes.
    unsafe {
        read(&raw mut own_level, base + at.level as usize);
        if level > own_level {
            return 0;
        }
        read(&raw mut above, base + at.ancestors as usize + 8 * level as usize);
        read(&raw mut node, above + way.kn as usize);
        read(&raw mut id, node + way.kn_id as usize);
    }
    id
}

#[inline(always)]
unsafe fn read<T>(to: *mut T, from: usize) {
    // SAFETY: as the caller promises; the verifier checks it, too.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const core::ffi::c_void) };
}

/// Counts an event that found no entry.
#[inline(always)]
pub fn refuse(counts: &Array<u64>) {
    if let Some(counter) = counts.get_ptr_mut(REFUSED) {
        // SAFETY: a map value.
        unsafe { add(counter, 1) };
    }
}

/// The entry of a map that all CPUs share; a new one begins as `nothing`. None where the map is full. Both are counted.
#[inline(always)]
pub fn entry<K, V>(map: &HashMap<K, V>, key: &K, nothing: &V, counts: &Array<u64>) -> Option<*mut V> {
    // Two CPUs may meet it at once: one of them makes it, both find it.
    if map.get_ptr_mut(key).is_none() && map.insert(key, nothing, u64::from(BPF_NOEXIST)).is_ok() {
        if let Some(made) = counts.get_ptr_mut(MADE) {
            // SAFETY: a map value.
            unsafe { add(made, 1) };
        }
    }
    let found = map.get_ptr_mut(key);
    if found.is_none() {
        refuse(counts);
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
