//! A kernel map in our own memory: reading it takes no system call.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::{io, ptr, slice};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Maps the first `words` words of an array map that was made with `BPF_F_MMAPABLE`.
///
/// The memory stays mapped until the process ends: it is mapped once per program and start, and whoever reads it holds a
/// plain slice. Programs write to it at any time, hence atomics.
///
/// # Errors
/// The kernel refuses.
#[expect(unsafe_code, reason = "memory that the kernel shares with us has no safe form")]
pub(super) fn share(map: impl AsFd, words: usize) -> io::Result<&'static [AtomicU64]> {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is there.
    let memory = unsafe { mmap(ptr::null_mut(), words * size_of::<u64>(), flags, MapFlags::SHARED, map, 0) }?;
    // SAFETY: the mapping is that long (the kernel refuses a longer one than the map), is aligned to a page, holds
    // initialised integers, is never unmapped, and is only reached through atomics.
    Ok(unsafe { slice::from_raw_parts(memory.cast::<AtomicU64>(), words) })
}

/// The same for a map that a larger one may replace: mapped until dropped.
#[derive(Debug)]
pub(super) struct Mapped(&'static [AtomicU64]);

impl Mapped {
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new(map: impl AsFd, words: usize) -> io::Result<Self> {
        share(map, words).map(Self)
    }

    /// Returns the words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.0
    }
}

impl Drop for Mapped {
    #[expect(unsafe_code, reason = "memory that the kernel shares with us has no safe form")]
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, with this length; nobody else holds the slice, as `words` lends it from us.
        let ended = unsafe { munmap(self.0.as_ptr().cast_mut().cast(), size_of_val(self.0)) };
        debug_assert!(ended.is_ok(), "only a wrong address or length is refused: {ended:?}");
    }
}
