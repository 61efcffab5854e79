//! Counts the threads of every container by state, each time that user space asks.
//!
//! Two programs do the same: one iterates over all threads itself, with the task iterator for programs (Linux 6.7). The kernel
//! runs the other one for each thread that the reader's pid namespace shows, which costs several times as much.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]
#![feature(asm_experimental_arch)]

use core::arch::asm;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::kernel;
use exporter_ebpf::owners::{Ancestors, LEVELS, OWNERS};
use exporter_ebpf::tasks::{
    ASSIGNMENT, CACHED_SLOTS, Counts, ITERATOR_FUNCTIONS, LAST_CGROUP, LAST_SLOT, MAX_THREADS, OTHERS, Offsets, SLOTS,
    State, VISITED, WORDS, call_of, state,
};

/// Set by user space before loading.
#[unsafe(no_mangle)]
static TASKS_OFFSETS: Offsets = Offsets {
    task_pid: 0,
    task_state: 0,
    task_exit_state: 0,
    task_iowait: 0,
    task_iowait_mask: 0,
    task_cgroups: 0,
    set_cgroup: 0,
    id_offsets: CgroupIdOffsets::UNSET,
};
/// Set by user space before loading.
#[unsafe(no_mangle)]
static TASKS_ANCESTORS: Ancestors = Ancestors::UNSET;

/// Threads by slot. User space clears them before each walk.
#[map]
static TASKS_COUNTS: Array<Counts> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);
/// See [`VISITED`] and what follows it.
#[map]
static TASKS_WORDS: Array<u64> = Array::with_max_entries(WORDS, BPF_F_MMAPABLE);
/// The slot of each container's own cgroup, set by user space.
#[map]
static TASKS_CONTAINERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Cached slots of other cgroups, with the assignment that they belong to in the upper half.
#[map]
static TASKS_CACHED_SLOTS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(CACHED_SLOTS, 0);

/// Loads the offset of a member. Volatile, because user space changes this read-only data after compilation.
macro_rules! offset {
    ($($member:tt)+) => {
        (&raw const TASKS_OFFSETS.$($member)+).read_volatile()
    };
}

/// `struct bpf_iter_task`, which is opaque to programs.
type Iterator = MaybeUninit<[u64; 3]>;
/// `BPF_TASK_ITER_ALL_THREADS`
const ALL_THREADS: u64 = 1;

/// Iterates over all threads of the host.
#[unsafe(link_section = "raw_tp/task_states")]
#[unsafe(no_mangle)]
extern "C" fn task_states(_: *const c_void) -> i32 {
    let mut iterator = Iterator::uninit();
    // SAFETY: the iterator is created, advanced and destroyed by its own functions; the verifier checks it.
    unsafe {
        asm!(
            ".8byte {call}", call = const call_of(ITERATOR_FUNCTIONS[0].1),
            inlateout("r1") iterator.as_mut_ptr() => _, inlateout("r2") ptr::null::<u8>() => _,
            inlateout("r3") ALL_THREADS => _, lateout("r0") _, lateout("r4") _, lateout("r5") _,
        );
        loop {
            let task: *const u8;
            asm!(
                ".8byte {call}", call = const call_of(ITERATOR_FUNCTIONS[1].1),
                inlateout("r1") iterator.as_mut_ptr() => _, lateout("r0") task,
                lateout("r2") _, lateout("r3") _, lateout("r4") _, lateout("r5") _,
            );
            if task.is_null() || !count(task) {
                break;
            }
        }
        asm!(
            ".8byte {call}", call = const call_of(ITERATOR_FUNCTIONS[2].1),
            inlateout("r1") iterator.as_mut_ptr() => _, lateout("r0") _,
            lateout("r2") _, lateout("r3") _, lateout("r4") _, lateout("r5") _,
        );
    }
    0
}

/// `struct bpf_iter__task`
#[repr(C)]
struct Context {
    meta: *const u8,
    /// Null after the last.
    task: *const u8,
}

