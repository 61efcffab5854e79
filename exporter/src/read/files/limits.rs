//! Reads the limits of a container. They change rarely, so they are read when they may have changed, and not in every scrape.
//!
//! CPU and pids limits are read with cgroups-rs, which distinguishes an absent limit from 0 there. For memory limits it replaces
//! errors by defaults, so this file reads them itself.

use std::path::PathBuf;

use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::pid::PidController;

use crate::discover::{Hierarchy, Tree, Version, cgroup};
use crate::metrics::{Controller, Limit};
use crate::name;
use crate::read::files::format::{Single, single};
use crate::read::files::open_files::reason;
use crate::read::files::open_files::{Files, Outcome};

/// Values from here on mean "no limit" on v1, which writes the largest multiple of a page below 2^63.
const V1_UNLIMITED: u64 = 1 << 62;
/// Default of `cpu.weight` on v2.
const DEFAULT_WEIGHT: u64 = 100;
/// Default of `cpu.shares` on v1.
const DEFAULT_SHARES: u64 = 1024;

/// The limits of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    values: [u64; Limit::ALL.len()],
    /// A bit for each known limit.
    known: u8,
}

/// What limits depend on: they are read again when it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LimitsVersion {
    /// Whether the engine's settings are known, which have the requested CPU shares.
    pub(crate) with_engine: bool,
    /// Digest of the kernel's limits in a snapshot; none without snapshots.
    pub(crate) digest: Option<(usize, u64)>,
    /// A bit for each searched tree that has its cgroup.
    pub(crate) trees: u32,
    /// Number of intervals since the container was first seen.
    pub(crate) interval: u64,
}

impl Limits {
    /// Returns the value of a limit.
    #[must_use]
    pub fn get(&self, limit: Limit) -> Option<u64> {
        let is_known = self.known & (1 << limit as u8) != 0;
        self.values.get(limit as usize).copied().filter(|_| is_known)
    }

    fn set(&mut self, limit: Limit, value: Option<u64>) {
        let bit = 1 << limit as u8;
        self.known = if value.is_some() { self.known | bit } else { self.known & !bit };
        if let Some(room) = self.values.get_mut(limit as usize) {
            *room = value.unwrap_or(0);
        }
    }

    /// Returns the limits that the engine reports.
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

    /// Reads the limits of the cgroup at `path` (with a leading slash) in every tree. Passes the name of each file that exists and
    /// cannot be read or parsed to `problem`, with the reason under which that is counted.
    pub fn read(
        hierarchy: &Hierarchy,
        path: &str,
        engine: Option<&name::Limits>,
        files: &mut Files,
        problem: impl FnMut(&str, &'static str),
    ) -> Self {
        let mut limits = Self::default();
        let mut source = Directory { path: PathBuf::new(), files, problem };
        limits.read_cpu(hierarchy, path, engine, &mut source);
        limits.read_memory(hierarchy, path, &mut source);
        if let Some((directory, tree)) = directory(hierarchy, Controller::Pids, path) {
            source.path.clone_from(&directory);
            let controller = PidController::new(directory, tree.version == Version::V2);
            let max = source.checked("pids.max", controller.get_pid_max().ok());
            limits.set(
                Limit::Pids,
                max.and_then(|max| match max {
                    MaxValue::Max => Some(0),
                    MaxValue::Value(value) => value.try_into().ok(),
                }),
            );
        }
        limits
    }

    fn read_cpu(
        &mut self,
        hierarchy: &Hierarchy,
        path: &str,
        engine: Option<&name::Limits>,
        source: &mut Directory<'_, impl FnMut(&str, &'static str)>,
    ) {
        let Some((directory, tree)) = directory(hierarchy, Controller::Cpu, path) else { return };
        source.path.clone_from(&directory);
        let v2 = tree.version == Version::V2;
        let cpu = CpuController::new(directory, v2);
        let (quota, period) = (cpu.cfs_quota().ok(), cpu.cfs_period().ok());
        if v2 {
            source.checked("cpu.max", quota.and(period));
        } else {
            source.checked("cpu.cfs_quota_us", quota);
            source.checked("cpu.cfs_period_us", period);
        }
        // -1 means "not limited" on both versions.
        self.set(Limit::CpuQuota, quota.and_then(|quota| quota.try_into().ok()));
        self.set(Limit::CpuPeriod, period);
        let raw = source.checked(if v2 { "cpu.weight" } else { "cpu.shares" }, cpu.shares().ok());
        let asked = engine.and_then(|engine| engine.cpu_shares);
        self.set(Limit::CpuShares, if v2 { raw.map(|weight| asked.unwrap_or_else(|| shares_of(weight))) } else { raw });
    }

