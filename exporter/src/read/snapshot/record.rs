//! A container's record in a snapshot, and its values as the kernel writes them into files.

use super::derivations::{Column, CpuMode, Derivation};
use super::stat_index::StatIndex;
use crate::ebpf::{DeviceUse, IterReader, Number, Record};
use crate::metrics::Dimension;
use crate::read::diskstats::Devices;
use crate::read::files::format::Device;
use crate::read::sample::{Labels, Sample};

/// Nanoseconds per tick of `cpuacct.stat`. `USER_HZ` is 100 on all supported machines.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// What is known of a container's record between two snapshots.
#[derive(Debug, Default)]
pub(crate) struct ContainerRecord {
    /// The id of its cgroup in each tree, 0 for none.
    pub(super) cgroups: Vec<u64>,
    /// Index of the record in the last snapshot.
    pub(super) index: Option<u32>,
    /// A bit for each tree whose cgroup the record shows.
    pub(super) trees: u8,
    /// Index of its layout class.
    pub(super) layout: Option<usize>,
    /// Layout class and digest of its limits; none if the snapshot lacks some of its cgroups.
    pub(crate) digest: Option<(usize, u64)>,
}

impl ContainerRecord {
    /// Returns the record in the last snapshot; none if it does not show the container's cgroup in this tree.
    pub(super) fn get<'a>(&self, reader: &'a IterReader, tree: usize) -> Option<Record<'a>> {
        reader.record(self.index.filter(|_| self.trees & (1 << tree) != 0)?)
    }

    /// Forgets the record, because the last snapshot does not have it.
    pub(super) fn forget(&mut self) {
        *self = Self { cgroups: std::mem::take(&mut self.cgroups), ..Self::default() };
    }

    /// Returns a bit for each tree whose cgroup a record shows, and whether the record shows all cgroups of the container.
    pub(super) fn trees_in(&self, record: &Record<'_>) -> (u8, bool) {
        let own = self.cgroups.iter().enumerate().filter(|(_, id)| **id != 0);
        own.fold(
            (0, true),
            |(trees, is_whole), (tree, id)| {
                if record.cgroup(tree) == *id { (trees | 1 << tree, is_whole) } else { (trees, false) }
            },
        )
    }
}

/// Derives values from a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// The counters of the keys of `memory.stat`.
    pub(super) stats: &'a [StatIndex],
    /// Size of a page in bytes.
    pub(super) page: u64,
}

impl Values<'_> {
    /// Returns a value as its file would show it; none if the record lacks it.
    pub(super) fn value(self, derivation: Derivation, record: &Record<'_>) -> Option<u64> {
        Some(match derivation {
            Derivation::Count(number) => record.number(number)?,
            Derivation::Pages(number) => record.number(number)?.saturating_mul(self.page),
            Derivation::Microseconds(number) => record.number(number)? / 1_000,
            Derivation::AllCpus => record.cpu_time()?,
            Derivation::ScaledCpuTime(mode) => last_shown(record.number(Number::Runtime)?, record, mode)? / 1_000,
            Derivation::CpuTicks(mode) => last_shown(record.cpu_time()?, record, mode)? / NANOSECONDS_PER_TICK,
            Derivation::Stat(index) => self.stats.get(index)?.value(record.stat())?,
            Derivation::Device(_) | Derivation::NoDevice | Derivation::Unused => return None,
        })
    }

    /// Fills those keys into a sample that the file has. Returns false if the record lacks one of them.
    pub(super) fn fill(
        self,
        record: &Record<'_>,
        keys: &[(u16, Derivation)],
        present_keys: u64,
        sample: &mut Sample,
    ) -> bool {
        keys.iter().enumerate().all(|(bit, (target, derivation))| {
            if present_keys & (1 << bit) == 0 || *derivation == Derivation::Unused {
                return true;
            }
            let value = self.value(*derivation, record);
            value.inspect(|value| sample.set(*target, *value)).is_some()
        })
    }
}

/// Maximum lag of user and system time behind the CPU time, from which on their file is read. The kernel samples once a tick, and
/// the file of v1 shows whole ticks.
const MAX_LAG: u64 = NANOSECONDS_PER_TICK;

/// Returns user or system time as the file last showed it, in nanoseconds; none if it lags too far behind.
///
/// When the file is read, the kernel splits the CPU time by samples and stores the result (`cputime_adjust`). The file shows that
/// until the cgroup has run again. From then on the file must be read, because a split by the exporter could exceed what the file
/// shows later.
fn last_shown(runtime: u64, record: &Record<'_>, mode: CpuMode) -> Option<u64> {
    let (user, system) = (record.number(Number::ShownUser)?, record.number(Number::ShownSystem)?);
    is_current(runtime, user.saturating_add(system)).then_some(if mode == CpuMode::User { user } else { system })
}

/// Returns whether the last value of the file is close enough to the CPU time. A shown value of 0 means that the file was never read.
fn is_current(runtime: u64, shown: u64) -> bool {
    let lag = runtime.saturating_sub(shown);
    lag == 0 || (shown > 0 && lag < MAX_LAG)
}

/// Fills the devices of a record into a sample, those that their file lists. Returns false if the record lacks some.
pub(super) fn fill_devices(
    record: &Record<'_>,
    keys: &[(u16, Derivation)],
    sample: &mut Sample,
    labels: &mut Labels,
    devices: &mut Devices,
) -> bool {
    if keys.iter().any(|(_, derivation)| *derivation == Derivation::NoDevice) {
        return record.number(Number::FirstDevice) == Some(0);
    }
    let Some(uses) = record.devices() else { return false };
    for one in uses.filter(is_listed) {
        let device = Device { major: one.major, minor: one.minor };
        let label = devices.label(device, labels.of_mut(Dimension::Device));
        for (column, derivation) in keys {
            let Derivation::Device(counter) = derivation else { continue };
            let value = match counter {
                Column::Bytes(operation) => one.bytes.get(*operation),
                Column::Operations(operation) => one.operations.get(*operation),
            };
            if let Some(value) = value {
                sample.table_mut(Dimension::Device).set(label, *column, *value);
            }
        }
    }
    true
}

/// Returns whether the file lists a device, which it does once something was read or written.
fn is_listed(one: &DeviceUse) -> bool {
    let any = |counts: &[u64; 3]| counts.iter().take(2).any(|count| *count > 0);
    one.major != 0 && (any(&one.bytes) || any(&one.operations))
}

#[cfg(test)]
mod tests {
    use super::{MAX_LAG, is_current};

    #[test]
    fn user_and_system_time_are_read_once_they_are_a_tick_behind() {
        assert!([(7, 7), (7, 8), (7 + MAX_LAG - 1, 7), (0, 0)].into_iter().all(|(ran, shown)| is_current(ran, shown)));
        assert!(!is_current(7 + MAX_LAG, 7));
        assert!(!is_current(1, 0));
    }
}
