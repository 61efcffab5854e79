//! What aya does not offer: maps in our own memory, iterators over cgroups, and running a program that is attached to
//! nothing.
//!
//! aya attaches iterators without naming the cgroup to begin at, which the kernel refuses for iterators over cgroups.
//!
//! All `unsafe` code of this folder is here.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::{ptr, slice};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Maps the first `words` words of an array map with the flag `BPF_F_MMAPABLE` into our memory, until the process ends.
/// Reading the words takes no system call.
///
/// The words are atomics, because programs write to them at any time.
///
/// # Errors
/// The kernel refuses.
#[expect(unsafe_code, reason = "memory that the kernel shares with us has no safe form")]
pub(super) fn map_words(map: impl AsFd, words: usize) -> io::Result<&'static [AtomicU64]> {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses an address at which nothing else is mapped.
    let memory = unsafe { mmap(ptr::null_mut(), words * size_of::<u64>(), flags, MapFlags::SHARED, map, 0) }?;
    // SAFETY: the mapping is that long (the kernel refuses a longer one than the map), is aligned to a page, holds
    // initialised integers, is never unmapped, and is only reached through atomics.
    Ok(unsafe { slice::from_raw_parts(memory.cast::<AtomicU64>(), words) })
}

/// The words of an array map, which are mapped into our memory until this is dropped: a larger map may replace the map.
#[derive(Debug)]
pub(super) struct MappedWords(&'static [AtomicU64]);

impl MappedWords {
    /// Maps the first `words` words of an array map with the flag `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new(map: impl AsFd, words: usize) -> io::Result<Self> {
        map_words(map, words).map(Self)
    }

    /// Returns the words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.0
    }
}

impl Drop for MappedWords {
    #[expect(unsafe_code, reason = "memory that the kernel shares with us has no safe form")]
    fn drop(&mut self) {
        // SAFETY: `new` mapped this memory, with this length. Nobody else holds the slice, because `words` borrows it
        // from `self`.
        let ended = unsafe { munmap(self.0.as_ptr().cast_mut().cast(), size_of_val(self.0)) };
        debug_assert!(ended.is_ok(), "only a wrong address or length is refused: {ended:?}");
    }
}

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
    /// The given cgroup alone.
    SelfOnly = 1,
    /// The given cgroup, then all cgroups below it, parents before children.
    DescendantsPre = 2,
}

/// `cgroup` of `union bpf_iter_link_info`.
#[repr(C)]
struct IterTarget {
    order: u32,
    cgroup_fd: u32,
    cgroup_id: u64,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for an iterator.
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

/// The part of `union bpf_attr` that `BPF_ITER_CREATE` reads.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` reads.
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

/// Runs a program that is attached to nothing, once, on this CPU. Needs Linux 5.10.
///
/// # Errors
/// The kernel's error.
pub(super) fn run_once(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = TestRun { prog_fd: fd(program.as_raw_fd()), ..TestRun::default() };
    call(PROG_TEST_RUN, &mut request).map(drop)
}

/// A link of a program to an iterator over cgroups or threads. The link ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// Links the program to an iterator over `cgroup` and, by `order`, the cgroups below it. Needs Linux 6.1.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn over_cgroups(program: BorrowedFd<'_>, cgroup: &File, order: Order) -> io::Result<Self> {
        let target = IterTarget { order: order as u32, cgroup_fd: fd(cgroup.as_raw_fd()), cgroup_id: 0 };
        let info_len = u32::try_from(size_of::<IterTarget>()).unwrap_or(0);
        Self::create(program, (&raw const target) as u64, info_len)
    }

    /// Links the program to an iterator over all threads that our pid namespace shows. Needs Linux 5.8.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn over_tasks(program: BorrowedFd<'_>) -> io::Result<Self> {
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
        call_for_descriptor(LINK_CREATE, &mut request).map(Self)
    }

    /// Runs the program once for each cgroup or thread.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn run(&self) -> io::Result<()> {
        let mut request = IterCreate { link_fd: fd(self.0.as_raw_fd()), flags: 0 };
        let mut run = File::from(call_for_descriptor(ITER_CREATE, &mut request)?);
        // The program writes no text, so the first read visits everything and returns 0.
        while run.read(&mut [0; 64])? > 0 {}
        Ok(())
    }
}

/// Returns the error of a command that no kernel has: `EINVAL` if the call has reached the kernel.
pub(super) fn invalid_command() -> io::Error {
    let mut request = IterCreate { link_fd: 0, flags: 0 };
    match call_for_descriptor(libc::c_long::from(i32::MAX), &mut request) {
        Ok(_) => io::Error::other("an unknown command succeeded"),
        Err(error) => error,
    }
}

/// Returns a descriptor as the attributes of bpf(2) have it. A descriptor is never negative.
fn fd(descriptor: i32) -> u32 {
    u32::try_from(descriptor).unwrap_or(u32::MAX)
}

/// Calls a command that returns a descriptor.
#[expect(unsafe_code, reason = "bpf(2) has no safe form")]
fn call_for_descriptor<T>(command: libc::c_long, request: &mut T) -> io::Result<OwnedFd> {
    let descriptor = call(command, request)?;
    // SAFETY: the kernel has just created the descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Calls a command that returns a number.
#[expect(unsafe_code, reason = "bpf(2) has no safe form")]
fn call<T>(command: libc::c_long, request: &mut T) -> io::Result<i32> {
    // SAFETY: `request` is the part of the attributes that the command reads, and has the size that is passed. What it
    // points to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(request), size_of::<T>()) };
    i32::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}
