//! Checks the sandbox: a thread enters it and ends, because nothing else shows what this kernel and the environment
//! allow.

use std::thread;

use super::report::Line;
use crate::config::{Config, FeatureMode};
use crate::sandbox::{Needs, Sandbox};

/// Returns what would hold, and what keeps parts of it open.
pub(super) fn check(config: &Config) -> Line {
    const WHAT: &str = "sandbox";
    const HINT: &str = "a newer kernel, or an engine whose seccomp profile lets Landlock and seccomp through";
    if config.sandbox == FeatureMode::Off {
        return Line::ok(WHAT, "switched off");
    }
    let (mode, needs) = (config.sandbox, Needs::of(config, config.ebpf != FeatureMode::Off));
    let entered = thread::spawn(move || Sandbox::enter(mode, &needs)).join();
    match entered {
        Ok(Ok(sandbox)) => {
            let found =
                sandbox.reasons().iter().fold(sandbox.to_string(), |found, reason| format!("{found}; {reason}"));
            if sandbox.is_supported() { Line::ok(WHAT, found) } else { Line::warn(WHAT, found, HINT) }
        }
        Ok(Err(error)) => Line::fail(WHAT, error.to_string(), HINT),
        Err(_panicked) => Line::warn(WHAT, "it could not be tried", "please report it"),
    }
}