    fn read_memory(
        &mut self,
        hierarchy: &Hierarchy,
        path: &str,
        source: &mut Directory<'_, impl FnMut(&str, &'static str)>,
    ) {
        let Some((directory, tree)) = directory(hierarchy, Controller::Memory, path) else { return };
        source.path = directory;
        if tree.version == Version::V2 {
            self.set(Limit::Memory, source.bytes("memory.max"));
            self.set(Limit::Swap, source.bytes("memory.swap.max"));
            self.set(Limit::MemoryReservation, source.bytes("memory.low").max(source.bytes("memory.min")));
            return;
        }
        let memory = source.bytes("memory.limit_in_bytes");
        let both = source.bytes("memory.memsw.limit_in_bytes");
        self.set(Limit::Memory, memory);
        self.set(Limit::Swap, both.zip(memory).map(|(both, memory)| both.saturating_sub(memory)));
        self.set(Limit::MemoryReservation, source.bytes("memory.soft_limit_in_bytes"));
    }
}

/// A cgroup's directory in one tree, with a callback for files that cannot be read.
struct Directory<'f, P> {
    path: PathBuf,
    files: &'f mut Files,
    problem: P,
}

impl<P: FnMut(&str, &'static str)> Directory<'_, P> {
    /// Reads a limit in bytes; 0 if there is no limit.
    fn bytes(&mut self, name: &str) -> Option<u64> {
        match self.files.read_once(&self.path.join(name)) {
            Outcome::Text(text) => match single(text) {
                Single::Value(value) if value < V1_UNLIMITED => return Some(value),
                Single::Value(_) | Single::Max => return Some(0),
                Single::Malformed => (self.problem)(name, "malformed"),
            },
            Outcome::Failed(error) => (self.problem)(name, reason(&error)),
            Outcome::Absent | Outcome::Vanished => {}
        }
        None
    }

    /// Returns a value of cgroups-rs. If there is none, reads the file once more to distinguish an absent file from a malformed one,
    /// because cgroups-rs has one error for all causes.
    fn checked<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            match self.files.read_once(&self.path.join(name)) {
                Outcome::Text(_) => (self.problem)(name, "malformed"),
                Outcome::Failed(error) => (self.problem)(name, reason(&error)),
                Outcome::Absent | Outcome::Vanished => {}
            }
        }
        value
    }
}

/// Returns the directory of the cgroup at `path` in the tree of a controller.
fn directory<'h>(hierarchy: &'h Hierarchy, controller: Controller, path: &str) -> Option<(PathBuf, &'h Tree)> {
    let tree = hierarchy.tree(controller)?;
    Some((cgroup::directory(&tree.path, path), tree))
}

/// Returns the CPU shares that runc (since 1.3.2) converts to this weight: the inverse of
/// `weight = 10^((log2(shares)^2 + 125 log2(shares)) / 612 - 7/34)`. The default weight is that of the default shares.
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

    fn write(root: &tempfile::TempDir, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn limits(files: &[(&str, &str)]) -> Limits {
        let root = tempfile::tempdir().unwrap();
        write(&root, files);
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        Limits::read(&hierarchy, "/c", None, &mut Files::new(false), |file, reason| panic!("{file}: {reason}"))
    }

    fn problems(files: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let root = tempfile::tempdir().unwrap();
        write(&root, files);
        let hierarchy = Hierarchy::detect(root.path()).unwrap();
        let mut problems = Vec::new();
        let problem = |file: &str, reason| problems.push((file.to_owned(), reason));
        assert_eq!(Limits::read(&hierarchy, "/c", None, &mut Files::new(false), problem), Limits::default());
        problems
    }

    #[test]
    fn a_malformed_limit_is_left_out_and_reported() {
        let reported = problems(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("c/cpu.max", "lots\n"),
            ("c/cpu.weight", "\n"),
            ("c/memory.max", "garbage\n"),
            ("c/memory.low/is-a-directory", ""),
            ("c/pids.max", "-\n"),
        ]);
        let expected = [
            ("cpu.max", "malformed"),
            ("cpu.weight", "malformed"),
            ("memory.max", "malformed"),
            ("memory.low", "io"),
            ("pids.max", "malformed"),
        ];
        assert_eq!(reported, expected.map(|(file, reason)| (file.to_owned(), reason)));
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
    fn v1_limits_are_read_and_unlimited_is_0() {
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
        let limits = limits(&[("cgroup.controllers", "memory\n"), ("c/memory.current", "1\n")]);
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
