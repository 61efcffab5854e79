//! One cgroup in a copy, by the names of its numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use exporter_ebpf::snapshot::{DEVICES, HAS, HAS_CPUS, HAS_DEVICES, HAS_STATS, ID, LIMITS, OTHER_IDS};

use super::numbers::Number;
use super::plan::Plan;

/// One cgroup in a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(super) plan: &'a Plan,
    pub(super) words: &'a [AtomicU64],
    pub(super) stats: &'a [AtomicU64],
    pub(super) devices: &'a [AtomicU64],
}

/// Words of a device: its number, three of bytes and three of operations.
const DEVICE: usize = 7;

impl Record<'_> {
    /// Returns the cgroup of a tree; 0 where the cgroup that was visited has no processes by which it could be found.
    pub(crate) fn cgroup(&self, tree: usize) -> u64 {
        let word = self.plan.base(tree).checked_sub(1).map_or(ID, |other| OTHER_IDS + 2 * other);
        self.word(word).unwrap_or(0)
    }

    /// Returns a number; none where this cgroup does not have the controller, or has switched its pressure off.
    pub(crate) fn number(&self, number: Number) -> Option<u64> {
        let at = self.plan.location(number)?;
        let is_off = || number.is_pressure() && self.number(Number::PressureOn) == Some(0);
        let word = self.word(at.word.into()).filter(|_| self.has(1 << at.object) && !is_off())?;
        Some(word << (64 - at.shift - 8 * at.size) >> (64 - 8 * at.size))
    }

    /// Returns the time on CPUs in nanoseconds, added up over all CPUs (v1).
    pub(crate) fn cpu_time(&self) -> Option<u64> {
        self.word(usize::try_from(self.plan.kernel.cpus.to).ok().filter(|_| self.has(HAS_CPUS))?)
    }

    /// Returns a bit for each object that it has, in the lowest eight and the highest bits: enabled controllers and
    /// such.
    pub(crate) fn css_mask(&self) -> u64 {
        self.word(HAS).unwrap_or(0)
    }

    /// Returns a digest of its limits: another number than before tells that one of them changed.
    pub(crate) fn limits(&self) -> u64 {
        self.word(LIMITS).unwrap_or(0)
    }

    /// Returns the counters behind `memory.stat`, by index.
    pub(crate) fn stat(&self) -> impl Fn(usize) -> Option<u64> + '_ {
        let stats = if self.has(HAS_STATS) { self.stats } else { &[] };
        move |index| stats.get(index).map(|word| word.load(Ordering::Relaxed))
    }

    /// Returns the devices that it has used; none where there are more than a record takes.
    pub(crate) fn devices(&self) -> Option<impl Iterator<Item = DeviceUse> + '_> {
        let used = usize::try_from(self.devices.first().filter(|_| self.has(HAS_DEVICES))?.load(Ordering::Relaxed))
            .ok()
            .filter(|used| *used <= DEVICES)?;
        Some(self.devices.get(1..)?.chunks_exact(DEVICE).take(used).map(|words| {
            let word = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
            DeviceUse {
                major: u32::try_from(word(0) >> 32).unwrap_or(0),
                minor: u32::try_from(word(0) & u64::from(u32::MAX)).unwrap_or(0),
                bytes: [word(1), word(2), word(3)],
                operations: [word(4), word(5), word(6)],
            }
        }))
    }

    fn has(&self, bit: u64) -> bool {
        self.css_mask() & bit != 0
    }

    fn word(&self, index: usize) -> Option<u64> {
        self.words.get(index).map(|word| word.load(Ordering::Relaxed))
    }
}

/// Block I/O on one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceUse {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Read, written, discarded.
    pub(crate) bytes: [u64; 3],
    /// Reads, writes, discards.
    pub(crate) operations: [u64; 3],
}
