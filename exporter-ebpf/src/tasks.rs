//! The threads of every container by state, as `bin/tasks.rs` counts them: those of the cgroups below a container's own, too.
//!
//! User space gives each container a slot. A thread is counted in the slot of the innermost container that it is in; one that is
//! in none, in slot [`OTHERS`].

use core::mem::size_of;

use crate::cgroup::Way;

/// States that are told apart.
pub const STATES: usize = 5;

/// What a thread does. The states exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Waits for an event, and any signal wakes it; kernel threads that idle, too.
    Sleeping = 0,
    /// Has a CPU or waits for one.
    Running = 1,
    /// Stopped by a signal or a debugger.
    Stopped = 2,
    /// Waits for what no ordinary signal interrupts, but for I/O.
    Uninterruptible = 3,
    /// The same, for I/O.
    IoWaiting = 4,
}

/// Threads of one slot by [`State`].
pub type Counts = [u64; STATES];

/// Slots: one for each container, and [`OTHERS`].
pub const SLOTS: u32 = 4096;
/// The slot of threads that are in no known container.
pub const OTHERS: u32 = 0;
/// Cgroups below containers, or in none, whose slot is remembered.
pub const REMEMBERED: u32 = 2048;
/// Threads that one walk visits, at most: some fifty milliseconds.
pub const MOST_THREADS: u64 = 1 << 20;

/// The words that user space and the program share: how many threads the walk has visited; user space sets it to 0.
pub const SEEN: u32 = 0;
/// Which number user space has given to the present assignment of slots: what was remembered of another is void.
pub const ASSIGNMENT: u32 = 1;
/// The cgroup of the last thread, and its slot: most threads are in that of the one before. User space sets the first to 0.
pub const LAST_CGROUP: u32 = 2;
/// See [`LAST_CGROUP`].
pub const LAST_SLOT: u32 = 3;
/// How many words there are.
pub const WORDS: u32 = 4;

/// Instead of the numbers of the kernel's functions, which are those of its own types: user space replaces them in the object
/// before it is loaded. See [`call_of`].
pub const ITERATOR_FUNCTIONS: [(&str, u32); 3] =
    [("bpf_iter_task_new", 0x7a51_0001), ("bpf_iter_task_next", 0x7a51_0002), ("bpf_iter_task_destroy", 0x7a51_0003)];

/// A call of one of the kernel's functions as an instruction: its class, the kind of function in the source register, and its
/// number.
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

/// The state of a thread that has not ended, as `/proc/PID/status` shows it, but for waiting for I/O, which it does not show;
/// none for a parked kernel thread.
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

/// Where the running kernel keeps what the program follows: byte offsets, from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.__state`
    pub task_state: u32,
    /// `task_struct.exit_state`
    pub task_exit_state: u32,
    /// The byte that `task_struct.in_iowait` is in.
    pub task_iowait: u32,
    /// Which bit of it.
    pub task_iowait_mask: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub set_cgroup: u32,
    /// From the cgroup to its id.
    pub way: Way,
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
