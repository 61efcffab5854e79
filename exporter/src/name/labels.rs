//! Which container labels become metric labels, and in what form.

/// Allow-list, sanitiser and bounds of container labels.
#[derive(Debug)]
pub struct LabelPolicy {}
