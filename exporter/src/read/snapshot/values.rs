//! Values of a container, as the kernel would write them into its files.

use super::recipes::{Column, Part, Recipe};
use super::stats::Stat;
use crate::ebpf::{DeviceUse, Number, Record};
use crate::metrics::Dimension;
use crate::read::files::format::Device;
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};

/// What it takes to tell values of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// The keys of `memory.stat`.
    pub(super) stats: &'a [Stat],
    /// Bytes of a page.
    pub(super) page: u64,
}

impl Values<'_> {
    /// One value as its file would show it; none where it cannot be told.
    pub(super) fn value(self, recipe: Recipe, record: &Record<'_>) -> Option<u64> {
        Some(match recipe {
            Recipe::Count(number) => record.number(number)?,
            Recipe::Pages(number) => record.number(number)?.saturating_mul(self.page),
            Recipe::Microseconds(number) => record.number(number)? / 1_000,
            Recipe::AllCpus => record.cpu_time()?,
            Recipe::Share(part) => last_shown(record.number(Number::Runtime)?, record, part)? / 1_000,
            Recipe::Ticks(part) => last_shown(record.cpu_time()?, record, part)? / NANOSECONDS_PER_TICK,
            Recipe::Stat(place) => self.stats.get(place)?.value(record.stat())?,
            Recipe::Device(_) | Recipe::NoDevice | Recipe::Spare => return None,
        })
    }

    /// The keys that a file has; false where one of them cannot be told.
    pub(super) fn fill(self, record: &Record<'_>, keys: &[(u16, Recipe)], known: u64, sample: &mut Sample) -> bool {
        keys.iter().enumerate().all(|(bit, (target, recipe))| {
            if known & (1 << bit) == 0 || *recipe == Recipe::Spare {
                return true;
            }
            let value = self.value(*recipe, record);
            value.inspect(|value| sample.set(*target, *value)).is_some()
        })
    }
}

/// `USER_HZ` is 100 on every machine that we run on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// User or system time as the file would show it. The kernel shares time on CPUs out by samples when somebody reads the file,
/// and remembers the result (`cputime_adjust`): until the cgroup has run again that is what the file shows. After that nobody
/// but the file tells, as who computes it anew may come to less than was shown before.
fn last_shown(runtime: u64, record: &Record<'_>, part: Part) -> Option<u64> {
    let (user, system) = (record.number(Number::ShownUser)?, record.number(Number::ShownSystem)?);
    let is_current = user.saturating_add(system) >= runtime;
    is_current.then_some(if part == Part::User { user } else { system })
}

/// Devices with any I/O, as their file lists them; false where the snapshot does not tell them all.
pub(super) fn fill_devices(
    record: &Record<'_>,
    keys: &[(u16, Recipe)],
    sample: &mut Sample,
    labels: &mut Labels,
    devices: &mut Devices,
) -> bool {
    if keys.iter().any(|(_, recipe)| *recipe == Recipe::NoDevice) {
        return record.number(Number::FirstDevice) == Some(0);
    }
    let Some(uses) = record.devices() else { return false };
    for one in uses.filter(is_listed) {
        let device = Device { major: one.major, minor: one.minor };
        let key = devices.label(device, labels.of_mut(Dimension::Device));
        for (column, recipe) in keys {
            let Recipe::Device(which) = recipe else { continue };
            let value = match which {
                Column::Bytes(operation) => one.bytes.get(*operation),
                Column::Operations(operation) => one.operations.get(*operation),
            };
            if let Some(value) = value {
                sample.table_mut(Dimension::Device).set(key, *column, *value);
            }
        }
    }
    true
}

/// The kernel lists a device once something was read or written.
fn is_listed(one: &DeviceUse) -> bool {
    let any = |counts: &[u64; 3]| counts.iter().take(2).any(|count| *count > 0);
    one.major != 0 && (any(&one.bytes) || any(&one.operations))
}
