//! Values of all containers from one copy of the kernel's counters per scrape. `docs/SNAPSHOTS.md` explains it with a picture.
//!
//! - `kernel_copy` has the copy, and fills samples from it in place of the files that it replaces.
//! - `record` derives a container's values from its record in the copy.
//! - `derivations` has the derivation of each key from a counter, and `stat_index` finds the counters of `memory.stat`.
//! - `cross_check` compares copies with files, and `sources` has the evidence by which a copy replaces a file.

mod cross_check;
mod derivations;
mod kernel_copy;
pub(super) mod record;
mod sources;
mod stat_index;

pub use kernel_copy::{KernelCopy, can_copy};
