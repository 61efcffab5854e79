//! What an engine says of its host in `/info`, asked for only where somebody wants it.
//!
//! The engine gathers that answer from all its plugins, so it may take long or never come. The follower asks in the
//! background and remembers it here; nobody waits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};

/// How the engine makes cgroups.
#[derive(Debug, Default)]
pub(super) struct Host {
    wanted: AtomicBool,
    systemd: OnceLock<bool>,
}

impl Host {
    /// From now on the follower asks for it.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Returns whether values come from this engine, so that nothing else shows which containers there are.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Returns whether `/info` is still to be asked for.
    pub(super) fn is_missing(&self) -> bool {
        self.is_wanted() && self.systemd.get().is_none()
    }

    /// Remembers the answer. A host does not change its driver under running containers, so the first one counts.
    pub(super) fn learn(&self, info: &SystemInfo) {
        self.systemd.get_or_init(|| info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD));
    }

    /// Returns whether the engine makes cgroups as units of systemd. False where it has not said so.
    pub(super) fn uses_systemd(&self) -> bool {
        self.systemd.get().copied().unwrap_or_default()
    }
}
