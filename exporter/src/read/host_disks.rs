//! The host's disks, from `/proc/diskstats`: whole disks that were used, not their partitions, and not what lies on other files or in
//! memory (`loop`, `ram`, `zram`), whose operations are counted with the disk below, or are none.

use crate::metrics::{DiskField, SelfMetrics};
use crate::read::files::format::{lines, number, words};

/// Counters that a line has behind its name since Linux 2.6; discards since 4.18.
const FIELDS: usize = 15;
/// More disks than a host has; each is a series in every family.
const MAX_DISKS: usize = 256;

/// The disks as of the last reading.
#[derive(Debug, Default)]
pub(super) struct HostDisks {
    disks: Vec<HostDisk>,
    /// Whether it has been counted that there are too many.
    is_cut: bool,
}

#[derive(Debug)]
struct HostDisk {
    /// `device="/dev/NAME"`.
    label: String,
    counts: [Option<u64>; FIELDS],
    is_there: bool,
}

impl HostDisks {
    /// Takes the text of a reading in. Returns the number of malformed lines.
    pub(super) fn update(&mut self, text: &[u8], self_metrics: &SelfMetrics) -> u64 {
        let mut malformed = 0;
        self.disks.iter_mut().for_each(|disk| disk.is_there = false);
        let (mut disk, mut found): (&[u8], usize) = (b"", 0);
        for line in lines(text) {
            let mut words = words(line).skip(2);
            let Some(name) = words.next() else {
                malformed += 1;
                continue;
            };
            // The kernel lists the partitions of a disk behind it.
            if is_partition(name, disk) {
                continue;
            }
            disk = name;
            let mut counts = [None; FIELDS];
            counts.iter_mut().zip(words).for_each(|(count, word)| *count = number(word));
            let is_used = counts.iter().any(|count| count.is_some_and(|count| count > 0));
            let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_used && !is_of_others(name)) else {
                continue;
            };
            found += usize::from(self.store(name, counts, found, self_metrics));
        }
        self.disks.retain(|disk| disk.is_there);
        malformed
    }

    /// Returns whether there was room. `found` of the known disks were in the text before: it most often has them in the same order.
    fn store(&mut self, name: &str, counts: [Option<u64>; FIELDS], found: usize, self_metrics: &SelfMetrics) -> bool {
        let is_it = |disk: &HostDisk| {
            let named = disk.label.strip_prefix("device=\"/dev/").and_then(|rest| rest.strip_suffix('"'));
            named == Some(name)
        };
        let known = match self.disks.get(found) {
            Some(next) if is_it(next) => Some(found),
            _ if found < MAX_DISKS => self.disks.iter().position(is_it),
            _ => None,
        };
        if let Some(known) = known.and_then(|known| self.disks.get_mut(known)) {
            (known.counts, known.is_there) = (counts, true);
            return true;
        }
        if self.disks.len() < MAX_DISKS {
            // The kernel writes `!` for the slash in a name such as cciss/c0d0.
            let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
            let label = format!("device=\"/dev/{name}\"");
            self.disks.extend(is_plain.then_some(HostDisk { label, counts, is_there: true }));
            return is_plain;
        }
        if !std::mem::replace(&mut self.is_cut, true) {
            self_metrics.series_dropped.with_label_values(&["disk_limit"]).inc();
        }
        false
    }

    /// Returns a counter of each disk that has it, with the label of the disk and its decimal exponent.
    pub(super) fn values(&self, field: DiskField) -> impl Iterator<Item = (&str, u64, u8)> {
        let (index, factor, exponent) = match field {
            DiskField::Reads => (0, 1, 0),
            DiskField::ReadsMerged => (1, 1, 0),
            DiskField::SectorsRead => (2, 1, 0),
            DiskField::BytesRead => (2, 512, 0),
            DiskField::ReadTime => (3, 1, 3),
            DiskField::Writes => (4, 1, 0),
            DiskField::WritesMerged => (5, 1, 0),
            DiskField::SectorsWritten => (6, 1, 0),
            DiskField::BytesWritten => (6, 512, 0),
            DiskField::WriteTime => (7, 1, 3),
            DiskField::InFlight => (8, 1, 0),
            DiskField::BusyTime => (9, 1, 3),
            DiskField::WeightedTime => (10, 1, 3),
            DiskField::Discards => (11, 1, 0),
            DiskField::BytesDiscarded => (13, 512, 0),
        };
        let value = move |disk: &HostDisk| disk.counts.get(index).copied().flatten()?.checked_mul(factor);
        self.disks.iter().filter_map(move |disk| Some((disk.label.as_str(), value(disk)?, exponent)))
    }
}

