//! Drops the privileges of this process once everything that needs them has been done: capabilities, files that it does
//! not read, and system calls that it does not use.
//!
//! | file | what it does |
//! |---|---|
//! | `needs` | what the configuration has to be able to do while serving |
//! | `capabilities` | which capabilities are given up, and which of them are missed |
//! | `domain` | Landlock: which files, ports and processes can be reached |
//! | `filter`, `syscalls` | seccomp: which system calls there are |
//! | `walker` | all of it for the process that lists layers |
//!
//! The sandbox applies to the thread that enters it and to threads that it starts later, so it is entered before any
//! other thread starts. A refused action returns an error and kills nothing, so that a forgotten call costs a value and
//! not the program. Builds with debug assertions end at an unknown call, so that tests find it.

mod capabilities;
mod domain;
mod filter;
mod needs;
mod syscalls;
mod walker;

use std::fmt;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, set_no_new_privs};

use crate::config::FeatureMode;
use crate::metrics::SelfMetrics;
pub use needs::Needs;
pub use walker::{Confinement, confine_walker};

/// Why `--sandbox=on` cannot be entered.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox=on: {0} (--sandbox=auto goes on with what there is)")]
pub struct SandboxError(String);

/// The parts in force.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Remaining capabilities, or why they could not be dropped.
    capabilities: Result<CapabilitySet, String>,
    /// What Landlock handles, or why it does not.
    landlock: Result<String, String>,
    /// How many system calls are left, or why they are not filtered.
    seccomp: Result<usize, String>,
    /// Options that keep parts of the sandbox open.
    reasons: Vec<String>,
}

impl Sandbox {
    /// Enters the sandbox with this thread and those that it starts later.
    ///
    /// # Errors
    /// `on`, and this kernel or the environment lacks a part.
    pub fn enter(mode: FeatureMode, needs: &Needs) -> Result<Self, SandboxError> {
        if mode == FeatureMode::Off {
            let off = || "--sandbox=off".to_owned();
            return Ok(Self {
                capabilities: Err(off()),
                landlock: Err(off()),
                seccomp: Err(off()),
                reasons: Vec::new(),
            });
        }
        let (kept, mut reasons) = capabilities::missed(needs, mode == FeatureMode::On);
        let traces = kept.contains(CapabilitySet::SYS_PTRACE);
        let roots = domain::roots(needs);
        // Read once, before the process hides: a hidden process may not open the file itself unless it is root's.
        _ = rustix::param::page_size();
        // Other processes, even of the same user, may not read our memory.
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let privileges = set_no_new_privs(true);
        let dropped = capabilities::keep(kept);
        let capabilities = hidden.and(privileges).and(dropped).map_err(|error| error.to_string());
        // A process in a domain may not trace processes outside.
        let landlock = if traces { Err(TRACES.to_owned()) } else { domain::enter(needs, roots) };
        let seccomp = filter::enter(needs);
        if mode == FeatureMode::On {
            let failed = |what: &str, why: &String| SandboxError(format!("{what}: {why}"));
            capabilities.as_ref().map_err(|why| failed("capabilities", why))?;
            landlock.as_ref().map_err(|why| failed("Landlock", why))?;
            seccomp.as_ref().map_err(|why| failed("seccomp", why))?;
        }
        reasons.dedup();
        Ok(Self { capabilities, landlock, seccomp, reasons })
    }

    /// Returns whether this kernel and the environment support all of it.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let traces = self.landlock.as_ref().is_err_and(|why| why == TRACES);
        self.capabilities.is_ok() && (self.landlock.is_ok() || traces) && self.seccomp.is_ok()
    }

    /// Returns the options that keep parts of it open, and the parts that are missing.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Publishes our own metric of the sandbox.
    pub fn publish(&self, self_metrics: &SelfMetrics) {
        let parts = [
            ("capabilities", self.is_empty_handed()),
            ("landlock", self.landlock.is_ok()),
            ("seccomp", self.seccomp.is_ok()),
        ];
        for (part, holds) in parts {
            self_metrics.sandbox.with_label_values(&[part]).set(i64::from(holds));
        }
    }

    fn is_empty_handed(&self) -> bool {
        self.capabilities.as_ref().is_ok_and(CapabilitySet::is_empty)
    }
}

const TRACES: &str = "left out, as it would forbid to look into other processes";

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.capabilities {
            Ok(kept) => write!(f, "capabilities {}", capabilities::names(*kept))?,
            Err(why) => write!(f, "capabilities not given up ({why})")?,
        }
        match &self.landlock {
            Ok(handled) => write!(f, ", Landlock {handled}")?,
            Err(why) => write!(f, ", no Landlock ({why})")?,
        }
        match &self.seccomp {
            Ok(calls) => write!(f, ", seccomp {calls} calls"),
            Err(why) => write!(f, ", no seccomp ({why})"),
        }
    }
}

#[cfg(test)]
mod tests;
