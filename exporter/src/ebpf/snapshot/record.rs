//! What a snapshot tells of one cgroup, by the names of its numbers.

use std::sync::atomic::Ordering;

use exporter_ebpf::snapshot::{DEVICES, FIRST_NUMBER, HAS, HAS_CPUS, HAS_DEVICES, HAS_STATS, LIMITS};

use super::numbers::Number;
use super::tree::Record;

/// Words of a device: its number, three of bytes and three of operations.
const DEVICE: usize = 7;

impl Record<'_> {
    /// A number; none where this cgroup does not have the controller, or has switched its pressure off.
    pub(crate) fn number(&self, number: Number) -> Option<u64> {
        let (object, place) = self.plan.place(number)?;
        let has_object = self.word(HAS)? & (1 << object) != 0;
        let is_off = || number.is_pressure() && self.number(Number::PressureOn) == Some(0);
        (has_object && !is_off()).then(|| self.word(FIRST_NUMBER + place)).flatten()
    }

    /// Time on CPUs, user and system time, in nanoseconds, added up over all CPUs (v1).
    pub(crate) fn cpus(&self) -> Option<[u64; 3]> {
        let first = FIRST_NUMBER + self.plan.cpus_place().filter(|_| self.has(HAS_CPUS))?;
        Some([self.word(first)?, self.word(first + 1)?, self.word(first + 2)?])
    }

    /// Which controllers it has, and a digest of its limits: another number than before tells that one of them changed.
    pub(crate) fn condition(&self) -> (u64, u64) {
        (self.word(HAS).unwrap_or(0), self.word(LIMITS).unwrap_or(0))
    }

    /// The counters behind `memory.stat`, each by its place.
    pub(crate) fn stat(&self) -> impl Fn(usize) -> Option<u64> + '_ {
        let stats = if self.has(HAS_STATS) { self.stats } else { &[] };
        move |place| stats.get(place).map(|word| word.load(Ordering::Relaxed))
    }

    /// How many of them there are.
    pub(crate) fn stats(&self) -> usize {
        self.plan.stats()
    }

    /// The devices that it has used; none where there are more than a snapshot takes.
    pub(crate) fn devices(&self) -> Option<impl Iterator<Item = DeviceUse> + '_> {
        let used = usize::try_from(self.devices.first().filter(|_| self.has(HAS_DEVICES))?.load(Ordering::Relaxed))
            .ok()
            .filter(|used| *used <= DEVICES)?;
        Some(self.devices.get(1..)?.chunks_exact(DEVICE).take(used).map(|words| {
            let word = |place: usize| words.get(place).map_or(0, |word| word.load(Ordering::Relaxed));
            DeviceUse {
                major: u32::try_from(word(0) >> 32).unwrap_or(0),
                minor: u32::try_from(word(0) & u64::from(u32::MAX)).unwrap_or(0),
                bytes: [word(1), word(2), word(3)],
                operations: [word(4), word(5), word(6)],
            }
        }))
    }

    fn has(&self, what: u64) -> bool {
        self.word(HAS).is_some_and(|objects| objects & what != 0)
    }

    fn word(&self, place: usize) -> Option<u64> {
        self.words.get(place).map(|word| word.load(Ordering::Relaxed))
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
