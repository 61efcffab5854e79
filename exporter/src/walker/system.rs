//! Two system calls that have no safe form.

use std::io;

use rustix::process::Pid;

/// Makes a copy of this process. Returns its id; none in the copy.
///
/// For a process with one thread, as the walker is: a copy of more would lack the others, and hold their locks for ever.
///
/// # Errors
/// The kernel refuses.
#[expect(unsafe_code, reason = "a fork has no safe form")]
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: nothing in this process starts a thread, before or after: `run` is all that it does.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Has this process run only where no other one wants the CPU; its I/O comes last, too, as the kernel takes the class from there.
///
/// # Errors
/// The kernel refuses.
#[expect(unsafe_code, reason = "setting a scheduling class has no safe form")]
pub(super) fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads a structure that outlives the call. Not the C library's function, which musl has none of.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const parameters) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
