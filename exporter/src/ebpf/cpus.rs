//! CPUs as the kernel lists them in `/sys/devices/system/cpu`, and the shard of a table in which each counts.
//!
//! Tables have a shard for each CPU that is online when they are created, however many the firmware announces: virtual
//! machines announce hundreds that are never plugged in. [`Late`] says where a CPU counts that comes online later.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;

use exporter_ebpf::slots::{CPUS, CpuShards, ELSEWHERE};

use super::error::Unsupported;

const LISTS: &str = "/sys/devices/system/cpu";
const HINT: &str = "mount /sys as the engine does";

/// Where a CPU counts that was not online when the table was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// In the shard of another CPU: for tables to which several CPUs may write at once.
    Shares,
    /// In the table's overflow map, which all CPUs share.
    Overflows,
}

/// Returns the CPUs that are online.
///
/// # Errors
/// The kernel's list cannot be read.
pub(super) fn online() -> Result<Vec<u32>, Unsupported> {
    list("online")
}

/// The present CPUs, online or not, and the file that lists them.
#[derive(Debug)]
pub(super) struct Present {
    file: File,
    text: Vec<u8>,
    cpus: Vec<u32>,
}

impl Present {
    /// Reads the kernel's list.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read() -> Result<Self, Unsupported> {
        let cpus = list("present")?;
        let path = format!("{LISTS}/present");
        let file = File::open(&path).map_err(|error| Unsupported::new(format!("{path}: {error}"), HINT))?;
        let mut present = Self { file, text: Vec::new(), cpus };
        present.has_changed();
        Ok(present)
    }

    /// Returns the CPUs, as of the last reading.
    pub(super) fn cpus(&self) -> &[u32] {
        &self.cpus
    }

    /// Reads the list again. Returns whether it has changed.
    pub(super) fn has_changed(&mut self) -> bool {
        let mut buffer = [0; 256];
        let Ok(length) = self.file.read_at(&mut buffer, 0) else { return false };
        let text = buffer.get(..length).unwrap_or_default();
        if text == self.text {
            return false;
        }
        self.text = text.to_owned();
        // A list that exceeds the buffer has hundreds of gaps.
        let cpus = std::str::from_utf8(text).ok().filter(|_| length < buffer.len()).and_then(parse);
        cpus.is_some_and(|cpus| std::mem::replace(&mut self.cpus, cpus) != self.cpus)
    }
}

fn list(name: &str) -> Result<Vec<u32>, Unsupported> {
    let path = format!("{LISTS}/{name}");
    let text = fs::read_to_string(&path).map_err(|error| Unsupported::new(format!("{path}: {error}"), HINT))?;
    let cpus = parse(&text).filter(|cpus| !cpus.is_empty());
    cpus.ok_or_else(|| Unsupported::new(format!("{path} is no list of CPUs: {:?}", text.trim()), HINT))
}

/// Returns the numbers of a list such as `0-3,8,10-11`.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    let ranges: Option<Vec<RangeInclusive<u32>>> = text.trim().split(',').map(range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

/// Maximum number of CPUs, above that of any kernel (`NR_CPUS`), so that a forged list costs no memory.
const MAX_CPUS: u32 = 1 << 16;

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (*range.end() < MAX_CPUS).then_some(range)
}

/// Returns the number of shards of a table with one for each of these CPUs.
pub(super) fn count(online: &[u32]) -> u32 {
    u32::try_from(online.len().min(CPUS)).unwrap_or(1)
}

/// Returns the shard of each CPU.
pub(super) fn shards(online: &[u32], late: Late) -> CpuShards {
    let count = online.len().clamp(1, CPUS);
    std::array::from_fn(|cpu| {
        let shard = online.iter().take(CPUS).position(|one| usize::try_from(*one) == Ok(cpu));
        let shard = shard.or((late == Late::Shares).then_some(cpu % count));
        shard.and_then(|shard| u16::try_from(shard).ok()).unwrap_or(ELSEWHERE)
    })
}

#[cfg(test)]
mod tests {
    use exporter_ebpf::slots::ELSEWHERE;

    use super::{Late, Present, count, online, parse, shards};

    #[test]
    fn lists_of_the_kernel_are_parsed() {
        assert_eq!(parse("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse("0,64\n"), Some(vec![0, 64]));
        assert_eq!(parse("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        for odd in ["", "\n", "0-", "a", "0-4294967295", "1-x"] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn this_machine_s_cpus_are_listed() {
        let mut present = Present::read().unwrap();
        assert!(online().unwrap().iter().all(|cpu| present.cpus().contains(cpu)));
        assert!(!present.has_changed());
    }

    #[test]
    fn every_online_cpu_has_a_part_of_its_own_and_a_late_one_is_not_lost() {
        for online in [vec![0, 1], vec![0, 64], vec![3], (0..300).collect()] {
            let shared = shards(&online, Late::Shares);
            let mut own: Vec<u16> = online.iter().map(|cpu| shared[*cpu as usize]).collect();
            own.sort_unstable();
            assert!(own.iter().map(|shard| u32::from(*shard)).eq(0..count(&online)), "{online:?}");
            assert!(shared.iter().all(|shard| u32::from(*shard) < count(&online)));
            let alone = shards(&online, Late::Overflows);
            let elsewhere = alone.iter().filter(|shard| **shard == ELSEWHERE).count();
            assert_eq!(elsewhere, alone.len() - online.len());
        }
    }
}
