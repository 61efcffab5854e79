//! Returns memory to the system that only the start, or the making of larger buffers, needed.

use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::slice;

use libc::{PF_W, PT_LOAD, c_int, c_void, dl_phdr_info, size_t};
use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Returns free heap memory, and the program's pages that are mapped from its file.
///
/// The start reads the kernel's types, loads programs and decodes configuration. This leaves megabytes of free heap that
/// the C library would keep (only GNU's can return them), and as much code and data that no scrape uses. What is used
/// again comes back from the page cache.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no safe form of it")]
    // SAFETY: it takes no pointer, touches only what is free, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    #[expect(unsafe_code, reason = "only the C library knows where the program's segments are")]
    // SAFETY: `unmap` has the type of the callback, ignores its data and does not unwind.
    unsafe {
        libc::dl_iterate_phdr(Some(unmap), null_mut());
    }
}

/// Takes the pages of an object's read-only segments out of the page table, for `dl_iterate_phdr`.
#[expect(unsafe_code, reason = "the object is a pointer of the C library's, and `madvise` takes an address")]
unsafe extern "C" fn unmap(object: *mut dl_phdr_info, _size: size_t, _data: *mut c_void) -> c_int {
    // SAFETY: the C library passes an object whose program headers stay while the callback runs.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    for segment in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_flags & PF_W == 0) {
        let Ok(address) = usize::try_from(base + segment.p_vaddr) else { continue };
        let Ok(size) = usize::try_from(segment.p_memsz) else { continue };
        let offset = address % page_size();
        // SAFETY: nothing ever writes to this segment, so that each of its pages is the file's, which the next access
        // maps again. A refusal (the vDSO is no file) leaves the pages mapped.
        unsafe { madvise(with_exposed_provenance_mut(address - offset), size + offset, Advice::LinuxDontNeed) }
            .unwrap_or_default();
    }
    0
}

#[cfg(test)]
mod tests {
    use procfs::process::Process;

    /// The pages that other tests need come back at once, but they are a part of all.
    #[test]
    fn pages_that_the_program_has_used_are_unmapped() {
        let resident = || Process::myself().unwrap().status().unwrap().rssfile.unwrap();
        let before = resident();
        super::trim();
        let after = resident();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }
}
