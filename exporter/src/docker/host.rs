//! The engine's report on its host (`/info`), requested only if it is needed.
//!
//! The engine collects that answer from all its plugins, so it may take long or never come. The follower requests it in
//! the background and stores it here, so that nothing waits for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};

/// How the engine creates cgroups.
#[derive(Debug, Default)]
pub(super) struct Host {
    wanted: AtomicBool,
    systemd: OnceLock<bool>,
}

impl Host {
    /// Makes the follower request it from now on.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Returns whether values come from this engine, so that only its list shows which containers exist.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Returns whether `/info` is still missing.
    pub(super) fn is_missing(&self) -> bool {
        self.is_wanted() && self.systemd.get().is_none()
    }

    /// Stores the answer. A host does not change its driver under running containers, so the first answer counts.
    pub(super) fn learn(&self, info: &SystemInfo) {
        self.systemd.get_or_init(|| info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD));
    }

    /// Returns whether the engine creates cgroups as systemd units; false if unknown.
    pub(super) fn uses_systemd(&self) -> bool {
        self.systemd.get().copied().unwrap_or_default()
    }
}
