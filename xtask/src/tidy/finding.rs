//! What a rule finds.

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// `path` or `path:line`.
    pub(super) location: String,
    /// What is there, with a hint.
    pub(super) what: String,
}

impl Finding {
    pub(super) fn new(location: impl Into<String>, what: impl Into<String>) -> Self {
        Self { location: location.into(), what: what.into() }
    }
}

/// Lines with their numbers, counted from 1.
pub(super) fn numbered(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content.lines().enumerate().map(|(index, line)| (index + 1, line))
}
