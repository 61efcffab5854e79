//! Limits of a container: slow facts, read at discovery and when they may have changed, not with every scrape.
//!
//! CPU and pids limits come through cgroups-rs, which tells absent from zero for them. Its memory limits turn errors into
//! defaults, so those are read here.

use std::path::{Path, PathBuf};

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::pid::PidController;

use super::file::{Files, Outcome};
use super::format::{Single, single};
use crate::discover::{Hierarchy, Tree, Version};
use crate::metrics::{Controller, Limit};
use crate::name;

/// v1 says "no limit" with the largest multiple of a page below 2^63.
const V1_UNLIMITED: u64 = 1 << 62;
/// What a container gets that asked for nothing: the default weight of v2, and its equal on v1.
const DEFAULT_WEIGHT: u64 = 100;
const DEFAULT_SHARES: u64 = 1024;

/// The limits of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; Limit::ALL.len()]);

impl Limits {
    /// The value of a limit.
    #[must_use]
    pub fn get(&self, limit: Limit) -> Option<u64> {
        self.0.get(limit as usize).copied().flatten()
    }

    fn set(&mut self, limit: Limit, value: Option<u64>) {
        if let Some(place) = self.0.get_mut(limit as usize) {
            *place = value;
        }
    }

    /// The limits as the engine holds them.
    #[must_use]
    pub fn of_engine(engine: &name::Limits) -> Self {
        let mut limits = Self::default();
        limits.set(Limit::CpuQuota, engine.cpu_quota_us);
        limits.set(Limit::CpuPeriod, engine.cpu_period_us.or(Some(100_000)));
        limits.set(Limit::CpuShares, engine.cpu_shares.or(Some(DEFAULT_SHARES)));
        limits.set(Limit::Memory, engine.memory_bytes.or(Some(0)));
        limits.set(Limit::Swap, engine.swap_bytes.or(Some(0)));
        limits.set(Limit::MemoryReservation, engine.memory_reservation_bytes.or(Some(0)));
        limits.set(Limit::Pids, engine.pids.or(Some(0)));
        limits
    }

    /// Reads the limits of the cgroup at `path` (with a leading slash) of every tree.
    pub fn read(hierarchy: &Hierarchy, path: &str, engine: Option<&name::Limits>, files: &mut Files) -> Self {
        let mut limits = Self::default();
        limits.read_cpu(hierarchy, path, engine);
        limits.read_memory(hierarchy, path, files);
        if let Some((directory, tree)) = directory(hierarchy, Controller::Pids, path) {
            let controller = PidController::new(directory, tree.path.clone(), tree.version == Version::V2);
            limits.set(
                Limit::Pids,
                controller.get_pid_max().ok().and_then(|max| match max {
                    MaxValue::Max => Some(0),
                    MaxValue::Value(value) => value.try_into().ok(),
                }),
            );
        }
        limits
    }

    fn read_cpu(&mut self, hierarchy: &Hierarchy, path: &str, engine: Option<&name::Limits>) {
        let Some((directory, tree)) = directory(hierarchy, Controller::Cpu, path) else { return };
        let v2 = tree.version == Version::V2;
        let cpu = CpuController::new(directory, tree.path.clone(), v2);
        // -1 is "not limited" on either version, and no number of microseconds.
        self.set(Limit::CpuQuota, cpu.cfs_quota().ok().and_then(|quota| quota.try_into().ok()));
        self.set(Limit::CpuPeriod, cpu.cfs_period().ok());
        let raw = cpu.shares().ok();
        let asked = engine.and_then(|engine| engine.cpu_shares);
        self.set(Limit::CpuShares, if v2 { raw.map(|weight| asked.unwrap_or_else(|| shares_of(weight))) } else { raw });
    }

