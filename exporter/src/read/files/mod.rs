//! Kernel files: keeps them open, parses their text, and reads the limits of a container.

pub(super) mod format;
pub(super) mod limits;
pub(super) mod open_files;
pub(super) mod proc_text;
