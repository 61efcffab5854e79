//! CPUs as the kernel lists them in `/sys/devices/system/cpu`; the shard of a table in which each counts, and where
//! each keeps its copies of per-CPU variables.
//!
//! Tables have a shard for each CPU that is online when they are created, and not for each CPU that the firmware
//! announces: virtual machines announce hundreds that are never plugged in. [`Late`] says where a CPU counts that comes
//! online later.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use exporter_ebpf::slots::{CPUS, CpuShards, ELSEWHERE};
use exporter_ebpf::snapshot::{CPUS as SNAPSHOT_CPUS, LAST_CPU, MAP_WORDS};

use super::loader::{Loader, map_array_until_dropped, refused};
use super::sys::{Link, Order};
use super::unsupported::Unsupported;

/// The program that reads the addresses of the copies of a per-CPU variable.
const CPUS_PROGRAM: &str = "snapshot_cpus";
const LISTS: &str = "/sys/devices/system/cpu";
const HINT: &str = "mount /sys as the engine does";

/// Where a CPU counts that comes online after the table was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// In the shard of another CPU, if several CPUs may write to a shard at once.
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

/// The present CPUs, online or not.
#[derive(Debug)]
struct Present {
    /// The kernel's list.
    file: File,
    /// The text of the list when it was last read.
    text: Vec<u8>,
    cpus: Vec<u32>,
}

impl Present {
    /// Reads the kernel's list.
    ///
    /// # Errors
    /// The list cannot be read.
    fn read() -> Result<Self, Unsupported> {
        let cpus = list("present")?;
        let path = format!("{LISTS}/present");
        let file = File::open(&path).map_err(|error| Unsupported::new(format!("{path}: {error}"), HINT))?;
        let mut present = Self { file, text: Vec::new(), cpus };
        present.refresh();
        Ok(present)
    }

    /// Returns the numbers of the CPUs, as of the last reading.
    fn cpus(&self) -> &[u32] {
        &self.cpus
    }

    /// Reads the list again. Returns whether it has changed.
    fn refresh(&mut self) -> bool {
        let mut buffer = [0; 256];
        let Ok(length) = self.file.read_at(&mut buffer, 0) else { return false };
        let text = buffer.get(..length).unwrap_or_default();
        if text == self.text {
            return false;
        }
        self.text = text.to_owned();
        // Only a list with hundreds of gaps exceeds the buffer. Such a list is ignored.
        let cpus = std::str::from_utf8(text).ok().filter(|_| length < buffer.len()).and_then(parse);
        cpus.is_some_and(|cpus| std::mem::replace(&mut self.cpus, cpus) != self.cpus)
    }
}

/// Reads one of the kernel's lists of CPUs.
fn list(name: &str) -> Result<Vec<u32>, Unsupported> {
    let path = format!("{LISTS}/{name}");
    let text = fs::read_to_string(&path).map_err(|error| Unsupported::new(format!("{path}: {error}"), HINT))?;
    let cpus = parse(&text).filter(|cpus| !cpus.is_empty());
    cpus.ok_or_else(|| Unsupported::new(format!("{path} is no list of CPUs: {:?}", text.trim()), HINT))
}

/// Returns the numbers in a list such as `0-3,8,10-11`; none if the list is invalid.
fn parse(text: &str) -> Option<Vec<u32>> {
    let ranges: Option<Vec<RangeInclusive<u32>>> = text.trim().split(',').map(range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

/// Maximum number of CPUs. It is above that of any kernel (`NR_CPUS`), and bounds the memory that a forged list takes.
const MAX_CPUS: u32 = 1 << 16;

/// Parses a number, or a range such as `0-3`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (*range.end() < MAX_CPUS).then_some(range)
}

/// Returns the number of shards of a table with one for each of these CPUs.
pub(super) fn count(online: &[u32]) -> u32 {
    u32::try_from(online.len().min(CPUS)).unwrap_or(1)
}

/// Returns the shard of each CPU of a table with one shard for each of these CPUs.
pub(super) fn shards(online: &[u32], late: Late) -> CpuShards {
    let count = online.len().clamp(1, CPUS);
    std::array::from_fn(|cpu| {
        let shard = online.iter().take(CPUS).position(|one| usize::try_from(*one) == Ok(cpu));
        let shard = shard.or((late == Late::Shares).then_some(cpu % count));
        shard.and_then(|shard| u16::try_from(shard).ok()).unwrap_or(ELSEWHERE)
    })
}

/// Offsets from the address of a per-CPU variable to the copy of each CPU.
///
/// Present CPUs that are offline still have what they have counted. CPUs that may yet be plugged in have counted
/// nothing.
#[derive(Debug)]
pub(super) struct CpuOffsets {
    /// Offset of each CPU, by its number.
    offsets: Vec<u64>,
    present: Present,
}

impl CpuOffsets {
    /// Finds the offsets by a per-CPU variable of our own, because no type of the kernel tells them. `object` has the
    /// program, and `tree` is the root of any cgroup tree, which the program needs to run.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn find(loader: &mut Loader, object: &[u8], tree: &Path) -> Result<Self, Unsupported> {
        let present = Present::read()?;
        let pointer = loader.offset("bpf_array", "pptrs")?;
        let mut object = loader.load(object)?;
        let program = loader.load_cgroup_iterator(&mut object, CPUS_PROGRAM)?;
        let addresses = map_array_until_dropped(&mut object, "SNAPSHOT_CPUS", SNAPSHOT_CPUS)?;
        let description = map_array_until_dropped(&mut object, "SNAPSHOT_PROBE_MAP", MAP_WORDS)?;
        let run = File::open(tree)
            .and_then(|cgroup| Link::over_cgroups(program.as_fd(), &cgroup, Order::SelfOnly))
            .and_then(|link| link.run());
        run.map_err(|error| refused(CPUS_PROGRAM, &error))?;
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let shared = usize::try_from(pointer / 8).ok().and_then(|index| description.words().get(index)).map_or(0, load);
        let addresses = addresses.words().iter().map(load).take_while(|address| *address != 0);
        let offsets: Vec<u64> = addresses.map(|address| address.wrapping_sub(shared)).collect();
        if shared == 0 || offsets.is_empty() {
            return Err(Unsupported::new(
                "the kernel does not tell where its CPUs keep variables",
                "please report it with its version",
            ));
        }
        Ok(Self { offsets, present })
    }

    /// Returns the number of CPUs that there can be; 0 if a present CPU has a number that the program does not reach.
    pub(super) fn len(&self) -> usize {
        let is_known = |cpu: &u32| usize::try_from(*cpu).is_ok_and(|cpu| cpu < self.offsets.len());
        if self.present.cpus().iter().all(is_known) { self.offsets.len() } else { 0 }
    }

    /// Writes the offsets into a table of the program, if the present CPUs have changed since the last call.
    pub(super) fn refresh(&mut self, table: &[AtomicU64]) {
        if self.present.refresh() {
            self.write(table);
        }
    }

    /// Writes the offsets of the present CPUs into a table of the program.
    pub(super) fn write(&self, table: &[AtomicU64]) {
        let present = self.present.cpus().iter().filter_map(|cpu| self.offsets.get(usize::try_from(*cpu).ok()?));
        let ended = present.copied().chain(std::iter::repeat(LAST_CPU));
        table.iter().zip(ended).for_each(|(entry, offset)| entry.store(offset, Ordering::Relaxed));
    }
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
        assert!(!present.refresh());
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
