//! The program that counts completed requests of block devices by cgroup, device and operation.
//!
//! Memory: the table of slots takes 1 MiB for each of at most four shards (one per eight CPUs), and holds 4,096 entries
//! (cgroup, disk, operation) per shard. The overflow map takes entries without a slot: 1 MiB for its index and about
//! 280 bytes per entry, 18 MiB when full. With one disk, read and written: 1,000 cgroups have 2,000 entries, 2.1 MiB in
//! all; 10,000 have 20,000, 6.4 MiB.

use std::collections::{HashMap, HashSet};
use std::mem::offset_of;

use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::block::{Counters, DeviceOp, Key, Offsets, Operation, Slot};
use exporter_ebpf::slots::Layout;

use super::Program;
use super::btf::Types;
use super::cpus;
use super::loader::Loader;
use super::owners::CgroupOwners;
use super::tables::{Table, TableSpec, ancestors, histogram, table_names, word};
use super::unsupported::Unsupported;
use crate::metrics::BlockOperation;

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/block.o"));

/// 2,048 sets of two slots per shard. Of a thousand entries, thirty go to the overflow map.
const SET_BITS: u32 = 11;
/// CPUs that share a shard.
const CPUS_PER_SHARD: usize = 8;
const MAX_SHARDS: u32 = 4;
/// Index of the word of a slot that counts requests without a latency.
const UNTIMED: usize = (offset_of!(Slot, counters) + offset_of!(Counters, untimed)) / size_of::<u64>();
/// Capacity of the overflow map. It takes memory only for entries in use.
const OVERFLOW: u32 = 65_536;

/// The attached program and its table.
pub(super) struct Block {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    table: Table<Key, Counters>,
    /// Counts as of the last [`Block::read`], in the order of the keys.
    totals: Vec<(Key, Counters)>,
    /// Counts to subtract, because they belong to disks that had a number before.
    bases: Bases,
}

/// Counts under the number of a device at the time when another disk got that number.
type Bases = HashMap<Key, Counts>;

/// Counts of one entry: bytes, operations, total time in nanoseconds, and operations with a known time.
type Counts = [u64; 4];

/// `RQF_IO_STAT` before it was an enumerator (Linux 6.10 and older).
const RQF_IO_STAT: i64 = 13;

/// Returns the bit of `request.rq_flags` that marks requests with times. Its enumeration has no name in Linux 6.12.
fn timed_bit(types: &Types) -> i64 {
    let named = types.enumerator("rqf_flags", "__RQF_IO_STAT");
    named.or_else(|| types.unnamed_enumerator("__RQF_STARTED", "__RQF_IO_STAT")).unwrap_or(RQF_IO_STAT)
}

/// Returns the counts of an entry.
fn counts(counters: &Counters) -> Counts {
    [counters.bytes, counters.operations(), counters.latency.sum_ns, counters.latency.count()]
}

impl Block {
    /// Loads and attaches the program.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Unsupported> {
        let spec = TableSpec {
            names: table_names!("BLOCK"),
            layout: Layout { shards: shards(cpus::online()?.len()), set_bits: SET_BITS },
            slot_words: size_of::<Slot>() / size_of::<u64>(),
            cgroup_word: offset_of!(Slot, cgroup) / size_of::<u64>(),
            overflow_entries: OVERFLOW,
        };
        loader.set_constant("BLOCK_OFFSETS", offsets(loader)?);
        loader.set_constant("BLOCK_ANCESTORS", ancestors(loader)?);
        spec.prepare(loader);
        let mut object = loader.load(OBJECT)?;
        loader.attach_tracepoint(&mut object, Program::BlockComplete, "block_rq_complete")?;
        let table = Table::take(&mut object, &spec)?;
        Ok(Self { object, table, totals: Vec::new(), bases: Bases::new() })
    }

    /// Reads the counts of every cgroup: each slot once, and the overflow map.
    pub(super) fn read(&mut self) {
        self.table.free_retired();
        self.totals.clear();
        let held = self.table.held().map(|(_, cgroup, slot)| {
            let counters = Counters { bytes: word(slot, 2), latency: histogram(slot, 3), untimed: word(slot, UNTIMED) };
            (Key { cgroup, device_op: DeviceOp(word(slot, 1)) }, counters)
        });
        self.totals.extend(held.chain(self.table.overflowed()));
        merge(&mut self.totals);
    }

    /// Returns the counts of a cgroup by device and operation, as of the last [`Block::read`].
    pub(super) fn counted(&self, cgroup: u64) -> &[(Key, Counters)] {
        let from = self.totals.partition_point(|(key, _)| key.cgroup < cgroup);
        let to = self.totals.partition_point(|(key, _)| key.cgroup <= cgroup);
        self.totals.get(from..to).unwrap_or_default()
    }

    /// Returns the cgroups with counts, as of the last [`Block::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.iter().map(|(key, _)| key.cgroup)
    }

    /// Returns the number of entries in use: cgroups times devices times operations.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Returns the number of completions that were not counted for lack of an entry.
    pub(super) fn refused(&self) -> u64 {
        self.table.refused()
    }

    /// Frees the entries of ended cgroups.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners) {
        self.table.retire(ended, owners, |key| key.cgroup);
        self.bases.retain(|key, _| !ended.contains(&key.cgroup));
    }

    /// Restarts the counts of a device from 0. Histograms, which are not by device, continue.
    pub(super) fn restart_device(&mut self, major: u32, minor: u32) {
        restart_device(&self.totals, major, minor, &mut self.bases);
    }

    /// Adds the counts of a cgroup to those of its container.
    pub(super) fn add_uses(&self, cgroup: u64, uses: &mut Vec<BlockUse>) {
        add_uses(self.counted(cgroup), &self.bases, uses);
    }

    /// Publishes the containers to the program.
    pub(super) fn publish(&mut self, owners: &CgroupOwners) {
        self.table.quotas().publish(owners.published());
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.table.owner(cgroup)
    }
}

