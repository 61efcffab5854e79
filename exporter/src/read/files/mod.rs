//! Kernel files: keeping them open, the forms of their text, and the limits of a container.

pub(super) mod format;
pub(super) mod limits;
pub(super) mod open_files;
pub(super) mod proc_text;
