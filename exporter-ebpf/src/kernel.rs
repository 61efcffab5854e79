//! What all programs share on the kernel's side: atomic operations, reading of kernel memory, the licence.
//!
//! The compiler offers no atomic read-modify-write for this machine, though it has had the instructions since Linux 5.12;
//! so they stand here as assembly.

use core::arch::asm;

/// Adds to a map value that others may be adding to.
///
/// # Safety
/// `counter` is an aligned `u64` of a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, by: u64) {
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by) }
}

/// Puts `new` where `old` is, and tells what was there.
///
/// # Safety
/// As [`add`].
#[inline(always)]
pub unsafe fn exchange_if(place: *mut u64, old: u64, new: u64) -> u64 {
    let seen;
    // SAFETY: as the caller promises; the verifier checks the address.
    unsafe {
        asm!("r0 = cmpxchg_64({place} + 0, r0, {new})", place = in(reg) place, new = in(reg) new, inout("r0") old => seen);
    }
    seen
}

/// Loads a member of one of the kernel's objects.
///
/// # Safety
/// `object` is one that the verifier knows the type of, and a `T` is at `offset` in it.
#[inline(always)]
pub unsafe fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: as the caller promises. Volatile, so that it stays one load of this size.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

/// The kernel lends some of its functions to programs under the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
