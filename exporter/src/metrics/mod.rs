//! The table: each metric once.

mod collector;
mod own;

pub use collector::{Collector, CollectorSet};
pub use own::Own;
