//! Parts of the trees that walks did not see: counted in each refresh, logged once.

use std::io;

use tracing::warn;

use super::walk::{BELOW_CONTAINER, Bounds, Missed};

/// What walks have missed since the last report.
#[derive(Debug, Default)]
pub(super) struct MissedParts {
    missed: Missed,
    /// Whether a walk lacked descriptors or memory, so that the next refresh walks again.
    pub(super) was_transient: bool,
    truncated_logged: bool,
    unreadable_logged: bool,
}

impl MissedParts {
    /// Adds what a walk has missed.
    pub(super) fn add(&mut self, missed: Missed) {
        self.was_transient |= missed.transient;
        self.missed.add(missed);
    }

    /// Returns the reasons under which missed parts are counted, and logs each reason the first time. `truncated` names a
    /// container that has more cgroups below it than a walk visits.
    pub(super) fn report(&mut self, truncated: impl FnOnce() -> String) -> Vec<&'static str> {
        let missed = std::mem::take(&mut self.missed);
        let mut reasons = Vec::new();
        if missed.truncated {
            reasons.push("too_many");
            if !std::mem::replace(&mut self.truncated_logged, true) {
                let Bounds { depth, directories } = BELOW_CONTAINER;
                warn!(
                    container = %truncated(), directories, depth,
                    "a container has more cgroups below it than are read: nested containers in the rest are not exposed, and \
                     their processes are not counted"
                );
            }
        }
        if let Some((directory, error)) = missed.unreadable {
            reasons.push(if error.kind() == io::ErrorKind::PermissionDenied { "denied" } else { "io" });
            if !std::mem::replace(&mut self.unreadable_logged, true) {
                warn!(
                    %error, directory = %directory.display(),
                    "cannot list a cgroup directory: new containers below it are not exposed until it can be listed"
                );
            }
        }
        reasons
    }
}