/// Runs for each thread, and at the end once more without one.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn task_states_iter(context: *const Context) -> i32 {
    // SAFETY: the kernel's own objects, as the iterator's type says; the verifier checks each step.
    unsafe {
        let task = (*context).task;
        if !task.is_null() {
            count(task);
        }
    }
    0
}

/// Counts a thread. Returns whether to go on.
///
/// # Safety
/// `task` is the kernel's.
#[inline(always)]
unsafe fn count(task: *const u8) -> bool {
    // SAFETY: as the caller promises; the verifier checks each step.
    unsafe {
        let Some(seen) = TASKS_WORDS.get_ptr_mut(VISITED) else { return false };
        // In memory, not in a register: the verifier would track every value that a register may have.
        let before = seen.read_volatile();
        if before >= MAX_THREADS {
            return false;
        }
        seen.write_volatile(before + 1);
        let pid: u32 = kernel::load(task, offset!(task_pid));
        let exit_state: u32 = kernel::load(task, offset!(task_exit_state));
        // Skips ended threads and the idle thread of the first CPU.
        if pid == 0 || exit_state != 0 {
            return true;
        }
        let bits: u32 = kernel::load(task, offset!(task_state));
        let iowait: u8 = kernel::load(task, offset!(task_iowait));
        let Some(state) = state(bits, u32::from(iowait) & offset!(task_iowait_mask) != 0) else { return true };
        // The thread that runs this walk is only awake because of it.
        let state = if pid == bpf_get_current_pid_tgid() as u32 { State::Sleeping } else { state };
        let set: *const u8 = kernel::load(task, offset!(task_cgroups));
        let cgroup: *const u8 = kernel::load(set, offset!(set_cgroup));
        let id = kernel::id(cgroup, CgroupIdOffsets { kn: offset!(id_offsets.kn), kn_id: offset!(id_offsets.kn_id) });
        let (Some(last), Some(last_slot)) = (TASKS_WORDS.get_ptr_mut(LAST_CGROUP), TASKS_WORDS.get_ptr_mut(LAST_SLOT))
        else {
            return false;
        };
        if last.read_volatile() != id {
            let slot = match TASKS_CONTAINERS.get_ptr(&id) {
                Some(slot) => slot.read_volatile(),
                None => slot_of(cgroup, id),
            };
            last.write_volatile(id);
            last_slot.write_volatile(slot);
        }
        let slot = last_slot.read_volatile();
        if let Some(counts) = TASKS_COUNTS.get_ptr_mut(slot as u32) {
            let counter = counts.cast::<u64>().add(state as usize);
            counter.write_volatile(counter.read_volatile() + 1);
        }
    }
    true
}

/// Returns the slot of a cgroup that is not a container's own.
#[inline(never)]
fn slot_of(cgroup: *const u8, id: u64) -> u64 {
    let Some(assignment) = TASKS_WORDS.get_ptr(ASSIGNMENT) else { return OTHERS.into() };
    // SAFETY: map values, valid while the program runs, and read-only data of the object. Volatile, as user space changes them.
    unsafe {
        let assignment = assignment.read_volatile();
        if let Some(known) = TASKS_CACHED_SLOTS.get_ptr(&id) {
            let known = known.read_volatile();
            if known >> 32 == assignment {
                return known & 0xffff_ffff;
            }
        }
        let (at, id_offsets) = (
            (&raw const TASKS_ANCESTORS).read_volatile(),
            CgroupIdOffsets { kn: offset!(id_offsets.kn), kn_id: offset!(id_offsets.kn_id) },
        );
        let mut innermost = u64::from(OTHERS);
        let mut level = 1;
        while level <= LEVELS {
            let ancestor = kernel::ancestor(cgroup, level, at, id_offsets);
            if ancestor == 0 {
                break;
            }
            if let Some(slot) = TASKS_CONTAINERS.get_ptr(&ancestor) {
                innermost = slot.read_volatile();
            }
            level += 1;
        }
        // If the cache refuses the entry, the next thread searches again.
        _ = TASKS_CACHED_SLOTS.insert(&id, &(assignment << 32 | innermost), 0);
        innermost
    }
}
