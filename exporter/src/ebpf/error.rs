//! Why a program cannot run on this host, with a hint.

use std::fmt;

/// Why a program cannot run on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What the host lacks, or what the kernel refused.
    pub missing: String,
    /// What the user can do.
    pub hint: String,
}

impl Unsupported {
    pub(crate) fn new(missing: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { missing: missing.into(), hint: hint.into() }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.missing, self.hint)
    }
}
