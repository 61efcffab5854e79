//! The system calls that aya does not make: creating an iterator over the cgroups below one and running it, and running a program
//! that is attached to nothing.
//!
//! aya attaches iterators without saying over what, which the kernel refuses of those over cgroups.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::include_bytes_aligned;

/// The program that copies counters, and the one that finds the CPUs' copies of variables.
pub(super) const OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/snapshot.o"));

/// `BPF_PROG_TEST_RUN`, `BPF_LINK_CREATE` and `BPF_ITER_CREATE` (`enum bpf_cmd`).
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const ITER_CREATE: libc::c_long = 33;
/// `BPF_TRACE_ITER` (`enum bpf_attach_type`).
const TRACE_ITER: u32 = 28;

/// Which cgroups an iterator visits (`enum bpf_cgroup_iter_order`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Order {
    /// The one alone.
    SelfOnly = 1,
    /// The one, then all below it, parents before children.
    DescendantsPre = 2,
}

/// `bpf_iter_link_info.cgroup`
#[repr(C)]
struct IterTarget {
    order: u32,
    cgroup_fd: u32,
    cgroup_id: u64,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` takes of an iterator.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    rest: u32,
}

/// The part that `BPF_ITER_CREATE` takes.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// The part that `BPF_PROG_TEST_RUN` takes.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    /// Repetitions, duration, sizes of contexts.
    rest: [u32; 4],
    contexts: [u64; 2],
}

/// Runs a program that is made to be run by nothing else, on this CPU and to its end. Linux 5.10.
///
/// # Errors
/// What the kernel said.
pub(in crate::ebpf) fn run_once(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = TestRun { prog_fd: fd(program.as_raw_fd()), ..TestRun::default() };
    call(PROG_TEST_RUN, &mut request).map(drop)
}

/// A program's iterator over the cgroups below one, or over all threads. It ends with this.
#[derive(Debug)]
pub(in crate::ebpf) struct Link(OwnedFd);

impl Link {
    /// Makes it. Linux 6.1.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn new(program: BorrowedFd<'_>, cgroup: &File, order: Order) -> io::Result<Self> {
        let target = IterTarget { order: order as u32, cgroup_fd: fd(cgroup.as_raw_fd()), cgroup_id: 0 };
        let info_len = u32::try_from(size_of::<IterTarget>()).unwrap_or(0);
        Self::create(program, (&raw const target) as u64, info_len)
    }

    /// Makes one over all threads that our pid namespace shows. Linux 5.8.
    ///
    /// # Errors
    /// What the kernel said.
    pub(in crate::ebpf) fn over_tasks(program: BorrowedFd<'_>) -> io::Result<Self> {
        Self::create(program, 0, 0)
    }

    fn create(program: BorrowedFd<'_>, iter_info: u64, iter_info_len: u32) -> io::Result<Self> {
        let mut request = LinkCreate {
            prog_fd: fd(program.as_raw_fd()),
            target_fd: 0,
            attach_type: TRACE_ITER,
            flags: 0,
            iter_info,
            iter_info_len,
            rest: 0,
        };
        bpf(LINK_CREATE, &mut request).map(Self)
    }

    /// Runs the program once for each of the cgroups or threads.
    ///
    /// # Errors
    /// What the kernel said.
    pub(in crate::ebpf) fn run(&self) -> io::Result<()> {
        let mut request = IterCreate { link_fd: fd(self.0.as_raw_fd()), flags: 0 };
        let mut run = File::from(bpf(ITER_CREATE, &mut request)?);
        // The program says nothing here: the first read goes through all cgroups and ends.
        while run.read(&mut [0; 64])? > 0 {}
        Ok(())
    }
}

/// Returns what the system answers to a command that no kernel has: `EINVAL` is the kernel's own.
pub(in crate::ebpf) fn invalid_command() -> io::Error {
    let mut request = IterCreate { link_fd: 0, flags: 0 };
    match bpf(libc::c_long::from(i32::MAX), &mut request) {
        Ok(_) => io::Error::other("an unknown command succeeded"),
        Err(error) => error,
    }
}

fn fd(descriptor: i32) -> u32 {
    // A descriptor is never negative.
    u32::try_from(descriptor).unwrap_or(u32::MAX)
}

/// Returns a command that answers with a descriptor.
#[expect(unsafe_code, reason = "bpf(2) has no safe form")]
fn bpf<T>(command: libc::c_long, request: &mut T) -> io::Result<OwnedFd> {
    let descriptor = call(command, request)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Returns a command that answers with a number, which is not negative.
#[expect(unsafe_code, reason = "bpf(2) has no safe form")]
fn call<T>(command: libc::c_long, request: &mut T) -> io::Result<i32> {
    // SAFETY: `request` is the part of the attributes that the command reads, of the size that is passed; what it points to
    // outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>()) };
    i32::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}