/// Returns the offsets that the program needs.
fn offsets(loader: &Loader) -> Result<Offsets, Unsupported> {
    Ok(Offsets {
        request_queue: loader.offset("request", "q")?,
        request_flags: loader.offset("request", "cmd_flags")?,
        request_state: loader.offset("request", "rq_flags")?,
        request_timed: 1 << timed_bit(loader.types()?),
        request_length: loader.offset("request", "__data_len")?,
        request_bio: loader.offset("request", "bio")?,
        request_made: loader.offset("request", "start_time_ns")?,
        request_started: loader.offset("request", "io_start_time_ns")?,
        queue_disk: loader.offset("request_queue", "disk")?,
        disk_major: loader.offset("gendisk", "major")?,
        disk_minor: loader.offset("gendisk", "first_minor")?,
        bio_group: loader.offset("bio", "bi_blkg")?,
        group_blkcg: loader.offset("blkcg_gq", "blkcg")?,
        blkcg_serial: loader.offset("blkcg", "css.serial_nr")?,
        blkcg_cgroup: loader.offset("blkcg", "css.cgroup")?,
        id_offsets: loader.cgroup_id_offsets()?,
    })
}

/// Returns the number of shards for this number of CPUs: a power of two, large enough that CPUs rarely contend for
/// cache lines.
fn shards(cpus: usize) -> u32 {
    let wanted = cpus.div_ceil(CPUS_PER_SHARD).next_power_of_two();
    u32::try_from(wanted).unwrap_or(MAX_SHARDS).min(MAX_SHARDS)
}

/// Sorts the entries by key, and adds up those of one key, of which each shard and the overflow map may have one.
fn merge(entries: &mut Vec<(Key, Counters)>) {
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.dedup_by(|(key, counters), (kept, total)| {
        let same = key == kept;
        if same {
            total.add(counters);
        }
        same
    });
}

/// Counts of a container on one device by one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockUse {
    /// Major number of the disk.
    pub major: u32,
    /// Minor number of the disk.
    pub minor: u32,
    /// The operation.
    pub operation: BlockOperation,
    /// Bytes completed.
    pub bytes: u64,
    /// Requests completed.
    pub operations: u64,
    /// Total time in nanoseconds; none if the kernel keeps no statistics of the disk (see `queue/iostats` in sysfs).
    pub time_ns: Option<u64>,
}

/// Records the counts of a device as those to subtract.
fn restart_device(totals: &[(Key, Counters)], major: u32, minor: u32, bases: &mut Bases) {
    let is_of_device = |key: &Key| (key.device_op.major(), key.device_op.minor()) == (major, minor);
    let counted = totals.iter().filter(|(key, _)| is_of_device(key));
    bases.extend(counted.map(|(key, counters)| (*key, counts(counters))));
}

