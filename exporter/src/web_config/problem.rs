//! Everything that is wrong with a web configuration file, with line and key.

use std::fmt;

/// One error in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 where it concerns the file as a whole.
    line: u64,
    /// Path of the key, such as `tls_server_config.cert_file`; empty for the whole file.
    key: String,
    /// What is wrong, and what is accepted.
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Every error of one file.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// Line in the file, from 1; 0 where the error concerns the file as a whole.
    #[cfg(any(test, fuzzing))]
    pub(super) fn line(&self) -> u64 {
        self.line
    }
}

impl Problems {
    /// Adds an error.
    pub(super) fn add(&mut self, line: u64, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { line, key: key.into(), what: what.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
