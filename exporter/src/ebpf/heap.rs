//! Gives memory back that only the start needed: reading the kernel's types and preparing programs takes megabytes, which the
//! C library would keep for later use.

/// Returns what is free to the system. Where the C library is not GNU's, it does so by itself or not at all.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe form of it")]
    // SAFETY: it takes no pointer, touches only what is free, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
