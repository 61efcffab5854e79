//! Values of all containers from one copy of the kernel's counters per scrape. `docs/SNAPSHOTS.md` explains it with a picture.
//!
//! `derivations` says how the value of each key follows from the kernel's counters, `stat_index` finds out which counter is
//! which key of `memory.stat`, `cross_check` compares copies with files, and `evidence` says when a copy serves in place of a file.

mod cross_check;
mod derivations;
mod kernel_copy;
pub(super) mod record;
mod sources;
mod stat_index;

pub use kernel_copy::{KernelCopy, can_copy};
