//! What was checked and found, one line each.

use std::fmt;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Works.
    Ok,
    /// Something will be missing.
    Warn,
    /// The main job cannot run.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How it went.
    pub verdict: Verdict,
    /// What was checked.
    pub what: String,
    /// What was found.
    pub found: String,
    /// The mount, capability, flag or command that helps; empty where nothing is ill.
    pub hint: String,
}

impl Line {
    /// Returns a line without a complaint.
    #[must_use]
    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), found: found.into(), hint: String::new() }
    }

    /// Something will be missing.
    #[must_use]
    pub fn warn(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), found: found.into(), hint: hint.into() }
    }

    /// Returns the main job cannot run.
    #[must_use]
    pub fn fail(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(what, found, hint) }
    }

    /// Returns the same with another verdict, where the configuration decides how bad it is.
    #[must_use]
    pub(super) fn with(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {}: {}", self.verdict, self.what, self.found)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " -> {}", self.hint) }
    }
}

/// Every check, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Report {
    /// The checks.
    pub lines: Vec<Line>,
}

impl Report {
    /// Returns whether containers can be measured and the metrics served.
    #[must_use]
    pub fn main_job_can_run(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Fail)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
