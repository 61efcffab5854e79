//! Access to the plan, whose members the verifier sees as constants.

use exporter_ebpf::snapshot::Plan;

/// Set by user space before loading.
#[unsafe(no_mangle)]
pub(crate) static SNAPSHOT_PLAN: Plan = Plan::EMPTY;

/// Loads a member of the plan.
macro_rules! plan {
    ($($member:tt)*) => {
        $crate::plan::constant(core::ptr::addr_of!($crate::plan::SNAPSHOT_PLAN.$($member)*))
    };
}

/// Loads a pointer of the plan member by member, because a whole structure would be copied by a loop over its bytes.
macro_rules! pointer {
    ($($of:tt)*) => {
        exporter_ebpf::snapshot::Pointer {
            base: plan!($($of)*.pointer.base),
            is_css: plan!($($of)*.pointer.is_css),
            at: plan!($($of)*.pointer.at),
        }
    };
}

#[inline(always)]
pub(crate) fn constant<T: Copy>(member: *const T) -> T {
    // SAFETY: read-only data of the object. Volatile, because user space replaces it.
    unsafe { member.read_volatile() }
}

pub(crate) use {plan, pointer};
