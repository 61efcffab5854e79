//! Values of all containers from snapshots: which files need not be read any more, and what their values are.
//!
//! Which keys a file has, a file tells: it is read once for all cgroups that have the same controllers, and a snapshot gives
//! no value that it did not have. From then on snapshots stand in for it as long as they can give all that is wanted of it,
//! and as long as what they give is what the file says (`check`). Whatever they cannot give is read, as if they were not there.

mod check;
mod choose;
mod compare;
mod recipes;
pub(super) mod record;
mod served;
mod stats;
mod values;

pub use served::{Snapshot, can_be_taken};