/// Returns whether a name is that of a partition of this disk: the disk's and a number, with a `p` between them where
/// the disk's name ends in a digit.
fn is_partition(name: &[u8], disk: &[u8]) -> bool {
    let number = name.strip_prefix(disk).filter(|_| !disk.is_empty());
    let number = if disk.last().is_some_and(u8::is_ascii_digit) {
        number.and_then(|rest| rest.strip_prefix(b"p"))
    } else {
        number
    };
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Returns whether a disk lies on other files or in memory, or is a floppy disk.
fn is_of_others(name: &str) -> bool {
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    stem.len() < name.len() && ["loop", "ram", "zram", "fd"].contains(&stem)
}

#[cfg(test)]
mod tests {
    use super::{DiskField, HostDisks, SelfMetrics};

    const TEXT: &[u8] = b"\
   7       0 loop0 11 0 28 0 0 0 0 0 0 4 0
 252       0 vda 558566 50092 29951978 796514 416064 452869 64476648 415777 2 118108 1252863 3 0 16 9 0 0
 252       1 vda1 558000 50000 29950000 796000 416000 452000 64470000 415000 0 118000 1250000
 259       0 nvme0n1 10 1 80 5 20 2 160 7 0 9 12
 259       1 nvme0n1p1 10 1 80 5 20 2 160 7 0 9 12
 253       0 dm-0 1 0 8 1 0 0 0 0 0 1 1
 254       0 zram0 5 0 40 0 0 0 0 0 0 0 0
   8       0 sda 0 0 0 0 0 0 0 0 0 0 0
   8      16
";

    #[test]
    fn used_disks_are_read_without_their_partitions() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        assert_eq!(disks.update(TEXT, &self_metrics), 1);
        let values = |disks: &HostDisks, field| {
            let values = disks.values(field).map(|(label, value, exponent)| (label.to_owned(), value, exponent));
            values.collect::<Vec<_>>()
        };
        let [vda, nvme, dm] = ["vda", "nvme0n1", "dm-0"].map(|name| format!("device=\"/dev/{name}\""));
        assert_eq!(
            values(&disks, DiskField::BytesRead),
            [(vda.clone(), 29_951_978 * 512, 0), (nvme.clone(), 80 * 512, 0), (dm.clone(), 8 * 512, 0)]
        );
        assert_eq!(values(&disks, DiskField::ReadTime), [(vda.clone(), 796_514, 3), (nvme.clone(), 5, 3), (dm, 1, 3)]);
        assert_eq!(values(&disks, DiskField::BytesDiscarded), [(vda, 16 * 512, 0)], "absent where the kernel has none");
        disks.update(b" 259 0 nvme0n1 11 1 80 5 20 2 160 7 0 9 12\n", &self_metrics);
        assert_eq!(values(&disks, DiskField::Reads), [(nvme, 11, 0)], "a disk that is gone ends");
    }

    #[test]
    fn a_partition_is_told_by_the_disk_before_it() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        let names = [
            ("sda", "sda1", "sda15"),
            ("mmcblk0", "mmcblk0p1", "mmcblk0p2"),
            ("cciss!c0d0", "cciss!c0d0p1", "cciss!c0d0p2"),
            ("md127", "md127p1", "md127p2"),
        ];
        let whole = ["sdb", "mmcblk0boot0", "dm-1", "dm-10", "nvme0n1", "nvme0n10", "sdaa", "sda7x"];
        let listed = names.iter().flat_map(|(disk, first, second)| [disk, first, second]).chain(&whole);
        let lines: Vec<String> = listed.map(|name| format!("8 0 {name} 1 0 8 1\n")).collect();
        assert_eq!(disks.update(lines.concat().as_bytes(), &self_metrics), 0);
        let seen: Vec<_> = disks.values(DiskField::Reads).map(|(label, ..)| label.to_owned()).collect();
        let expected: Vec<_> = names.iter().map(|(disk, ..)| disk).chain(&whole).collect();
        assert_eq!(seen, expected.iter().map(|name| format!("device=\"/dev/{name}\"")).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_of_disks_is_bounded_and_what_is_left_out_is_counted_once() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        let lines: Vec<String> = (0..300).map(|number| format!("252 {number} dm-{number} 1 0 8 1\n")).collect();
        for _ in 0..2 {
            disks.update(lines.concat().as_bytes(), &self_metrics);
            assert_eq!(disks.values(DiskField::Reads).count(), super::MAX_DISKS);
        }
        assert_eq!(self_metrics.series_dropped.with_label_values(&["disk_limit"]).get(), 1);
    }
}
