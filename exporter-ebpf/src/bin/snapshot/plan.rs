//! The plan as the program sees it: constants, as far as the verifier is concerned.

use exporter_ebpf::snapshot::Plan;

/// Set by user space before loading.
#[unsafe(no_mangle)]
pub(crate) static SNAPSHOT_PLAN: Plan = Plan::NOTHING;

/// A member of the plan, which the verifier then knows.
macro_rules! plan {
    ($($member:tt)*) => {
        $crate::plan::constant(core::ptr::addr_of!($crate::plan::SNAPSHOT_PLAN.$($member)*))
    };
}

/// Member by member: a structure of the plan would be copied by a loop over its bytes.
macro_rules! pointer {
    ($($of:tt)*) => {
        exporter_ebpf::snapshot::Pointer {
            base: plan!($($of)*.pointer.base),
            is_part: plan!($($of)*.pointer.is_part),
            at: plan!($($of)*.pointer.at),
        }
    };
}

#[inline(always)]
pub(crate) fn constant<T: Copy>(member: *const T) -> T {
    // SAFETY: read-only data of the object. Volatile, as user space replaces it.
    unsafe { member.read_volatile() }
}

pub(crate) use {plan, pointer};