    fn read_memory(&mut self, hierarchy: &Hierarchy, path: &str, files: &mut Files) {
        let Some((directory, tree)) = directory(hierarchy, Controller::Memory, path) else { return };
        let mut read = |name: &str| match files.read_once(&directory.join(name)) {
            Outcome::Text(text) => match single(text) {
                Single::Value(value) if value < V1_UNLIMITED => Some(value),
                Single::Value(_) | Single::Max => Some(0),
                Single::Malformed => None,
            },
            _ => None,
        };
        if tree.version == Version::V2 {
            self.set(Limit::Memory, read("memory.max"));
            self.set(Limit::Swap, read("memory.swap.max"));
            self.set(Limit::MemoryReservation, read("memory.low").max(read("memory.min")));
            return;
        }
        let memory = read("memory.limit_in_bytes");
        let both = read("memory.memsw.limit_in_bytes");
        self.set(Limit::Memory, memory);
        self.set(Limit::Swap, both.zip(memory).map(|(both, memory)| both.saturating_sub(memory)));
        self.set(Limit::MemoryReservation, read("memory.soft_limit_in_bytes"));
    }
}

fn directory<'h>(hierarchy: &'h Hierarchy, controller: Controller, path: &str) -> Option<(PathBuf, &'h Tree)> {
    let tree = hierarchy.tree(controller)?;
    Some((below(&tree.path, path), tree))
}

/// The directory of the cgroup at `path` in the tree at `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The shares that runc (since 1.3.2) makes this weight of: the inverse of
/// `weight = 10^((log2(shares)^2 + 125 log2(shares)) / 612 - 7/34)`. The kernel's default weight is the default share.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights end at 10,000 and shares at 262,144"
)]
fn shares_of(weight: u64) -> u64 {
    if weight == DEFAULT_WEIGHT {
        return DEFAULT_SHARES;
    }
    let target = ((weight.clamp(1, 10_000) as f64).log10() + 7.0 / 34.0) * 612.0;
    let log = f64::midpoint(-125.0, (125.0_f64.mul_add(125.0, 4.0 * target)).sqrt());
    (log.exp2().round() as u64).clamp(2, 262_144)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Files, Limit, Limits, shares_of};
    use crate::discover::Hierarchy;

    fn limits(files: &[(&str, &str)]) -> Limits {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        Limits::read(&hierarchy, "/c", None, &mut Files::new(false))
    }

    #[test]
    fn v2_limits_are_read() {
        let limits = limits(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("c/cpu.max", "50000 100000\n"),
            ("c/cpu.weight", "100\n"),
            ("c/memory.max", "67108864\n"),
            ("c/memory.swap.max", "max\n"),
            ("c/memory.low", "1048576\n"),
            ("c/memory.min", "0\n"),
            ("c/pids.max", "max\n"),
        ]);
        assert_eq!(limits.get(Limit::CpuQuota), Some(50_000));
        assert_eq!(limits.get(Limit::CpuPeriod), Some(100_000));
        assert_eq!(limits.get(Limit::CpuShares), Some(1024));
        assert_eq!(limits.get(Limit::Memory), Some(67_108_864));
        assert_eq!(limits.get(Limit::Swap), Some(0));
        assert_eq!(limits.get(Limit::MemoryReservation), Some(1_048_576));
        assert_eq!(limits.get(Limit::Pids), Some(0));
    }

    #[test]
    fn v1_limits_are_read_and_unlimited_is_told() {
        let limits = limits(&[
            ("cpu/c/cpu.cfs_quota_us", "-1\n"),
            ("cpu/c/cpu.cfs_period_us", "100000\n"),
            ("cpu/c/cpu.shares", "512\n"),
            ("memory/c/memory.limit_in_bytes", "67108864\n"),
            ("memory/c/memory.memsw.limit_in_bytes", "134217728\n"),
            ("memory/c/memory.soft_limit_in_bytes", "9223372036854771712\n"),
            ("pids/c/pids.max", "100\n"),
        ]);
        assert_eq!(limits.get(Limit::CpuQuota), None);
        assert_eq!(limits.get(Limit::CpuShares), Some(512));
        assert_eq!(limits.get(Limit::Memory), Some(67_108_864));
        assert_eq!(limits.get(Limit::Swap), Some(67_108_864));
        assert_eq!(limits.get(Limit::MemoryReservation), Some(0));
        assert_eq!(limits.get(Limit::Pids), Some(100));
    }

    #[test]
    fn what_is_not_there_is_absent_and_not_zero() {
        let limits = limits(&[("cgroup.controllers", "memory\n"), ("c/memory.max", "garbage\n")]);
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn runc_s_conversion_is_undone() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(shares_of(weight), shares);
        }
        assert!((500..=524).contains(&shares_of(59)), "{}", shares_of(59)); // 512 shares are weight 59
    }
}
