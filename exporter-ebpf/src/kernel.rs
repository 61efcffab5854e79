//! What all programs share: atomic operations, reads of kernel memory, lookups of slots and entries, the licence.
//!
//! Linux 5.12 added atomic read-modify-write instructions to eBPF, but the compiler does not emit them yet: they are written
//! as assembly here.

use core::arch::asm;
use core::mem::size_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_kernel};
use aya_ebpf::maps::{Array, HashMap};

use crate::cgroup::CgroupIdOffsets;
use crate::latency::{Histogram, Scale};
use crate::owners::{Ancestors, LEVELS, Search, UNOWNED, own_quota, quota};
use crate::slots::{CPUS, CpuShards, ELSEWHERE, MADE, REFUSED, WAYS};

/// Adds to a map value atomically.
///
/// # Safety
/// `counter` is an aligned `u64` of a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, by: u64) {
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by) }
}

/// Stores `new` where the value is `old`, atomically. Returns the value before.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn compare_exchange(target: *mut u64, old: u64, new: u64) -> u64 {
    let seen;
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe {
        asm!("r0 = cmpxchg_64({target} + 0, r0, {new})", target = in(reg) target, new = in(reg) new, inout("r0") old => seen);
    }
    seen
}

/// Loads a member of a kernel object.
///
/// # Safety
/// `object` is one that the verifier knows the type of, and a `T` is at `offset` in it.
#[inline(always)]
pub unsafe fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: as the caller promises. Volatile, so that it stays one load of this size.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

/// Returns the id of a cgroup.
///
/// # Safety
/// `cgroup` is one that the verifier knows the type of, and `id_offsets` are those of the running kernel.
#[inline(always)]
pub unsafe fn id(cgroup: *const u8, id_offsets: CgroupIdOffsets) -> u64 {
    // SAFETY: as the caller promises.
    unsafe {
        let node: *const u8 = load(cgroup, id_offsets.kn);
        load(node, id_offsets.kn_id)
    }
}

/// Returns the shard that this CPU counts in.
#[inline(always)]
pub fn shard(shards: *const CpuShards) -> u32 {
    // SAFETY: a helper without conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if cpu >= CPUS as u32 {
        return ELSEWHERE.into();
    }
    // SAFETY: read-only data of the object, which has this many. Volatile, as user space has changed it since it was compiled.
    u32::from(unsafe { shards.cast::<u16>().add(cpu as usize).read_volatile() })
}

/// Returns the first slot of a set that `is_mine` accepts.
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

/// The maps that enforce the quotas of a table.
pub struct Owners<'a> {
    /// By cgroup: see [`crate::owners`].
    pub owners: &'a HashMap<u64, u64>,
    /// Number of entries charged to each payer.
    pub charges: &'a HashMap<u64, u64>,
    /// The owner of each nested cgroup that has entries. User space reads it.
    pub members: &'a HashMap<u64, u64>,
    /// Shards of the table.
    pub shards: u32,
    /// Whether a cgroup may have more than one entry, such as one for each device.
    pub has_many: bool,
}

impl Owners<'_> {
    /// Searches the ancestors of a cgroup for its owner. `ancestor` returns the id of the ancestor at a level, 0 for none.
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
            let value = self.owners.get_ptr(&id).map_or(0, |value| unsafe { value.read_volatile() });
            search.step(id, value);
            level += 1;
        }
        search
    }

    /// Charges an entry of a container's own cgroup. Returns whether the quota had room.
    #[inline(always)]
    pub fn charge_own(&self, container: u64, payer: u64) -> bool {
        match payer {
            UNOWNED => self.charge(UNOWNED, quota(UNOWNED, self.shards)),
            payer => self.charge(container, own_quota(container, payer, self.shards)),
        }
    }

    /// Charges an entry to a cgroup. Returns whether the quota had room, or the cgroup has none yet: user space creates it when
    /// it publishes the container.
    #[inline(always)]
    fn charge(&self, cgroup: u64, quota: u64) -> bool {
        let Some(charged) = self.charges.get_ptr_mut(&cgroup) else { return true };
        // SAFETY: a map value, valid while the program runs.
        unsafe {
            let has_room = charged.read_volatile() < quota;
            if has_room {
                add(charged, 1);
            }
            has_room
        }
    }

    /// Returns the cgroup whose entry counts for `leaf`, and charges a new entry: `leaf` itself, or its owner where the quota is
    /// used up. 0 where neither may have one.
    #[inline(always)]
    pub fn admit(&self, leaf: u64, search: Search) -> u64 {
        let Search { owner, payer, .. } = search;
        let is_own = owner == 0 || owner == leaf;
        if is_own && payer != UNOWNED {
            if !self.has_many || self.charge_own(leaf, payer) {
                return leaf;
            }
            if leaf == payer {
                return 0;
            }
        }
        let otherwise = if is_own { 0 } else { owner };
        // Without a value there is no quota yet: user space creates it when it publishes the payer.
        let Some(charged) = self.charges.get_ptr_mut(&payer) else { return leaf };
        // SAFETY: a map value, valid while the program runs.
        if unsafe { charged.read_volatile() } >= quota(payer, self.shards) {
            return otherwise;
        }
        if !is_own && self.members.get_ptr(&leaf).is_none() && self.members.insert(&leaf, &owner, 0).is_err() {
            return otherwise;
        }
        // SAFETY: as above.
        unsafe { add(charged, 1) };
        leaf
    }
}

/// Returns the id of a cgroup's ancestor at a level, 0 for none.
///
/// # Safety
/// `cgroup` is the kernel's, and the offsets are those of the running kernel.
#[inline(always)]
pub unsafe fn ancestor(cgroup: *const u8, level: u32, at: Ancestors, id_offsets: CgroupIdOffsets) -> u64 {
    let (mut own_level, mut above, mut node, mut id) = (0_u32, 0_usize, 0_usize, 0_u64);
    let base = cgroup as usize;
    // SAFETY: reads into local variables; a bad address gives an error and zeroes.
    unsafe {
        read(&raw mut own_level, base + at.level as usize);
        if level > own_level {
            return 0;
        }
        read(&raw mut above, base + at.ancestors as usize + 8 * level as usize);
        read(&raw mut node, above + id_offsets.kn as usize);
        read(&raw mut id, node + id_offsets.kn_id as usize);
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

/// Finds the entry of a key, or makes one that begins as `zero`. Returns none where the map is full. Counts new entries and
/// refused ones.
#[inline(always)]
pub fn entry<K, V>(map: &HashMap<K, V>, key: &K, zero: &V, counts: &Array<u64>) -> Option<*mut V> {
    // Two CPUs may do this at once: one makes the entry, both find it.
    if map.get_ptr_mut(key).is_none() && map.insert(key, zero, u64::from(BPF_NOEXIST)).is_ok() {
        if let Some(made) = counts.get_ptr_mut(MADE) {
            // SAFETY: a map value.
            unsafe { add(made, 1) };
        }
    }
    let entry = map.get_ptr_mut(key);
    if entry.is_none() {
        refuse(counts);
    }
    entry
}

/// Adds a latency to a histogram atomically.
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

/// The kernel offers some of its functions only to programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
