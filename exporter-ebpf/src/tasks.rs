//! Threads per container and state, as `bin/tasks.rs` counts them. Threads in cgroups below a container's own count, too.
//!
//! User space gives each container a slot. A thread counts in the slot of its innermost container, or in slot [`OTHERS`] where
//! it is in none.

use core::mem::size_of;

use crate::cgroup::CgroupIdOffsets;

/// Number of states.
pub const STATES: usize = 5;

/// The state of a thread. The states exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Waits for an event, and any signal wakes it. Also an idle kernel thread.
    Sleeping = 0,
    /// Has a CPU or waits for one.
    Running = 1,
    /// Stopped by a signal or a debugger.
    Stopped = 2,
    /// Waits without reacting to ordinary signals, for something else than I/O.
    Uninterruptible = 3,
    /// Waits for I/O without reacting to ordinary signals.
    IoWaiting = 4,
}

/// Threads of one slot by [`State`].
pub type Counts = [u64; STATES];

/// Slots: one for each container, and [`OTHERS`].
pub const SLOTS: u32 = 4096;
/// The slot of threads that are in no known container.
pub const OTHERS: u32 = 0;
/// Capacity of the cache of slots of cgroups that are below a container or in none.
pub const CACHED_SLOTS: u32 = 2048;
/// Threads that one walk visits at most, which takes about 50 ms.
pub const MAX_THREADS: u64 = 1 << 20;

/// Index of a shared word: number of threads that the walk has visited. User space sets it to 0.
pub const VISITED: u32 = 0;
/// Index of a shared word: the number of the present assignment of slots. A cached slot of another assignment is void.
pub const ASSIGNMENT: u32 = 1;
/// Index of a shared word: the cgroup of the last thread, as most threads are in the same cgroup as the one before. User space
/// sets it to 0.
pub const LAST_CGROUP: u32 = 2;
/// Index of a shared word: the slot of [`LAST_CGROUP`].
pub const LAST_SLOT: u32 = 3;
/// Number of shared words.
pub const WORDS: u32 = 4;

/// The kernel functions of the task iterator, with placeholders for their BTF ids: user space replaces these in the object
/// before it loads it. See [`call_of`].
pub const ITERATOR_FUNCTIONS: [(&str, u32); 3] =
    [("bpf_iter_task_new", 0x7a51_0001), ("bpf_iter_task_next", 0x7a51_0002), ("bpf_iter_task_destroy", 0x7a51_0003)];

/// Encodes the call of a kernel function as an instruction: class, kind of function in the source register, BTF id.
#[must_use]
pub const fn call_of(function: u32) -> u64 {
    (function as u64) << 32 | 0x2085
}

/// Bits of `task_struct.__state`: the same since Linux 6.1.
const INTERRUPTIBLE: u32 = 0x1;
const UNINTERRUPTIBLE: u32 = 0x2;
const STOPPED_OR_TRACED: u32 = 0x4 | 0x8;
const DEAD_OR_PARKED: u32 = 0x10 | 0x20 | 0x40;
const NO_LOAD: u32 = 0x400;
/// Waits for a lock of a real-time kernel, or is frozen: shown as uninterruptible.
const LOCK_WAIT_OR_FROZEN: u32 = 0x1000 | 0x8000;

/// Returns the state of a thread that has not ended, as `/proc/PID/status` shows it; that file does not show waiting for I/O.
/// Returns none for a parked kernel thread.
#[must_use]
#[inline]
pub const fn state(bits: u32, in_iowait: bool) -> Option<State> {
    if bits & LOCK_WAIT_OR_FROZEN != 0 || bits & (UNINTERRUPTIBLE | NO_LOAD) == UNINTERRUPTIBLE {
        return Some(if in_iowait { State::IoWaiting } else { State::Uninterruptible });
    }
    if bits & DEAD_OR_PARKED != 0 {
        return None;
    }
    if bits & STOPPED_OR_TRACED != 0 {
        return Some(State::Stopped);
    }
    // Uninterruptible without load is idle.
    if bits & (INTERRUPTIBLE | UNINTERRUPTIBLE) != 0 { Some(State::Sleeping) } else { Some(State::Running) }
}

/// Byte offsets of the members that the program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.__state`
    pub task_state: u32,
    /// `task_struct.exit_state`
    pub task_exit_state: u32,
    /// The byte that holds `task_struct.in_iowait`.
    pub task_iowait: u32,
    /// The bit of that byte.
    pub task_iowait_mask: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub set_cgroup: u32,
    /// Where a cgroup's id is.
    pub id_offsets: CgroupIdOffsets,
}

const _: () = assert!(size_of::<Counts>() == 40 && size_of::<Offsets>() == 36);

#[cfg(test)]
mod tests {
    use super::{State, call_of, state};

    #[test]
    fn states_are_those_that_procfs_shows() {
        use State::{IoWaiting, Running, Sleeping, Stopped, Uninterruptible};
        // `__state`, the letter of `/proc/PID/status`, and ours without and with waiting for I/O.
        for (bits, letter, plain, waiting) in [
            (0x0, 'R', Some(Running), Some(Running)),
            (0x200, 'R', Some(Running), Some(Running)),
            (0x800, 'R', Some(Running), Some(Running)),
            (0x1, 'S', Some(Sleeping), Some(Sleeping)),
            (0x2001, 'S', Some(Sleeping), Some(Sleeping)),
            (0x402, 'I', Some(Sleeping), Some(Sleeping)),
            (0x2, 'D', Some(Uninterruptible), Some(IoWaiting)),
            (0x102, 'D', Some(Uninterruptible), Some(IoWaiting)),
            (0x2102, 'D', Some(Uninterruptible), Some(IoWaiting)),
            (0x1000, 'D', Some(Uninterruptible), Some(IoWaiting)),
            (0x8000, 'D', Some(Uninterruptible), Some(IoWaiting)),
            (0x104, 'T', Some(Stopped), Some(Stopped)),
            (0x108, 't', Some(Stopped), Some(Stopped)),
            (0x40, 'P', None, None),
        ] {
            assert_eq!((state(bits, false), state(bits, true)), (plain, waiting), "{bits:#x}, shown as {letter}");
        }
    }

    #[test]
    fn a_call_has_its_function_in_the_upper_half() {
        assert_eq!(call_of(0x7a51_0001).to_le_bytes(), [0x85, 0x20, 0, 0, 0x01, 0x00, 0x51, 0x7a]);
    }
}