/// Adds the counts of a cgroup, less those to subtract, to the uses of its container.
fn add_uses(entries: &[(Key, Counters)], bases: &Bases, uses: &mut Vec<BlockUse>) {
    for (key, counters) in entries {
        let (major, minor, operation) =
            (key.device_op.major(), key.device_op.minor(), operation_of(key.device_op.operation()));
        let same = |known: &&mut BlockUse| (known.major, known.minor, known.operation) == (major, minor, operation);
        let mut counted = counts(counters);
        if let Some(base) = bases.get(key) {
            counted.iter_mut().zip(base).for_each(|(count, base)| *count = count.saturating_sub(*base));
        }
        let [bytes, operations, time_ns, timed] = counted;
        let time_ns = (timed > 0).then_some(time_ns);
        if operations == 0 && bases.contains_key(key) {
            continue;
        }
        match uses.iter_mut().find(same) {
            Some(known) => {
                known.bytes += bytes;
                known.operations += operations;
                known.time_ns = known.time_ns.into_iter().chain(time_ns).reduce(|one, other| one + other);
            }
            None => uses.push(BlockUse { major, minor, operation, bytes, operations, time_ns }),
        }
    }
}

/// Returns the metric table's name of an operation.
pub(super) const fn operation_of(operation: Operation) -> BlockOperation {
    match operation {
        Operation::Read => BlockOperation::Read,
        Operation::Write => BlockOperation::Write,
        Operation::Flush => BlockOperation::Flush,
        Operation::Discard => BlockOperation::Discard,
    }
}

#[cfg(test)]
mod tests {
    use exporter_ebpf::block::{Counters, DeviceOp, Key, Operation};
    use exporter_ebpf::latency::Histogram;

    use super::{Bases, add_uses, merge, restart_device, shards};
    use crate::metrics::BlockOperation;

    fn entry(cgroup: u64, operation: Operation, bytes: u64) -> (Key, Counters) {
        let mut latency = Histogram { sum_ns: 1000, ..Histogram::default() };
        latency.buckets[3] = 2;
        (Key { cgroup, device_op: DeviceOp::new(254, 1, operation) }, Counters { bytes, latency, untimed: 1 })
    }

    #[test]
    fn parts_of_an_entry_are_added_up_and_others_left_alone() {
        let mut entries = vec![
            entry(2, Operation::Read, 10),
            entry(1, Operation::Write, 20),
            entry(2, Operation::Read, 30),
            entry(2, Operation::Write, 40),
        ];
        merge(&mut entries);
        let bytes: Vec<(u64, u64)> = entries.iter().map(|(key, counters)| (key.cgroup, counters.bytes)).collect();
        assert_eq!(bytes, [(1, 20), (2, 40), (2, 40)]);
        assert_eq!(
            (entries[1].1.latency.count(), entries[1].1.latency.sum_ns, entries[1].1.operations()),
            (4, 2000, 6)
        );

        // A container may have several cgroups.
        let mut uses = Vec::new();
        add_uses(&entries[..1], &Bases::new(), &mut uses);
        add_uses(&entries[1..], &Bases::new(), &mut uses);
        let seen: Vec<_> = uses.iter().map(|one| (one.operation, one.bytes, one.operations, one.time_ns)).collect();
        assert_eq!(seen, [(BlockOperation::Write, 60, 6, Some(2000)), (BlockOperation::Read, 40, 6, Some(2000))]);
        assert_eq!((uses[0].major, uses[0].minor), (254, 1));
    }

    #[test]
    fn a_disk_does_not_inherit_what_was_counted_under_its_number() {
        let mut entries = vec![entry(1, Operation::Read, 10), entry(1, Operation::Write, 20)];
        let (mut bases, mut uses) = (Bases::new(), Vec::new());
        restart_device(&entries, 254, 2, &mut bases);
        add_uses(&entries, &bases, &mut uses);
        assert_eq!(uses.iter().map(|one| one.bytes).collect::<Vec<_>>(), [10, 20]);

        restart_device(&entries, 254, 1, &mut bases);
        entries[1].1.bytes += 5;
        entries[1].1.latency.buckets[3] += 1;
        uses.clear();
        add_uses(&entries, &bases, &mut uses);
        let seen: Vec<_> = uses.iter().map(|one| (one.operation, one.bytes, one.operations)).collect();
        assert_eq!(seen, [(BlockOperation::Write, 5, 1)]);
    }

    #[test]
    fn shards_are_few_and_a_power_of_two() {
        assert_eq!([1, 2, 8, 9, 24, 64, 512].map(shards), [1, 1, 1, 2, 4, 4, 4]);
    }
}
