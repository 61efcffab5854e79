//! A container in a copy: the index of its record, and its values as the kernel would write them into files.

use super::derivations::{Column, CpuMode, Derivation};
use super::stat_index::StatIndex;
use crate::ebpf::{DeviceUse, IterReader, Number, Record};
use crate::metrics::Dimension;
use crate::read::diskstats::Devices;
use crate::read::files::format::Device;
use crate::read::sample::{Labels, Sample};

/// `USER_HZ` is 100 on every machine that we run on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// State of a container between two copies.
#[derive(Debug, Default)]
pub(crate) struct ContainerRecord {
    /// Its cgroup id in each tree, 0 for none.
    pub(super) cgroups: Vec<u64>,
    /// Index of its record in the last copy.
    pub(super) index: Option<u32>,
    /// A bit for each tree whose cgroup that record shows.
    pub(super) trees: u8,
    /// Its layout class.
    pub(super) layout: Option<usize>,
    /// A digest of its layout class and its limits; none if the copy lacks some of its cgroups.
    pub(crate) digest: Option<(usize, u64)>,
}

impl ContainerRecord {
    /// Returns its record in the last copy; none if the copy lacks its cgroup in this tree.
    pub(super) fn get<'a>(&self, reader: &'a IterReader, tree: usize) -> Option<Record<'a>> {
        reader.record(self.index.filter(|_| self.trees & (1 << tree) != 0)?)
    }

    /// Forgets its record: the last copy does not have it.
    pub(super) fn forget(&mut self) {
        *self = Self { cgroups: std::mem::take(&mut self.cgroups), ..Self::default() };
    }

    /// Returns a bit for each tree whose cgroup a record shows, and whether these are all that there are.
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

/// Data to derive values from a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// The keys of `memory.stat`.
    pub(super) stats: &'a [StatIndex],
    /// Bytes of a page.
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

    /// Fills the keys that a file has into a sample. Returns false if the record lacks one of them.
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

/// Maximum lag of user and system time behind the CPU time before their file is read: the kernel samples once a tick,
/// and the file of v1 shows whole ticks.
const MAX_LAG: u64 = NANOSECONDS_PER_TICK;

/// Returns user or system time as the file last showed it, in nanoseconds; none if it lags too far behind.
///
/// The kernel splits the CPU time by samples when the file is read, and stores the result (`cputime_adjust`): the file
/// shows it until the cgroup has run again. After that only the file is right: a split of our own could exceed what the
/// file shows later.
fn last_shown(runtime: u64, record: &Record<'_>, mode: CpuMode) -> Option<u64> {
    let (user, system) = (record.number(Number::ShownUser)?, record.number(Number::ShownSystem)?);
    is_current(runtime, user.saturating_add(system)).then_some(if mode == CpuMode::User { user } else { system })
}

/// Returns whether the last value of the file does not lag too far behind the CPU time. A value that was never read is
/// not 0.
fn is_current(runtime: u64, shown: u64) -> bool {
    let lag = runtime.saturating_sub(shown);
    lag == 0 || (shown > 0 && lag < MAX_LAG)
}

/// Fills devices with any I/O into a sample, as their file lists them. Returns false if the record lacks some.
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

/// Returns whether the file lists the device: it does once something was read or written.
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
